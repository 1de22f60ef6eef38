//===- KernelEmitter.cpp - a kernel's model as a __global__ function ------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// One variable per value of the kernel, named after its op. What is the same
// for a whole row stands in front of the column loop that first needs it. The
// lanes of a row reduction are the lanes of a warp, so the partial sums are
// those of the definition (mpt/Numerics/Reduce.h).
//
//===----------------------------------------------------------------------===//

#include "KernelEmitter.h"
#include "KernelWriter.h"
#include "mpt/Dialect/MPT/Analysis/StepPlan.h"
#include "llvm/ADT/StringExtras.h"

using namespace mlir;
using namespace mpt;
using namespace mpt::cuda;

//===----------------------------------------------------------------------===//
// What is needed where
//===----------------------------------------------------------------------===//

void KernelWriter::visitRow(NodeUse use) {
  if (!rowDemand[use.node].insert(use.result).second)
    return;
  const KernelNode &node = model.nodes[use.node];
  if (node.kind != NodeKind::RowReduce)
    for (NodeUse operand : node.operands)
      visitRow(operand);
}

/// What a column loop needs of a value: itself, unless it is the row's or in a
/// row buffer, and what it is computed from.
void KernelWriter::visitColumn(NodeUse use, const KernelPhase &phase,
                               Demand &demand) {
  const KernelNode &node = model.nodes[use.node];
  if (node.perRow) {
    visitRow(use);
    return;
  }
  if (!demand[use.node].insert(use.result).second)
    return;
  bool reused =
      launch.keepsRows && llvm::any_of(phase.reused, [&](NodeUse other) {
        return other.node == use.node;
      });
  if (reused)
    return;
  for (NodeUse operand : node.operands)
    visitColumn(operand, phase, demand);
}

KernelWriter::Demand KernelWriter::demandOf(unsigned index) {
  const KernelPhase &phase = model.phases[index];
  Demand demand;
  for (unsigned id : phase.reductions)
    visitColumn(model.nodes[id].operands[0], phase, demand);
  if (launch.keepsRows)
    for (NodeUse use : phase.kept)
      visitColumn(use, phase, demand);
  if (index + 1 == model.phases.size())
    for (const KernelResult &each : model.results)
      if (!isPerRow(each.kind))
        visitColumn(each.value, phase, demand);
  return demand;
}

/// Everything that is needed once per row in some phases; the results with one
/// element a row come behind the last.
void KernelWriter::demandRows(unsigned firstPhase, unsigned lastPhase) {
  rowDemand.clear();
  for (unsigned i = firstPhase; i < lastPhase && i < model.phases.size(); ++i)
    demandOf(i);
  if (lastPhase <= model.phases.size())
    return;
  for (const KernelResult &each : model.results)
    if (isPerRow(each.kind))
      visitRow(each.value);
}

//===----------------------------------------------------------------------===//
// Elements
//===----------------------------------------------------------------------===//

/// The element that an argument or gather node reads.
std::string KernelWriter::element(unsigned id, bool inRow) {
  const KernelNode &node = model.nodes[id];
  std::string index = elementIndex(node.access, inRow);
  if (node.kind == NodeKind::Gather) {
    std::string row = value(node.operands[0]).at(Binding::Product) + " * " +
                      std::to_string(node.stride);
    index = index == "0" ? row : row + " + " + index;
  }
  return argument(node.argument) + "[" + index + "]";
}

//===----------------------------------------------------------------------===//
// Values
//===----------------------------------------------------------------------===//

Expression KernelWriter::value(NodeUse use) {
  auto &values = model.nodes[use.node].perRow ? rowValues : columnValues;
  return values[use.node][use.result];
}

void KernelWriter::setValue(NodeUse use, Expression expression, bool inRow) {
  auto &values = (inRow ? rowValues : columnValues)[use.node];
  if (values.size() <= use.result)
    values.resize(use.result + 1);
  values[use.result] = std::move(expression);
}

std::string KernelWriter::identityOf(Reduction kind) {
  return kind == Reduction::Max ? "-INFINITY" : "0.0f";
}

/// What a reduction's step assigns.
std::string KernelWriter::combined(Reduction kind, StringRef running,
                                   const Expression &x) {
  switch (kind) {
  case Reduction::Sum:
    return (running + " + " + x.at(Binding::Product)).str();
  case Reduction::Max:
    return ("num::maxOf(" + running + ", " + x.text + ")").str();
  case Reduction::AbsMax:
    return ("num::maxOf(" + running + ", num::abs(" + x.text + "))").str();
  }
  llvm_unreachable("all reductions are listed");
}

