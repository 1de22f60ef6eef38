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
#include "ExpressionEmitter.h"
#include "llvm/ADT/MapVector.h"
#include "llvm/ADT/SmallSet.h"
#include "llvm/ADT/StringExtras.h"

using namespace mlir;
using namespace mpt;
using namespace mpt::cuda;

//===----------------------------------------------------------------------===//
// Launch shape
//===----------------------------------------------------------------------===//

namespace {
constexpr int64_t kThreads = 128;
constexpr int64_t kMostBlocks = 4096;
/// Kept rows of one warp: beyond, they are computed anew. Beyond 48 KiB for a
/// block mpt::launch asks for more; sm_90 has 227.
constexpr int64_t kMostSharedPerWarp = 96 * 1024, kMostShared = 48 * 1024;

bool isPerRow(ResultKind kind) {
  return kind == ResultKind::PerRow || kind == ResultKind::ChunkPerRow;
}
bool hasRowReduction(const KernelModel &model) {
  return llvm::any_of(model.nodes, [](const KernelNode &node) {
    return node.kind == NodeKind::RowReduce;
  });
}
bool anyPerRow(const KernelModel &model) {
  return llvm::any_of(model.results, [](const KernelResult &result) {
    return isPerRow(result.kind);
  });
}
Shape chooseShape(const KernelModel &model) {
  bool reduces = hasRowReduction(model);
  if (model.hasChunks())
    return reduces || anyPerRow(model) ? Shape::WarpPerChunk
                                       : Shape::ThreadPerColumn;
  if (!reduces && model.columns == 1)
    return Shape::ThreadPerRow;
  if (!reduces && model.rows == 1 && !anyPerRow(model))
    return Shape::ThreadPerElement;
  return Shape::WarpPerRow;
}
/// Elements of a kept row: a multiple of a warp.
int64_t paddedColumns(const KernelModel &model) {
  return llvm::alignTo(model.columns, KernelModel::kLanes);
}
} // namespace

LaunchShape cuda::getLaunchShape(const KernelModel &model) {
  LaunchShape launch;
  launch.shape = chooseShape(model);
  int64_t chunks = llvm::divideCeil(model.rows, KernelModel::kChunkRows);
  int64_t threads =
      launch.shape == Shape::ThreadPerRow ? model.rows : model.columns;
  launch.block = std::min(llvm::alignTo(threads, 32), uint64_t(kThreads));
  launch.gridX = llvm::divideCeil(threads, launch.block);
  switch (launch.shape) {
  case Shape::ThreadPerElement:
    launch.gridX = std::min(launch.gridX, kMostBlocks);
    return launch;
  case Shape::ThreadPerRow:
    return launch;
  case Shape::ThreadPerColumn:
    launch.gridY = chunks;
    return launch;
  case Shape::WarpPerRow:
  case Shape::WarpPerChunk:
    break;
  }
  int64_t kept = 0;
  for (const KernelPhase &phase : model.phases)
    kept += phase.kept.size();
  int64_t perWarp = kept * paddedColumns(model) * 4;
  int64_t units = launch.shape == Shape::WarpPerRow ? model.rows : chunks;
  int64_t warps = std::min<int64_t>(units, kThreads / 32);
  if (perWarp > kMostSharedPerWarp)
    perWarp = 0;
  while (warps > 1 && warps * perWarp > kMostShared)
    --warps;
  launch.block = warps * 32;
  launch.gridX = llvm::divideCeil(units, warps);
  launch.sharedBytes = warps * perWarp;
  return launch;
}

//===----------------------------------------------------------------------===//
// Emission
//===----------------------------------------------------------------------===//

namespace {

class Emitter {
public:
  Emitter(const KernelModel &model, StringRef name, KernelForm form,
          SourceWriter &w)
      : model(model), kernel(model.function), name(name), form(form),
        launch(getLaunchShape(model)), w(w), bodies(kernel.getContext()),
        rowValues(model.nodes.size()), rowEntered(model.nodes.size(), false) {
    demandRows();
  }

  void run(StringRef uses);

private:
  void comment(StringRef uses);
  void signature();
  void emitRows();
  void emitElements();
  void emitColumns();
  void emitChunks();
  void declareKept();

