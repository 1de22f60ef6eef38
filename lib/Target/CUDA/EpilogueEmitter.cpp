//===- EpilogueEmitter.cpp - a kernel as a product's epilogue -------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// See EpilogueEmitter.h. Each pair of neighbours goes through the kernel's
// nodes element by element; then the results are stored: f32 and bf16 from
// registers, FP8 codes (of D or of D^T) and the values of column sums by way of
// shared memory.
//
//===----------------------------------------------------------------------===//

#include "EpilogueEmitter.h"
#include "NodeWriter.h"
#include "mpt/Dialect/MPT/Analysis/OwnProducts.h"
#include "llvm/ADT/StringExtras.h"

using namespace mlir;
using namespace mpt;
using namespace mpt::cuda;

namespace {

bool isFloat8(Type element) {
  return isa<Float8E4M3FNType, Float8E5M2Type>(element);
}
Type elementOf(Type type) {
  return cast<RankedTensorType>(type).getElementType();
}

/// What becomes of a result.
enum class Way { Registers, Codes, TransposedCodes, ColumnSums, RowMaxima };

Way wayOf(const KernelModel &model, const KernelResult &result) {
  if (result.kind == ResultKind::Chunk)
    return Way::ColumnSums;
  if (result.kind == ResultKind::PerRow)
    return Way::RowMaxima;
  if (result.kind == ResultKind::Transposed)
    return Way::TransposedCodes;
  return isFloat8(model.getElementType(result.value)) ? Way::Codes
                                                      : Way::Registers;
}

/// Whether the copy engine stores it, which takes a tensor map.
bool isMapped(Way way) {
  return way == Way::Codes || way == Way::TransposedCodes;
}

/// What a result stores: the value, or what a row's maximum is of.
NodeUse storedOf(const KernelModel &model, const KernelResult &result) {
  const KernelNode &node = model.nodes[result.value.node];
  return node.kind == NodeKind::RowReduce ? node.operands[0] : result.value;
}

struct Emitter {
  FusedMatmulOp op;
  const KernelModel &model;
  func::FuncOp kernel;
  SourceWriter &w;
  NodeWriter nodes;
  /// Where a result's staging begins, in bytes for each column.
  SmallVector<int64_t> staging;

  Emitter(FusedMatmulOp op, const KernelModel &model, SourceWriter &w)
      : op(op), model(model), kernel(model.function), w(w), nodes(model, w) {
    int64_t next = 0;
    for (const KernelResult &result : model.results) {
      staging.push_back(next);
      next += getEpilogueStaging(model, result);
    }
  }