/// A sum (or maximum) down an argument's leading axis, rows ascending.
void KernelWriter::emitLeading(unsigned id, bool inRow) {
  const KernelNode &node = model.nodes[id];
  Reduction kind = kindOf(id);
  std::string name = nameOf(id), index = elementIndex(node.access, inRow);
  Type f32 = model.getElementType({id, 0});
  if (node.length == 1) {
    Expression x{argument(node.argument) + "[" + index + "]", Binding::Atom,
                 f32};
    w.assign("const float " + name, combined(kind, identityOf(kind), x));
  } else {
    w.assign("float " + name, identityOf(kind));
    w.line("for (int64_t k = 0; k < " + Twine(node.length) + "; ++k)");
    std::string step =
        node.stride == 1 ? "k" : "k * " + std::to_string(node.stride);
    index = index == "0" ? step : index + " + " + step;
    Expression x{argument(node.argument) + "[" + index + "]", Binding::Atom,
                 f32};
    w.assign("  " + name, combined(kind, name, x));
  }
  setValue({id, 0}, {name, Binding::Atom, f32}, inRow);
}

void KernelWriter::evaluate(unsigned id,
                            const llvm::SmallSet<unsigned, 4> &results,
                            bool inRow) {
  const KernelNode &node = model.nodes[id];
  switch (node.kind) {
  case NodeKind::Constant:
    setValue({id, 0}, splatOf(node), inRow);
    return;
  case NodeKind::Argument:
  case NodeKind::Gather: {
    Type type = cast<RankedTensorType>(kernel.getArgumentTypes()[node.argument])
                    .getElementType();
    Expression loaded = fromMemory(element(id, inRow), type);
    std::string name = nameOf(id);
    w.assign("const " + valueType(type) + " " + name, loaded.text);
    setValue({id, 0}, {name, Binding::Atom, type}, inRow);
    return;
  }
  case NodeKind::LeadingReduce:
    emitLeading(id, inRow);
    return;
  case NodeKind::RowReduce:
    return;
  case NodeKind::Scalar:
    break;
  }
  SmallVector<Expression> operands;
  for (NodeUse use : node.operands)
    operands.push_back(value(use));
  SmallVector<std::string> names;
  for (unsigned r = 0; r < node.op->getNumResults(); ++r)
    names.push_back(results.contains(r) ? nameOf(id, r) : std::string());
  auto values = bodies.emit(cast<ScalarBodyOpInterface>(node.op), operands,
                            names, elementIndex(node.index, inRow),
                            elementIndex(node.lastIndex, inRow), w);
  for (auto [r, each] : llvm::enumerate(values))
    setValue({id, static_cast<unsigned>(r)}, each, inRow);
}

//===----------------------------------------------------------------------===//
// Rows and phases
//===----------------------------------------------------------------------===//

void KernelWriter::enterRow() { rowEntered.assign(model.nodes.size(), false); }

/// Values of the row that can be had before `phase`.
void KernelWriter::prepare(unsigned phase) {
  for (auto [id, node] : llvm::enumerate(model.nodes)) {
    auto demand = rowDemand.find(id);
    if (demand == rowDemand.end() || rowEntered[id] || node.phase > phase ||
        node.kind == NodeKind::RowReduce)
      continue;
    rowEntered[id] = true;
    evaluate(id, demand->second, /*inRow=*/true);
  }
}

void KernelWriter::emitLoopBody(unsigned index) {
  const KernelPhase &phase = model.phases[index];
  Demand demand = demandOf(index);
  columnValues.assign(model.nodes.size(), {});
  // Operands come before their uses in the model.
  for (unsigned id = 0; id < model.nodes.size(); ++id) {
    auto needed = demand.find(id);
    if (needed == demand.end())
      continue;
    bool reused =
        launch.keepsRows &&
        llvm::any_of(phase.reused, [&](NodeUse use) { return use.node == id; });
    if (reused) {
      Type f32 = model.getElementType({id, 0});
      w.assign("const float " + nameOf(id), "kept" + Twine(id) + "[c]");
      setValue({id, 0}, {nameOf(id), Binding::Atom, f32}, /*inRow=*/false);
      continue;
    }
    evaluate(id, needed->second, /*inRow=*/false);
  }
  for (unsigned id : phase.reductions)
    w.assign(nameOf(id), combined(kindOf(id), nameOf(id),
                                  value(model.nodes[id].operands[0])));
  if (launch.keepsRows)
    for (NodeUse use : phase.kept)
      w.assign("kept" + Twine(use.node) + "[c]", value(use).text);
  if (index + 1 == model.phases.size())
    storeColumns();
}