  /// Which results of which nodes a loop (or a row) needs.
  using Demand = llvm::MapVector<unsigned, llvm::SmallSet<unsigned, 4>>;
  void demandRows();
  void visitRow(NodeUse use);
  void visitColumn(NodeUse use, const KernelPhase &phase, Demand &demand);
  Demand demandOf(unsigned phase);

  void enterRow();
  void prepare(unsigned phase);
  void emitPhase(unsigned phase);
  void emitLoopBody(unsigned phase);
  void emitPhases();
  void storeColumns();
  void storeRows();

  Expression value(NodeUse use);
  void evaluate(unsigned id, const llvm::SmallSet<unsigned, 4> &results,
                bool inRow);
  void setValue(NodeUse use, Expression expression, bool inRow);
  Expression constantOf(const KernelNode &node);
  void emitLeading(unsigned id, bool inRow);
  std::string nameOf(unsigned id, unsigned result = 0);
  std::string elementIndex(const AccessMap &access, bool inRow);
  std::string element(unsigned id, bool inRow);
  Reduction kindOf(unsigned id) {
    return cast<ReduceOp>(model.nodes[id].op).getKind();
  }
  std::string combined(Reduction kind, StringRef running, const Expression &x);
  std::string argument(unsigned index) { return "in" + std::to_string(index); }
  std::string result(unsigned index) { return "out" + std::to_string(index); }
  bool mayShareBuffer(unsigned argument) {
    for (unsigned r = 0; r < model.results.size(); ++r)
      if (model.canAlias(r, argument))
        return true;
    return false;
  }
  bool keepsRows() const { return launch.sharedBytes > 0; }
  bool isPart() const { return form != KernelForm::Kernel; }
  /// What tells threads apart: of the grid, or of the part's share of it.
  std::string inGrid(StringRef what) const {
    return ((isPart() ? "block." : "mpt::grid") + what + "()").str();
  }
  std::string threadId() const {
    return inGrid(isPart() ? "threadId" : "ThreadId");
  }
  std::string warpId() const { return inGrid(isPart() ? "warpId" : "WarpId"); }
  std::string threads() const {
    return inGrid(isPart() ? "threads" : "Threads");
  }