  void run();
  void comment();
  void members();
  void begin();
  void visit();
  void element();
  void store(unsigned index);
  void end();
  void pointers();
  void describe();
  bool has(Way way) const {
    return llvm::any_of(model.results, [&](const KernelResult &result) {
      return wayOf(model, result) == way;
    });
  }
  std::string stagingAt(unsigned index, StringRef tile) const {
    std::string text = (tile + ".staging").str();
    if (staging[index])
      text += " + " + std::to_string(staging[index]) + " * " + tile.str() +
              ".columns";
    return text;
  }
};

std::string numbered(StringRef name, unsigned index) {
  return (name + Twine(index)).str();
}

void Emitter::comment() {
  std::string text;
  llvm::raw_string_ostream os(text);
  for (Operation &each : kernel.getBody().front().without_terminator()) {
    if (isa<ViewOpInterface, ConstantOp>(each))
      continue;
    os << (text.empty() ? "" : ", ");
    if (isa<ReduceOp>(each))
      os << "largest magnitude of row";
    else if (isa<ReduceChunksOp>(each))
      os << "chunk sums";
    else if (auto copy = dyn_cast<CopyOp>(each);
             copy && getTransposedSource(copy))
      os << "transposed";
    else
      os << each.getName().stripDialect();
  }
  w.comment(text + ": " + kernel.getName() + " on a product of " +
            Twine(model.rows) + " x " + Twine(model.columns) +
            (op.getKeep() ? ", which is kept" : "") + ".");
}

void Emitter::members() {
  for (auto [index, type] : llvm::enumerate(kernel.getArgumentTypes()))
    if (index != op.getPosition())
      w.line("const " + memoryType(elementOf(type)) + " *in" + Twine(index) +
             ";");
  if (op.getKeep())
    w.line("float *product;");
  for (auto [index, type] : llvm::enumerate(kernel.getResultTypes()))
    w.line(memoryType(elementOf(type)) + " *out" + Twine(index) + ";");
  for (auto [index, result] : llvm::enumerate(model.results))
    if (isMapped(wayOf(model, result)))
      w.line("mpt::TensorMap map" + Twine(index) + ";");
  w.blank();
  if (has(Way::RowMaxima)) {
    w.open("struct State {");
    for (auto [index, result] : llvm::enumerate(model.results))
      if (wayOf(model, result) == Way::RowMaxima)
        w.line("float largest" + Twine(index) + "[2];");
    w.close("};");
  }
  if (int64_t bytes = getEpilogueStaging(model))
    w.line("static constexpr int stagingPerColumn = " + Twine(bytes) + ";");
}

void Emitter::begin() {
  if (!has(Way::RowMaxima))
    return;
  w.line("__device__ __forceinline__ void begin(State &state,");
  w.line("                                      const mpt::gemm::Tile &) const "
         "{");
  w.enter();
  for (auto [index, result] : llvm::enumerate(model.results))
    if (wayOf(model, result) == Way::RowMaxima)
      w.line(numbered("state.largest", index) +
             "[0] = " + numbered("state.largest", index) + "[1] = 0.0f;");
  w.close();
}

/// The nodes for one element of the pair, into the variables of the results.
void Emitter::element() {
  std::vector<llvm::SmallSet<unsigned, 4>> needed(model.nodes.size());
  for (const KernelNode &node : model.nodes)
    for (NodeUse use : node.operands)
      needed[use.node].insert(use.result);
  for (const KernelResult &result : model.results)
    needed[result.value.node].insert(result.value.result);
  w.line("if (!at.inside[i])");
  w.line("  continue;");
  w.line("const int64_t row = at.row, c = at.column + i;");
  w.line("(void)row, (void)c;");
  for (auto [id, node] : llvm::enumerate(model.nodes)) {
    if (node.kind == NodeKind::RowReduce)
      continue;
    if (node.kind == NodeKind::Argument && node.argument == op.getPosition())
      nodes.setValue({static_cast<unsigned>(id), 0},
                     {"v[i]", Binding::Atom,
                      elementOf(kernel.getArgumentTypes()[node.argument])});
    else
      nodes.evaluate(id, needed[id]);
  }
  for (auto [index, result] : llvm::enumerate(model.results))
    w.assign(numbered("y", index) + "[i]",
             toMemory(nodes.value(storedOf(model, result))));
}

void Emitter::store(unsigned index) {
  const KernelResult &result = model.results[index];
  std::string y = numbered("y", index), out = numbered("out", index);
  switch (wayOf(model, result)) {
  case Way::Registers:
    w.line("mpt::gemm::storePair(" + out + " + int64_t(at.row) * " +
           Twine(model.columns) + " + at.column, " + y + ", at);");
    return;
  case Way::Codes:
    w.line("mpt::gemm::stageCodes(" + stagingAt(index, "at.tile") + ", at, " +
           y + ");");
    return;
  case Way::TransposedCodes:
    w.line("mpt::gemm::stageTransposed(" + stagingAt(index, "at.tile") +
           ", at, " + y + ");");
    return;
  case Way::ColumnSums:
    w.line("mpt::gemm::stageColumns(" + stagingAt(index, "at.tile") + ", at, " +
           y + ");");
    return;
  case Way::RowMaxima:
    w.line("mpt::gemm::foldRow(" + numbered("state.largest", index) + ", at, " +
           y + ");");
    return;
  }
}

void Emitter::visit() {
  w.line("template <typename S>");
  w.line("__device__ __forceinline__ void visit(S &state, const "
         "mpt::gemm::Pair &at,");
  w.line("                                      float (&v)[2]) const {");
  w.enter();
  w.line("(void)state;");
  for (auto [index, result] : llvm::enumerate(model.results)) {
    Type element = model.getElementType(storedOf(model, result));
    w.line(memoryType(element) + " y" + Twine(index) + "[2] = {};");
  }
  w.line("MPT_UNROLL");
  w.open("for (int i = 0; i < 2; ++i) {");
  element();
  w.close();
  if (op.getKeep())
    w.line("mpt::gemm::storePair(product + int64_t(at.row) * " +
           Twine(model.columns) + " + at.column, v, at);");
  for (unsigned index = 0; index < model.results.size(); ++index)
    store(index);
  w.close();
}

void Emitter::end() {
  if (getEpilogueStaging(model) == 0 && !has(Way::RowMaxima))
    return;
  w.line("template <typename S>");
  w.line("__device__ __forceinline__ void end(S &state,");
  w.line("                                    const mpt::gemm::Tile &tile) "
         "const {");
  w.enter();
  w.line("(void)state;");
  for (auto [index, result] : llvm::enumerate(model.results)) {
    std::string out = numbered("out", index);
    switch (wayOf(model, result)) {
    case Way::Registers:
      break;
    case Way::Codes:
      w.line("mpt::gemm::storeCodes(&" + numbered("map", index) + ", tile, " +
             stagingAt(index, "tile") + ");");
      break;
    case Way::TransposedCodes:
      w.line("mpt::gemm::storeTransposed(&" + numbered("map", index) +
             ", tile, " + stagingAt(index, "tile") + ");");
      break;
    case Way::ColumnSums:
      w.line("mpt::gemm::sumColumns(" + out + ", tile, " +
             stagingAt(index, "tile") + ");");
      break;
    case Way::RowMaxima:
      w.line("mpt::gemm::storeRowMaxima(" + out + ", tile, " +
             numbered("state.largest", index) + ");");
      break;
    }
  }
  w.close();
}

void Emitter::pointers() {
  w.line("template <typename Visit> void visitPointers(Visit visit) const {");
  w.enter();
  for (unsigned index = 0; index < kernel.getNumArguments(); ++index)
    if (index != op.getPosition())
      w.line("visit(in" + Twine(index) + ");");
  if (op.getKeep())
    w.line("visit(product);");
  for (auto [index, result] : llvm::enumerate(model.results))
    w.line("visit(out" + Twine(index) + ");");
  w.close();
}

/// The maps of what the copy engine stores.
void Emitter::describe() {
  if (!has(Way::Codes) && !has(Way::TransposedCodes))
    return;
  w.open("std::string describe(int m, int n) {");
  w.line("std::string error;");
  for (auto [index, result] : llvm::enumerate(model.results)) {
    Way way = wayOf(model, result);
    if (!isMapped(way))
      continue;
    std::string out = numbered("out", index);
    std::string map = way == Way::Codes
                          ? "resultMap(" + out + ", m, n)"
                          : "transposedResultMap(" + out + ", m, n, " +
                                std::to_string(kFusedTileColumns) + ")";
    w.line("if (error.empty())");
    w.line("  error = mpt::encodeTensorMap(");
    w.line("      " + numbered("map", index) + ", mpt::gemm::" + map + ");");
  }
  w.line("return error;");
  w.close();
}

void Emitter::run() {
  comment();
  w.open("struct " + getEpilogueName(op) + " : mpt::gemm::Op {");
  members();
  begin();
  visit();
  end();
  pointers();
  describe();
  w.close("};");
}

} // namespace

std::string cuda::getEpilogueName(FusedMatmulOp op) {
  std::string name = "Epilogue_" + op.getEpilogue().str();
  if (op.getPosition())
    name += "_at" + std::to_string(op.getPosition());
  return op.getKeep() ? name + "_keep" : name;
}

void cuda::emitEpilogue(FusedMatmulOp op, const KernelModel &model,
                        SourceWriter &w) {
  Emitter(op, model, w).run();
}

std::string cuda::getEpilogueValue(FusedMatmulOp op, const KernelModel &model,
                                   ArrayRef<std::string> arguments,
                                   ArrayRef<std::string> results) {
  std::string text = "{{}";
  for (const std::string &each : arguments)
    text += ", " + each;
  for (const std::string &each : results)
    text += ", " + each;
  for (const KernelResult &result : model.results)
    if (isMapped(wayOf(model, result)))
      text += ", {}";
  return text + "}";
}