/// The loop of a warp over the columns of a row.
void KernelWriter::emitPhase(unsigned index) {
  const KernelPhase &phase = model.phases[index];
  for (unsigned id : phase.reductions)
    w.assign("float " + nameOf(id), identityOf(kindOf(id)));
  w.open("for (int64_t c = mpt::laneId(); c < " + Twine(model.columns) +
         "; c += 32) {");
  emitLoopBody(index);
  w.close();
  for (unsigned id : phase.reductions)
    finishReduction(id);
}

/// The lanes' tree.
void KernelWriter::finishReduction(unsigned id) {
  bool sums = kindOf(id) == Reduction::Sum;
  w.assign(nameOf(id),
           (sums ? "mpt::warpSum(" : "mpt::warpMax(") + nameOf(id) + ")");
  Type f32 = model.getElementType({id, 0});
  setValue({id, 0}, {nameOf(id), Binding::Atom, f32}, /*inRow=*/true);
  rowEntered[id] = true;
}

void KernelWriter::emitPhases() {
  enterRow();
  for (unsigned i = 0; i < model.phases.size(); ++i) {
    prepare(i);
    emitPhase(i);
  }
  prepare(model.phases.size());
  storeRows();
}

/// Stores and chunk sums of the column, after all its loads.
void KernelWriter::storeColumns() {
  for (unsigned i = 0; i < model.results.size(); ++i)
    if (!isPerRow(model.results[i].kind))
      storeColumn(i);
}

void KernelWriter::storeColumn(unsigned index) {
  const KernelResult &each = model.results[index];
  Expression x = value(each.value);
  std::string number = std::to_string(index);
  std::string columns = std::to_string(model.columns);
  if (each.kind == ResultKind::Full) {
    bool hasRow = isBlock() || model.hasChunks() || model.rows > 1;
    w.assign(result(index) + "[" + (hasRow ? "row * " + columns + " + " : "") +
                 "c]",
             toMemory(x));
  } else if (each.kind == ResultKind::Transposed) {
    int64_t pitch = getTurnedPitch(getElementBytes(resultElement(index)));
    w.assign("turned" + number + "[" + columnOfTile() + " * " +
                 std::to_string(pitch) + " + row - begin]",
             toMemory(x));
  } else if (launch.shape == Shape::ThreadPerColumn) {
    w.assign("sum" + number, "sum" + number + " + " + x.at(Binding::Product));
  } else if (launch.shape == Shape::BlockRows) {
    w.assign("stage" + number + "[mpt::warpId() * " + columns + " + c]",
             x.text);
  } else {
    w.assign("stage" + number + "[(row - begin) * " +
                 std::to_string(launch.tile) + " + " + columnOfTile() + "]",
             x.text);
  }
}

/// Results with one element per row: lane 0 stores them, the others have read
/// what may lie in the same place.
void KernelWriter::storeRows() {
  bool isWarp = launch.shape != Shape::ThreadPerRow;
  SmallVector<unsigned> stored;
  for (auto [i, each] : llvm::enumerate(model.results))
    if (isPerRow(each.kind))
      stored.push_back(i);
  if (stored.empty())
    return;
  if (isWarp) {
    for (unsigned a = 0; a < kernel.getNumArguments(); ++a)
      if (mayShareBuffer(a)) {
        w.line("__syncwarp();");
        break;
      }
    if (stored.size() == 1)
      w.line("if (mpt::laneId() == 0)");
    else
      w.open("if (mpt::laneId() == 0) {");
  }
  for (unsigned i : stored) {
    bool sums = model.results[i].kind == ResultKind::ChunkPerRow;
    w.assign((isWarp && stored.size() == 1 ? "  " : "") +
                 (sums ? "stage" + std::to_string(i) + "[row - begin]"
                       : result(i) + "[row]"),
             toMemory(value(model.results[i].value)));
  }
  if (isWarp && stored.size() > 1)
    w.close();
}

//===----------------------------------------------------------------------===//
// Kernels
//===----------------------------------------------------------------------===//

void KernelWriter::emitRows() {
  bool isWarp = launch.shape == Shape::WarpPerRow;
  // A part's block has more warps than a kernel of one row is launched with.
  if (model.rows > 1 || !isWarp || isPart()) {
    w.assign("const int64_t row", isWarp ? warpId() : threadId());
    w.line("if (row >= " + Twine(model.rows) + ")");
    w.line("  return;");
  } else if (model.hasPerRow()) {
    w.line("const int64_t row = 0;");
  }
  declareShared();
  emitPhases();
}

void KernelWriter::emitElements() {
  enterRow();
  prepare(0);
  std::string count = form == KernelForm::CountPart
                          ? std::string("count")
                          : std::to_string(model.columns);
  std::string head = "for (int64_t c = " + threadId() + "; c < " + count + ";";
  std::string step = "c += " + threads() + ") {";
  if (head.size() + step.size() + 3 <= 80) {
    w.open(head + " " + step);
  } else {
    w.line(head);
    w.open("     " + step);
  }
  emitLoopBody(0);
  w.close();
}

