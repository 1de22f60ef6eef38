//===- Epilogue.cpp - kernels that a product can take in ------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// See Epilogue.h.
//
//===----------------------------------------------------------------------===//

#include "mpt/Dialect/MPT/Analysis/Epilogue.h"
#include "mpt/Dialect/MPT/Analysis/OwnProducts.h"

using namespace mlir;
using namespace mpt;

namespace {

/// Codes are stored in rows of whole 16 bytes.
constexpr int64_t kCodeRow = 16;

bool isFloat8(Type element) {
  return isa<Float8E4M3FNType, Float8E5M2Type>(element);
}

/// Whether the node reads its argument where the domain is.
bool readsOwnPlace(const KernelModel &model, const KernelNode &node) {
  const AccessMap &access = node.access;
  bool sameRow = model.rows == 1
                     ? access.rowTerms.empty()
                     : ArrayRef(access.rowTerms) ==
                           ArrayRef(IndexTerm{1, model.rows, model.columns});
  return node.kind == NodeKind::Argument && sameRow && access.offset == 0 &&
         access.columnStride == 1 && access.columnTerms.empty();
}

/// Whether a result is the largest magnitude of each row.
bool isRowMaximum(const KernelModel &model, const KernelResult &result) {
  const KernelNode &node = model.nodes[result.value.node];
  return result.kind == ResultKind::PerRow &&
         node.kind == NodeKind::RowReduce &&
         cast<ReduceOp>(node.op).getKind() == Reduction::AbsMax;
}

std::string whyNotNode(const KernelModel &model, const KernelNode &node,
                       unsigned position) {
  if (node.kind == NodeKind::Gather)
    return "gathers";
  if (node.kind == NodeKind::LeadingReduce)
    return "sums columns";
  if (node.kind == NodeKind::Argument && node.argument == position &&
      !readsOwnPlace(model, node))
    return "reads the product elsewhere than where it is";
  for (NodeUse use : node.operands)
    if (model.nodes[use.node].kind == NodeKind::RowReduce)
      return "needs a whole row before it goes on";
  return "";
}

/// Whether a result is the domain's matrix, transposed: one tensor map then
/// describes it to the copy engine.
bool isWholeTransposed(const KernelModel &model, const KernelResult &result) {
  const AccessMap &access = result.access;
  return access.offset == 0 && access.columnTerms.empty() &&
         access.columnStride == model.rows &&
         ArrayRef(access.rowTerms) == ArrayRef(IndexTerm{1, model.rows, 1});
}

/// Only codes are transposed on their way through shared memory; whole rows of
/// 16 bytes are what the copy engine can step by.
std::string whyNotTransposed(const KernelModel &model,
                             const KernelResult &result) {
  if (!isFloat8(model.getElementType(result.value)))
    return "has a transposed result that is not FP8";
  if (model.rows % kCodeRow)
    return "has transposed codes in rows of other than whole 16 bytes";
  if (!isWholeTransposed(model, result))
    return "has codes that are transposed other than as one matrix";
  return "";
}

std::string whyNotResult(const KernelModel &model, const KernelResult &result) {
  Type element = model.getElementType(result.value);
  if (isRowMaximum(model, result))
    return "";
  if (result.kind == ResultKind::Full) {
    if (element.isF32() || element.isBF16())
      return "";
    if (isFloat8(element))
      return model.columns % kCodeRow ? "has codes in rows of other than whole "
                                        "16 bytes"
                                      : "";
    return "has a result that is neither f32, bf16 nor FP8";
  }
  if (result.kind == ResultKind::Transposed)
    return whyNotTransposed(model, result);
  if (result.kind == ResultKind::Chunk)
    return "";
  return "has a result that is one number a row";
}

/// The kernel's model over rows of `columns`; none where it does not fit.
std::optional<KernelModel> buildOver(func::FuncOp kernel, int64_t columns) {
  // What it cannot be is no error here.
  ScopedDiagnosticHandler quiet(kernel.getContext(),
                                [](Diagnostic &) { return success(); });
  FailureOr<KernelModel> model = KernelModel::build(kernel, columns);
  if (failed(model) || model->columns != columns)
    return std::nullopt;
  return std::move(*model);
}

} // namespace

Epilogue mpt::getEpilogue(func::FuncOp kernel, unsigned position, int64_t m,
                          int64_t n) {
  Epilogue epilogue;
  auto model = buildOver(kernel, n);
  if (!model || model->rows != m) {
    epilogue.problem = "has other rows and columns";
    return epilogue;
  }
  epilogue.model = std::move(*model);
  auto note = [&](std::string problem) {
    if (epilogue.problem.empty())
      epilogue.problem = std::move(problem);
  };
  for (const KernelNode &node : epilogue.model.nodes)
    note(whyNotNode(epilogue.model, node, position));
  for (const KernelResult &result : epilogue.model.results)
    note(whyNotResult(epilogue.model, result));
  if (getStages(OwnProduct(), getEpilogueStaging(epilogue.model)) < 2)
    note("needs more shared memory than a block has");
  return epilogue;
}

int64_t mpt::getEpilogueStaging(const KernelModel &model,
                                const KernelResult &result) {
  constexpr int64_t rows = 64;
  if (result.kind == ResultKind::Chunk)
    return rows * sizeof(float);
  bool codes =
      result.kind == ResultKind::Full || result.kind == ResultKind::Transposed;
  return codes && isFloat8(model.getElementType(result.value)) ? rows : 0;
}

int64_t mpt::getEpilogueStaging(const KernelModel &model) {
  int64_t bytes = 0;
  for (const KernelResult &result : model.results)
    bytes += getEpilogueStaging(model, result);
  return bytes;
}

func::FuncOp mpt::getEpilogueFunction(FusedMatmulOp op) {
  return SymbolTable::lookupNearestSymbolFrom<func::FuncOp>(
      op, op.getEpilogueAttr());
}

SmallVector<unsigned> mpt::getZeroedResults(const KernelModel &model) {
  SmallVector<unsigned> results;
  for (auto [index, result] : llvm::enumerate(model.results))
    if (isRowMaximum(model, result))
      results.push_back(index);
  return results;
}
