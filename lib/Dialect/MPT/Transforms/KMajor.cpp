//===- KMajor.cpp - FP8 operands contiguous along the contraction ---------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Hopper's FP8 tensor cores read both operands along K, so cuBLASLt takes FP8
// only as A[M, K] times B[N, K]. Where a product reads codes the other way, the
// codes are transposed once, into a copy that all such products share.
//
//===----------------------------------------------------------------------===//

#include "mpt/Dialect/MPT/Analysis/Storage.h"
#include "mpt/Dialect/MPT/IR/MPTDialect.h"
#include "mpt/Dialect/MPT/IR/Signature.h"
#include "mpt/Dialect/MPT/Transforms/Passes.h"
#include "llvm/ADT/DenseMap.h"
#include "llvm/ADT/SmallVectorExtras.h"

#define DEBUG_TYPE "mpt-k-major"

namespace mpt {
#define GEN_PASS_DEF_KMAJOR
#include "mpt/Dialect/MPT/Transforms/Passes.h.inc"
} // namespace mpt

using namespace mlir;
using namespace mpt;

namespace {

bool isFloat8(Value value) {
  return isa<Float8E4M3FNType, Float8E5M2Type>(
      cast<RankedTensorType>(value.getType()).getElementType());
}

struct Driver {
  explicit Driver(func::FuncOp step) : step(step) {}

  func::FuncOp step;
  /// The transposed copy of a value: a matrix per batch element, or of all
  /// leading dims folded into the rows.
  DenseMap<Value, Value> copies[2];
  int64_t numCopies = 0;

  Value transposed(Value value, bool folded);
  void run(ScaledMatmulOp product);
};

/// The value with its last two dims exchanged, in memory of its own, right
/// behind its definition. `folded`: as [last, all others].
Value Driver::transposed(Value value, bool folded) {
  Value &copy = copies[folded][value];
  if (copy)
    return copy;
  OpBuilder builder(value.getContext());
  builder.setInsertionPointAfterValue(value);
  Location loc = value.getLoc();
  auto type = cast<RankedTensorType>(value.getType());
  auto typeOf = [&](ArrayRef<int64_t> shape) {
    return RankedTensorType::get(shape, type.getElementType());
  };
  Value source = value;
  SmallVector<int64_t> shape(type.getShape());
  if (folded && shape.size() > 2) {
    shape = {type.getNumElements() / shape.back(), shape.back()};
    source = ReshapeOp::create(builder, loc, typeOf(shape), source);
  }
  auto permutation = llvm::to_vector(llvm::seq<int64_t>(0, shape.size()));
  std::swap(permutation[shape.size() - 2], permutation[shape.size() - 1]);
  std::swap(shape[shape.size() - 2], shape[shape.size() - 1]);
  Value view = TransposeOp::create(builder, loc, typeOf(shape), source,
                                   builder.getDenseI64ArrayAttr(permutation));
  auto copied = CopyOp::create(builder, loc, view.getType(), view);
  setStableName(copied, (getValueName(value) +
                         (folded ? "/transposed_rows" : "/transposed"))
                            .str());
  ++numCopies;
  return copy = copied;
}

/// The same product of operands that are contiguous along K.
void Driver::run(ScaledMatmulOp product) {
  if (!isFloat8(product.getLhs()) || !isFloat8(product.getRhs()))
    return;
  // What counts is where elements lie, views included. A folded product
  // contracts over all leading dims: both operands turn.
  unsigned problem = 0;
  auto views = getProductViews(product, problem);
  bool folded = product.getFoldBatch();
  bool turnLhs = product.getTransposeLhs(),
       turnRhs = !product.getTransposeRhs();
  if (views && !folded) {
    turnLhs = views->lhs.columns != 1;
    turnRhs = views->rhs.rows != 1;
  }
  if (!turnLhs && !turnRhs)
    return;
  Value lhs = product.getLhs(), rhs = product.getRhs();
  if (turnLhs)
    lhs = transposed(lhs, folded);
  if (turnRhs)
    rhs = transposed(rhs, folded);
  OpBuilder builder(product);
  auto turned = ScaledMatmulOp::create(
      builder, product.getLoc(), product.getY().getType(), lhs, rhs,
      product.getLhsInverseScale(), product.getRhsInverseScale(),
      product.getTransposeLhs() != turnLhs,
      product.getTransposeRhs() != turnRhs,
      /*fold_batch=*/false, product.getRoleAttr());
  turned->setDiscardableAttrs(product->getDiscardableAttrDictionary());
  product.replaceAllUsesWith(turned.getY());
  product.erase();
}

struct KMajor : mpt::impl::KMajorBase<KMajor> {
  void runOnOperation() override {
    func::FuncOp step = getStage(getOperation(), "step", "mpt-k-major");
    if (!step)
      return signalPassFailure();
    Driver driver(step);
    SmallVector<ScaledMatmulOp> products(step.getOps<ScaledMatmulOp>());
    for (ScaledMatmulOp product : products)
      driver.run(product);
    numCopies = driver.numCopies;
  }
};

} // namespace