void KernelWriter::emitColumns() {
  w.assign("const int64_t c", threadId());
  w.line("if (c >= " + Twine(model.columns) + ")");
  w.line("  return;");
  enterChunk(isPart() ? "block.row()" : "blockIdx.y");
  for (auto [i, each] : llvm::enumerate(model.results))
    if (each.kind == ResultKind::Chunk)
      w.line("float sum" + Twine(i) + " = 0.0f;");
  w.line("for (int64_t row = begin; row < end; ++row) {");
  w.enter();
  enterRow();
  prepare(0);
  emitLoopBody(0);
  w.close();
  for (auto [i, each] : llvm::enumerate(model.results))
    if (each.kind == ResultKind::Chunk)
      w.line(result(i) + "[chunk * " + Twine(model.columns) + " + c] = sum" +
             Twine(i) + ";");
}

void KernelWriter::comment(StringRef uses) {
  std::string text;
  llvm::raw_string_ostream os(text);
  for (Operation &op : kernel.getBody().front().without_terminator()) {
    if (isa<ViewOpInterface, ConstantOp>(op))
      continue;
    os << (text.empty() ? "" : ", ");
    if (auto reduce = dyn_cast<ReduceOp>(op))
      os << stringifyReduction(reduce.getKind()) << " of "
         << (reduce.getAxes().back() + 1 == reduce.getX().getType().getRank()
                 ? "row"
                 : "column");
    else if (isa<ReduceChunksOp>(op))
      os << "chunk sums";
    else
      os << op.getName().stripDialect();
  }
  static constexpr StringLiteral shapes[] = {
      "a thread an element",
      "a thread a row",
      "a warp a row",
      "a thread a column of 64 rows",
      "a block 64 rows, a warp a row at a time",
      "a block 64 rows, some columns at a time"};
  w.comment(text + ".");
  std::string size =
      form == KernelForm::CountPart
          ? "`count` elements"
          : std::to_string(model.rows) + " x " + std::to_string(model.columns);
  w.comment(size + ", " + shapes[static_cast<int>(launch.shape)] + ". " + uses);
}

void KernelWriter::signature() {
  SmallVector<std::string> parameters;
  if (isPart())
    parameters.push_back("const mpt::PartBlock &block");
  if (form == KernelForm::CountPart)
    parameters.push_back("int64_t count");
  for (unsigned a = 0; a < kernel.getNumArguments(); ++a) {
    auto type = cast<RankedTensorType>(kernel.getArgumentTypes()[a]);
    parameters.push_back(("const " + memoryType(type.getElementType()) + " *" +
                          (mayShareBuffer(a) ? "" : "__restrict__ ") +
                          argument(a))
                             .str());
  }
  for (unsigned r = 0; r < kernel.getNumResults(); ++r) {
    auto type = cast<RankedTensorType>(kernel.getResultTypes()[r]);
    bool shares = false;
    for (unsigned a = 0; a < kernel.getNumArguments(); ++a)
      shares |= model.canAlias(r, a);
    parameters.push_back((memoryType(type.getElementType()) + " *" +
                          (shares ? "" : "__restrict__ ") + result(r))
                             .str());
  }
  std::string head =
      "__global__ void __launch_bounds__(" + std::to_string(launch.block) + ")";
  if (isPart())
    head = "__device__ inline void";
  std::string whole =
      (head + " " + name + "(" + llvm::join(parameters, ", ") + ") {").str();
  if (whole.size() <= 80)
    return w.line(whole);
  // Very many parameters stand below the name.
  if (parameters.size() > 24)
    return w.list(head + " " + name, parameters, " {");
  w.line(head);
  w.list(name, parameters, " {", /*extra=*/4);
}

void KernelWriter::run(StringRef uses) {
  comment(uses);
  signature();
  w.enter();
  switch (launch.shape) {
  case Shape::ThreadPerElement:
    emitElements();
    break;
  case Shape::ThreadPerRow:
  case Shape::WarpPerRow:
    emitRows();
    break;
  case Shape::ThreadPerColumn:
    emitColumns();
    break;
  case Shape::BlockRows:
    emitBlockRows();
    break;
  case Shape::BlockTiles:
    emitBlockTiles();
    break;
  }
  w.close();
}

void cuda::emitKernel(const KernelModel &model, StringRef name, StringRef uses,
                      SourceWriter &writer, KernelForm form) {
  KernelWriter(model, name, form, writer).run(uses);
}
