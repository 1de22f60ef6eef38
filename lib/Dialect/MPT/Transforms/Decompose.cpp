//===- Decompose.cpp - composite ops become primitives --------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Applies the ops' own decompositions and brings every reduction into one of
// the two forms that kernels run.
//
//===----------------------------------------------------------------------===//

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mpt/Dialect/MPT/IR/MPTDialect.h"
#include "mpt/Dialect/MPT/Transforms/Passes.h"

#define DEBUG_TYPE "mpt-decompose"

namespace mpt {
#define GEN_PASS_DEF_DECOMPOSE
#include "mpt/Dialect/MPT/Transforms/Passes.h.inc"
} // namespace mpt

using namespace mlir;
using namespace mpt;

namespace {

/// Gives the ops before `op`, down to `lastOld`, the name of `op`.
void inheritName(Operation *op, Operation *lastOld) {
  auto name = op->getAttrOfType<StringAttr>(kNameAttr);
  for (Operation *it = op->getPrevNode(); name && it != lastOld;
       it = it->getPrevNode())
    if (!it->hasAttr(kNameAttr))
      it->setAttr(kNameAttr, name);
}

void decompose(DecomposableOpInterface op) {
  OpBuilder builder(op);
  Operation *lastOld = op->getPrevNode();
  SmallVector<Value> results = op.decompose(builder);
  inheritName(op, lastOld);
  op->replaceAllUsesWith(results);
  op->erase();
}

/// A reduction rewritten on a matrix.
struct ReduceLowering {
  ReduceOp op;
  OpBuilder b;
  Location loc;

  explicit ReduceLowering(ReduceOp op) : op(op), b(op), loc(op.getLoc()) {}

  Value reshape(Value x, ArrayRef<int64_t> shape) {
    auto element = cast<RankedTensorType>(x.getType()).getElementType();
    return b.createOrFold<ReshapeOp>(loc, RankedTensorType::get(shape, element),
                                     x);
  }
  Value alongRows(Value matrix) {
    return ReduceOp::create(b, loc, op.getKind(), matrix, ArrayRef<int64_t>{1});
  }
  /// [R, C] to [1, C].
  Value downColumns(Value matrix) {
    Value chunks = ReduceChunksOp::create(b, loc, matrix);
    if (cast<RankedTensorType>(chunks.getType()).getDimSize(0) == 1)
      return chunks;
    return ReduceOp::create(b, loc, Reduction::Sum, chunks,
                            ArrayRef<int64_t>{0});
  }
  FailureOr<Value> lower();
};

/// Dims of size 1 do not count; what is left is all, a suffix or a prefix of
/// the axes, else a transpose makes it a prefix.
FailureOr<Value> ReduceLowering::lower() {
  auto type = cast<RankedTensorType>(op.getX().getType());
  SmallVector<int64_t> reducedDims, keptDims;
  int64_t reduced = 1, kept = 1;
  for (int64_t d = 0; d < type.getRank(); ++d) {
    bool isReduced = llvm::is_contained(op.getAxes(), d);
    (isReduced ? reduced : kept) *= type.getDimSize(d);
    if (type.getDimSize(d) != 1)
      (isReduced ? reducedDims : keptDims).push_back(d);
  }
  Value x = op.getX();
  if (kept == 1) { // all axes: along the rows, then over the rows' values
    int64_t columns = type.getRank() ? type.getShape().back() : 1;
    Value rows = alongRows(reshape(x, {reduced / columns, columns}));
    return reduced == columns
               ? rows
               : alongRows(reshape(rows, {1, reduced / columns}));
  }
  if (keptDims.empty() || reducedDims.empty() ||
      keptDims.back() < reducedDims.front())
    return alongRows(reshape(x, {kept, reduced}));
  if (op.getKind() != Reduction::Sum)
    return op.emitOpError() << "named '" << getStableName(op)
                            << "': only sums run "
                               "over leading axes, found "
                            << stringifyReduction(op.getKind());
  if (reducedDims.back() > keptDims.front()) {
    SmallVector<int64_t> permutation(reducedDims), shape;
    for (int64_t d = 0; d < type.getRank(); ++d)
      if (type.getDimSize(d) == 1)
        permutation.push_back(d);
    permutation.append(keptDims);
    for (int64_t d : permutation)
      shape.push_back(type.getDimSize(d));
    x = TransposeOp::create(b, loc,
                            RankedTensorType::get(shape, type.getElementType()),
                            x, permutation);
  }
  return downColumns(reshape(x, {reduced, kept}));
}

/// Whether kernels run the reduction as it is.
bool isPrimitive(ReduceOp op) {
  auto type = cast<RankedTensorType>(op.getX().getType());
  if (op.getAxes().size() != 1)
    return false;
  if (op.getAxes()[0] == type.getRank() - 1)
    return type.getNumElements() != type.getShape().back() ||
           type.getRank() == 2;
  return op.getAxes()[0] == 0 && op.getX().getDefiningOp<ReduceChunksOp>();
}

struct Decompose : mpt::impl::DecomposeBase<Decompose> {
  void runOnOperation() override {
    SmallVector<DecomposableOpInterface> composites;
    getOperation().walk(
        [&](DecomposableOpInterface op) { composites.push_back(op); });
    for (DecomposableOpInterface op : composites)
      decompose(op);
    SmallVector<ReduceOp> reductions;
    getOperation().walk([&](ReduceOp op) {
      if (!isPrimitive(op))
        reductions.push_back(op);
    });
    for (ReduceOp op : reductions) {
      Operation *lastOld = op->getPrevNode();
      ReduceLowering lowering(op);
      FailureOr<Value> result = lowering.lower();
      if (failed(result))
        return signalPassFailure();
      Value y = lowering.reshape(*result, op.getY().getType().getShape());
      inheritName(op, lastOld);
      op.replaceAllUsesWith(y);
      op.erase();
    }
  }
};

} // namespace