  const KernelModel &model;
  func::FuncOp kernel;
  StringRef name;
  KernelForm form;
  LaunchShape launch;
  SourceWriter &w;
  ExpressionEmitter bodies;
  /// Values of the current row and of the current column loop.
  std::vector<SmallVector<Expression, 3>> rowValues, columnValues;
  std::vector<bool> rowEntered;
  Demand rowDemand;
};

//===----------------------------------------------------------------------===//
// What is needed where
//===----------------------------------------------------------------------===//

void Emitter::visitRow(NodeUse use) {
  if (!rowDemand[use.node].insert(use.result).second)
    return;
  const KernelNode &node = model.nodes[use.node];
  if (node.kind != NodeKind::RowReduce)
    for (NodeUse operand : node.operands)
      visitRow(operand);
}

/// What a column loop needs of a value: itself, unless it is the row's or in a
/// row buffer, and what it is computed from.
void Emitter::visitColumn(NodeUse use, const KernelPhase &phase,
                          Demand &demand) {
  const KernelNode &node = model.nodes[use.node];
  if (node.perRow) {
    visitRow(use);
    return;
  }
  if (!demand[use.node].insert(use.result).second)
    return;
  bool reused = keepsRows() && llvm::any_of(phase.reused, [&](NodeUse other) {
                  return other.node == use.node;
                });
  if (reused)
    return;
  for (NodeUse operand : node.operands)
    visitColumn(operand, phase, demand);
}

Emitter::Demand Emitter::demandOf(unsigned index) {
  const KernelPhase &phase = model.phases[index];
  Demand demand;
  for (unsigned id : phase.reductions)
    visitColumn(model.nodes[id].operands[0], phase, demand);
  if (keepsRows())
    for (NodeUse use : phase.kept)
      visitColumn(use, phase, demand);
  if (index + 1 == model.phases.size())
    for (const KernelResult &each : model.results)
      if (!isPerRow(each.kind))
        visitColumn(each.value, phase, demand);
  return demand;
}

/// Everything that is needed once per row, over all phases.
void Emitter::demandRows() {
  for (unsigned i = 0; i < model.phases.size(); ++i)
    demandOf(i);
  for (const KernelResult &each : model.results)
    if (isPerRow(each.kind))
      visitRow(each.value);
}

//===----------------------------------------------------------------------===//
// Names and indices
//===----------------------------------------------------------------------===//

/// An identifier from the op's name and the node's number.
std::string Emitter::nameOf(unsigned id, unsigned result) {
  const KernelNode &node = model.nodes[id];
  if (!node.op)
    return "x" + std::to_string(id);
  StringRef op = node.op->getName().stripDialect();
  std::string name;
  if (auto reduce = dyn_cast<ReduceOp>(node.op))
    op = stringifyReduction(reduce.getKind());
  for (size_t i = 0; i < op.size(); ++i)
    name += i > 0 && op[i - 1] == '_' ? llvm::toUpper(op[i]) : op[i];
  llvm::erase(name, '_');
  name += std::to_string(id);
  if (node.op->getNumResults() > 1)
    name += "_" + std::to_string(result);
  return name;
}

/// `variable / div % mod * stride` for each term, for a variable below `size`.
static void appendTerms(ArrayRef<IndexTerm> terms, StringRef variable,
                        int64_t size, std::string &text) {
  for (const IndexTerm &term : terms) {
    std::string digit = variable.str();
    if (term.div != 1)
      digit += " / " + std::to_string(term.div);
    if (term.div * term.mod < size)
      digit += " % " + std::to_string(term.mod);
    if (term.stride != 1)
      digit += " * " + std::to_string(term.stride);
    text += (text.empty() ? "" : " + ") + digit;
  }
}

std::string Emitter::elementIndex(const AccessMap &access, bool inRow) {
  std::string text;
  appendTerms(access.rowTerms, "row", model.rows, text);
  if (access.offset)
    text += (text.empty() ? "" : " + ") + std::to_string(access.offset);
  if (!inRow && access.columnStride)
    appendTerms(IndexTerm{1, model.columns, access.columnStride}, "c",
                model.columns, text);
  if (!inRow)
    appendTerms(access.columnTerms, "c", model.columns, text);
  return text.empty() ? "0" : text;
}

/// The element that an argument or gather node reads.
std::string Emitter::element(unsigned id, bool inRow) {
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

Expression Emitter::value(NodeUse use) {
  auto &values = model.nodes[use.node].perRow ? rowValues : columnValues;
  return values[use.node][use.result];
}

void Emitter::setValue(NodeUse use, Expression expression, bool inRow) {
  auto &values = (inRow ? rowValues : columnValues)[use.node];
  if (values.size() <= use.result)
    values.resize(use.result + 1);
  values[use.result] = std::move(expression);
}

Expression Emitter::constantOf(const KernelNode &node) {
  auto splat = cast<SplatElementsAttr>(cast<ConstantOp>(node.op).getValue());
  Type element = splat.getElementType();
  if (element.isF32()) {
    float x = splat.getSplatValue<APFloat>().convertToFloat();
    return {floatLiteral(x), std::signbit(x) ? Binding::Unary : Binding::Atom,
            element};
  }
  if (isa<FloatType>(element))
    return intLiteral(
        splat.getSplatValue<APFloat>().bitcastToAPInt().getZExtValue(),
        element);
  APInt bits = splat.getSplatValue<APInt>();
  bool isCode = element.isInteger(8) || element.isInteger(1);
  return intLiteral(isCode ? bits.getZExtValue() : bits.getSExtValue(),
                    element);
}

/// What a reduction's step assigns.
std::string Emitter::combined(Reduction kind, StringRef running,
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

static std::string identityOf(Reduction kind) {
  return kind == Reduction::Max ? "-INFINITY" : "0.0f";
}

/// A sum (or maximum) down an argument's leading axis, rows ascending.
void Emitter::emitLeading(unsigned id, bool inRow) {
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

void Emitter::evaluate(unsigned id, const llvm::SmallSet<unsigned, 4> &results,
                       bool inRow) {
  const KernelNode &node = model.nodes[id];
  switch (node.kind) {
  case NodeKind::Constant:
    setValue({id, 0}, constantOf(node), inRow);
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

void Emitter::enterRow() { rowEntered.assign(model.nodes.size(), false); }

/// Values of the row that can be had before `phase`.
void Emitter::prepare(unsigned phase) {
  for (auto [id, node] : llvm::enumerate(model.nodes)) {
    auto demand = rowDemand.find(id);
    if (demand == rowDemand.end() || rowEntered[id] || node.phase > phase ||
        node.kind == NodeKind::RowReduce)
      continue;
    rowEntered[id] = true;
    evaluate(id, demand->second, /*inRow=*/true);
  }
}

void Emitter::emitLoopBody(unsigned index) {
  const KernelPhase &phase = model.phases[index];
  Demand demand = demandOf(index);
  columnValues.assign(model.nodes.size(), {});
  // Operands come before their uses in the model.
  for (unsigned id = 0; id < model.nodes.size(); ++id) {
    auto needed = demand.find(id);
    if (needed == demand.end())
      continue;
    bool reused = keepsRows() && llvm::any_of(phase.reused, [&](NodeUse use) {
                    return use.node == id;
                  });
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
  if (keepsRows())
    for (NodeUse use : phase.kept)
      w.assign("kept" + Twine(use.node) + "[c]", value(use).text);
  if (index + 1 == model.phases.size())
    storeColumns();
}

/// The loop of a warp over the columns of a row.
void Emitter::emitPhase(unsigned index) {
  const KernelPhase &phase = model.phases[index];
  for (unsigned id : phase.reductions)
    w.assign("float " + nameOf(id), identityOf(kindOf(id)));
  w.open("for (int64_t c = mpt::laneId(); c < " + Twine(model.columns) +
         "; c += 32) {");
  emitLoopBody(index);
  w.close();
  for (unsigned id : phase.reductions) {
    bool sums = kindOf(id) == Reduction::Sum;
    w.assign(nameOf(id),
             (sums ? "mpt::warpSum(" : "mpt::warpMax(") + nameOf(id) + ")");
    Type f32 = model.getElementType({id, 0});
    setValue({id, 0}, {nameOf(id), Binding::Atom, f32}, /*inRow=*/true);
    rowEntered[id] = true;
  }
}

void Emitter::emitPhases() {
  enterRow();
  for (unsigned i = 0; i < model.phases.size(); ++i) {
    prepare(i);
    emitPhase(i);
  }
  prepare(model.phases.size());
  storeRows();
}

/// Stores and chunk sums of the column, after all its loads.
void Emitter::storeColumns() {
  bool chunks = model.hasChunks();
  for (auto [i, each] : llvm::enumerate(model.results)) {
    if (isPerRow(each.kind))
      continue;
    Expression x = value(each.value);
    std::string row = chunks || model.rows > 1
                          ? "row * " + std::to_string(model.columns) + " + c"
                          : std::string("c");
    std::string chunk = "chunk * " + std::to_string(model.columns) + " + c";
    if (each.kind == ResultKind::Full) {
      w.assign(result(i) + "[" + row + "]", toMemory(x));
    } else if (launch.shape == Shape::ThreadPerColumn) {
      std::string sum = "sum" + std::to_string(i);
      w.assign(sum, sum + " + " + x.at(Binding::Product));
    } else {
      std::string at = result(i) + "[" + chunk + "]";
      w.assign(at, at + " + " + x.at(Binding::Product));
    }
  }
}

/// Results with one element per row: lane 0 stores them, the others have read
/// what may lie in the same place.
void Emitter::storeRows() {
  bool isWarp = launch.shape != Shape::ThreadPerRow;
  SmallVector<unsigned> stored;
  for (auto [i, each] : llvm::enumerate(model.results)) {
    if (each.kind == ResultKind::ChunkPerRow) {
      std::string sum = "sum" + std::to_string(i);
      w.assign(sum, sum + " + " + value(each.value).at(Binding::Product));
    } else if (each.kind == ResultKind::PerRow) {
      stored.push_back(i);
    }
  }
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
  for (unsigned i : stored)
    w.assign((isWarp && stored.size() == 1 ? "  " : "") + result(i) + "[row]",
             toMemory(value(model.results[i].value)));
  if (isWarp && stored.size() > 1)
    w.close();
}

//===----------------------------------------------------------------------===//
// Kernels
//===----------------------------------------------------------------------===//

/// The warp's rows in shared memory.
void Emitter::declareKept() {
  if (!keepsRows())
    return;
  int64_t rows = 0;
  for (const KernelPhase &phase : model.phases)
    rows += phase.kept.size();
  int64_t columns = paddedColumns(model), next = 0;
  w.line("MPT_SHARED_DYN(float, shared);");
  for (const KernelPhase &phase : model.phases)
    for (NodeUse use : phase.kept) {
      std::string offset = "mpt::warpId() * " + std::to_string(rows * columns);
      if (next)
        offset += " + " + std::to_string(next * columns);
      w.assign("float *const kept" + Twine(use.node), "shared + " + offset);
      ++next;
    }
}

void Emitter::emitRows() {
  bool isWarp = launch.shape == Shape::WarpPerRow;
  // A part's block has more warps than a kernel of one row is launched with.
  if (model.rows > 1 || !isWarp || isPart()) {
    w.assign("const int64_t row", isWarp ? warpId() : threadId());
    w.line("if (row >= " + Twine(model.rows) + ")");
    w.line("  return;");
  } else if (anyPerRow(model)) {
    w.line("const int64_t row = 0;");
  }
  declareKept();
  emitPhases();
}

void Emitter::emitElements() {
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

static void emitRowsOfChunk(const KernelModel &model, SourceWriter &w) {
  constexpr int64_t rows = KernelModel::kChunkRows;
  if (model.rows % rows == 0) {
    w.line("const int64_t end = (chunk + 1) * " + Twine(rows) + ";");
  } else {
    w.line("const int64_t after = (chunk + 1) * " + Twine(rows) + ";");
    w.line("const int64_t end = after < " + Twine(model.rows) +
           " ? after : " + Twine(model.rows) + ";");
  }
  w.open("for (int64_t row = chunk * " + Twine(rows) + "; row < end; ++row) {");
}

void Emitter::emitColumns() {
  w.assign("const int64_t chunk", isPart() ? "block.row()" : "blockIdx.y");
  w.assign("const int64_t c", threadId());
  w.line("if (c >= " + Twine(model.columns) + ")");
  w.line("  return;");
  for (auto [i, each] : llvm::enumerate(model.results))
    if (each.kind == ResultKind::Chunk)
      w.line("float sum" + Twine(i) + " = 0.0f;");
  emitRowsOfChunk(model, w);
  enterRow();
  prepare(0);
  emitLoopBody(0);
  w.close();
  for (auto [i, each] : llvm::enumerate(model.results))
    if (each.kind == ResultKind::Chunk)
      w.line(result(i) + "[chunk * " + Twine(model.columns) + " + c] = sum" +
             Twine(i) + ";");
}

/// A lane owns the columns c = lane mod 32 of the chunk's sums, in every row.
void Emitter::emitChunks() {
  int64_t chunks = llvm::divideCeil(model.rows, KernelModel::kChunkRows);
  w.assign("const int64_t chunk", warpId());
  w.line("if (chunk >= " + Twine(chunks) + ")");
  w.line("  return;");
  declareKept();
  for (auto [i, each] : llvm::enumerate(model.results)) {
    if (each.kind == ResultKind::ChunkPerRow)
      w.line("float sum" + Twine(i) + " = 0.0f;");
    if (each.kind != ResultKind::Chunk)
      continue;
    w.line("for (int64_t c = mpt::laneId(); c < " + Twine(model.columns) +
           "; c += 32)");
    w.line("  " + result(i) + "[chunk * " + Twine(model.columns) +
           " + c] = 0.0f;");
  }
  emitRowsOfChunk(model, w);
  emitPhases();
  w.close();
  for (auto [i, each] : llvm::enumerate(model.results))
    if (each.kind == ResultKind::ChunkPerRow) {
      w.line("if (mpt::laneId() == 0)");
      w.line("  " + result(i) + "[chunk] = sum" + Twine(i) + ";");
    }
}

void Emitter::comment(StringRef uses) {
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
      "a thread an element", "a thread a row", "a warp a row",
      "a thread a column of 64 rows", "a warp 64 rows"};
  w.comment(text + ".");
  std::string size =
      form == KernelForm::CountPart
          ? "`count` elements"
          : std::to_string(model.rows) + " x " + std::to_string(model.columns);
  w.comment(size + ", " + shapes[static_cast<int>(launch.shape)] + ". " + uses);
}

void Emitter::signature() {
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

void Emitter::run(StringRef uses) {
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
  case Shape::WarpPerChunk:
    emitChunks();
    break;
  }
  w.close();
}

} // namespace

void cuda::emitKernel(const KernelModel &model, StringRef name, StringRef uses,
                      SourceWriter &writer, KernelForm form) {
  Emitter(model, name, form, writer).run(uses);
}
