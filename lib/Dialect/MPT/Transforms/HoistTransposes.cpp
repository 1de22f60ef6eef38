//===- HoistTransposes.cpp - transposes in front of a product's casts -----===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Heads are merged by a transpose that a product can write through, if it is
// all that reads the result, and a reshape. Casts and maxima do not care for
// the order of the elements: they read the merged heads too.
//
//===----------------------------------------------------------------------===//

#include "mpt/Dialect/MPT/IR/MPTDialect.h"
#include "mpt/Dialect/MPT/IR/Signature.h"
#include "mpt/Dialect/MPT/Transforms/Passes.h"

#define DEBUG_TYPE "mpt-hoist-transposes"

namespace mpt {
#define GEN_PASS_DEF_HOISTTRANSPOSES
#include "mpt/Dialect/MPT/Transforms/Passes.h.inc"
} // namespace mpt

using namespace mlir;
using namespace mpt;

namespace {

/// What reads a value: one view in several places, the same view of its codes,
/// and maxima.
struct Readers {
  Operation *view = nullptr; ///< the first that was found
  SmallVector<Operation *> views;
  SmallVector<QuantizeOp> casts;
  SmallVector<ReduceOp> maxima;

  /// Whether `op` is the view that all readers have in common.
  bool join(Operation *op) {
    if (!isa<TransposeOp, ReshapeOp>(op))
      return false;
    if (!view)
      view = op;
    auto transpose = dyn_cast<TransposeOp>(op);
    return op->getName() == view->getName() && getShape(op) == getShape(view) &&
           (!transpose || transpose.getPermutation() ==
                              cast<TransposeOp>(view).getPermutation());
  }
  static ArrayRef<int64_t> getShape(Operation *op) {
    return cast<RankedTensorType>(op->getResult(0).getType()).getShape();
  }
};

/// Whether the order of the elements does not matter to `op`.
bool isMaximumOfAll(ReduceOp op) {
  return op.getKind() == Reduction::AbsMax &&
         static_cast<int64_t>(op.getAxes().size()) ==
             op.getX().getType().getRank();
}

bool hasOneScale(QuantizeOp cast) {
  return !cast.getScale() || cast.getScale().getType().getRank() == 0;
}

/// Sorts the readers; failure if one needs the value as it is.
LogicalResult collect(Value value, Readers &readers) {
  for (Operation *user : value.getUsers()) {
    if (auto reduce = dyn_cast<ReduceOp>(user)) {
      if (!isMaximumOfAll(reduce))
        return failure();
      readers.maxima.push_back(reduce);
    } else if (auto cast = dyn_cast<QuantizeOp>(user)) {
      if (!hasOneScale(cast) ||
          llvm::any_of(cast.getY().getUsers(), [&](Operation *reader) {
            return !readers.join(reader);
          }))
        return failure();
      readers.casts.push_back(cast);
    } else if (readers.join(user)) {
      readers.views.push_back(user);
    } else {
      return failure();
    }
  }
  return success(readers.view && !readers.casts.empty());
}

/// Has the maximum read `x`, which is the same in another shape.
void readInstead(ReduceOp reduce, Value x) {
  OpBuilder builder(reduce);
  auto rank = cast<RankedTensorType>(x.getType()).getRank();
  auto op = ReduceOp::create(builder, reduce.getLoc(), reduce.getKind(), x,
                             llvm::to_vector(llvm::seq<int64_t>(0, rank)));
  Value shaped = builder.createOrFold<ReshapeOp>(
      reduce.getLoc(), reduce.getY().getType(), op.getY());
  setStableName(op, getStableName(reduce));
  setStableName(shaped.getDefiningOp(), getStableName(reduce));
  reduce.replaceAllUsesWith(shaped);
  reduce.erase();
}

/// Has all readers read one view of the value, which it returns.
Value hoist(Value value, Readers &readers) {
  OpBuilder builder(value.getContext());
  builder.setInsertionPointAfterValue(value);
  SmallVector<int64_t> shape(Readers::getShape(readers.view));
  auto likeView = [&](Value of) {
    auto type = cast<RankedTensorType>(of.getType());
    return RankedTensorType::get(shape, type.getElementType());
  };
  Operation *view = builder.clone(*readers.view);
  view->setOperand(0, value);
  view->getResult(0).setType(likeView(value));
  Value viewed = view->getResult(0);
  for (QuantizeOp cast : readers.casts) {
    SmallVector<Operation *> old(cast.getY().getUsers());
    cast.getY().setType(likeView(cast.getY()));
    cast.getXMutable().assign(viewed);
    for (Operation *each : old) {
      each->getResult(0).replaceAllUsesWith(cast.getY());
      each->erase();
    }
  }
  for (Operation *each : readers.views) {
    each->getResult(0).replaceAllUsesWith(viewed);
    each->erase();
  }
  for (ReduceOp reduce : readers.maxima)
    readInstead(reduce, viewed);
  return viewed;
}

/// Whether a product can write through `op`: the last dim must stay.
bool isWritable(Operation *op) {
  auto transpose = dyn_cast<TransposeOp>(op);
  if (!transpose)
    return false;
  ArrayRef<int64_t> permutation = transpose.getPermutation();
  return permutation.back() + 1 == static_cast<int64_t>(permutation.size());
}

struct HoistTransposes : mpt::impl::HoistTransposesBase<HoistTransposes> {
  void runOnOperation() override {
    func::FuncOp step =
        getStage(getOperation(), "step", "mpt-hoist-transposes");
    if (!step)
      return signalPassFailure();
    for (auto product : step.getOps<ProductOpInterface>()) {
      Readers readers, readersOfTurned;
      if (failed(collect(product->getResult(0), readers)) ||
          !isWritable(readers.view))
        continue;
      numHoisted += readers.casts.size();
      Value turned = hoist(product->getResult(0), readers);
      if (succeeded(collect(turned, readersOfTurned)) &&
          isa<ReshapeOp>(readersOfTurned.view))
        hoist(turned, readersOfTurned);
    }
  }
};

} // namespace
