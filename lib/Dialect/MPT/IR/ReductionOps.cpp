//===- ReductionOps.cpp - reductions, normalisation, losses ---------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Gradients, and the decomposition into primitives that defines each composite
// op for every back end.
//
//===----------------------------------------------------------------------===//

#include "mpt/Dialect/MPT/IR/MPTDialect.h"
#include <cmath>

using namespace mlir;
using namespace mpt;

namespace {
/// Short names for building primitives in sequence.
struct Primitives {
  OpBuilder &b;
  Location loc;

  Value constant(float value) { return ConstantOp::scalar(b, loc, value); }
  Value add(Value x, Value y) { return AddOp::create(b, loc, x, y); }
  Value sub(Value x, Value y) { return SubOp::create(b, loc, x, y); }
  Value mul(Value x, Value y) { return MulOp::create(b, loc, x, y); }
  Value div(Value x, Value y) { return DivOp::create(b, loc, x, y); }
  Value exp(Value x) { return ExpOp::create(b, loc, x); }
  Value rowSum(Value x) { return reduceRow(Reduction::Sum, x); }
  Value rowMax(Value x) { return reduceRow(Reduction::Max, x); }
  Value rowMean(Value x) {
    float n = cast<RankedTensorType>(x.getType()).getShape().back();
    return mul(rowSum(x), constant(1.0f / n));
  }
  /// Over all axes, as a rank-0 tensor.
  Value sumAll(Value x) {
    auto type = cast<RankedTensorType>(x.getType());
    auto axes = llvm::to_vector(llvm::seq<int64_t>(0, type.getRank()));
    Value sum = ReduceOp::create(b, loc, Reduction::Sum, x, axes);
    return ReshapeOp::create(
        b, loc, RankedTensorType::get({}, type.getElementType()), sum);
  }
  Value reshape(Value x, ArrayRef<int64_t> shape) {
    auto type = cast<RankedTensorType>(x.getType());
    return ReshapeOp::create(
        b, loc, RankedTensorType::get(shape, type.getElementType()), x);
  }

private:
  Value reduceRow(Reduction kind, Value x) {
    int64_t last = cast<RankedTensorType>(x.getType()).getRank() - 1;
    return ReduceOp::create(b, loc, kind, x, ArrayRef<int64_t>(last));
  }
};
} // namespace

//===----------------------------------------------------------------------===//
// reduce
//===----------------------------------------------------------------------===//

LogicalResult ReduceOp::inferReturnTypes(MLIRContext *context,
                                         std::optional<Location> location,
                                         Adaptor adaptor,
                                         SmallVectorImpl<Type> &types) {
  auto type = dyn_cast<RankedTensorType>(adaptor.getX().getType());
  if (!type)
    return emitOptionalError(location, "'mpt.reduce' takes a ranked tensor");
  SmallVector<int64_t> shape(type.getShape());
  for (int64_t axis : adaptor.getAxes()) {
    if (axis < 0 || axis >= type.getRank())
      return emitOptionalError(location, "'mpt.reduce' axis ", axis,
                               " is not an axis of ", type);
    shape[axis] = 1;
  }
  types.push_back(RankedTensorType::get(shape, type.getElementType()));
  return success();
}
LogicalResult ReduceOp::verify() {
  ArrayRef<int64_t> axes = getAxes();
  for (size_t i = 1; i < axes.size(); ++i)
    if (axes[i - 1] >= axes[i])
      return emitOpError() << "axes must be ascending, found [" << axes << "]";
  return success();
}
OpFoldResult ReduceOp::fold(FoldAdaptor) {
  return getX().getType() == getY().getType() && getKind() != Reduction::AbsMax
             ? getX()
             : Value();
}
LogicalResult ReduceOp::buildVJP(OpBuilder &b, ArrayRef<Value> dy,
                                 ArrayRef<bool> needed,
                                 MutableArrayRef<Value> dx) {
  if (getKind() != Reduction::Sum)
    return emitOpError() << "of kind " << stringifyReduction(getKind())
                         << " cannot be differentiated; expected sum";
  if (needed[0])
    dx[0] = BroadcastOp::create(b, getLoc(), withoutEncoding(getX().getType()),
                                dy[0]);
  return success();
}

LogicalResult ReduceChunksOp::inferReturnTypes(MLIRContext *context,
                                               std::optional<Location> location,
                                               Adaptor adaptor,
                                               SmallVectorImpl<Type> &types) {
  auto type = dyn_cast<RankedTensorType>(adaptor.getX().getType());
  if (!type || type.getRank() != 2)
    return emitOptionalError(location,
                             "'mpt.reduce_chunks' takes [R, C], found ",
                             adaptor.getX().getType());
  int64_t chunks = (type.getDimSize(0) + chunk - 1) / chunk;
  types.push_back(RankedTensorType::get({chunks, type.getDimSize(1)},
                                        type.getElementType()));
  return success();
}

//===----------------------------------------------------------------------===//
// softmax
//===----------------------------------------------------------------------===//

LogicalResult SoftmaxOp::verify() {
  if (getX().getType().getRank() < 1)
    return emitOpError() << "needs a last axis, found " << getX().getType();
  return success();
}
SmallVector<Value> SoftmaxOp::decompose(OpBuilder &b) {
  Primitives p{b, getLoc()};
  Value e = p.exp(p.sub(getX(), p.rowMax(getX())));
  return {p.mul(e, p.div(p.constant(1.0f), p.rowSum(e)))};
}
LogicalResult SoftmaxOp::buildVJP(OpBuilder &b, ArrayRef<Value> dy,
                                  ArrayRef<bool> needed,
                                  MutableArrayRef<Value> dx) {
  if (!needed[0])
    return success();
  Primitives p{b, getLoc()}; // dx = y (dy - sum(dy y))
  Value inner = p.rowSum(p.mul(dy[0], getY()));
  dx[0] = p.mul(getY(), p.sub(dy[0], inner));
  return success();
}

//===----------------------------------------------------------------------===//
// layer_norm
//===----------------------------------------------------------------------===//

LogicalResult LayerNormOp::verify() {
  auto x = getX().getType();
  if (x.getRank() < 1)
    return emitOpError() << "needs a last axis, found " << x;
  float epsilon = getEpsilon().convertToFloat();
  if (!(epsilon >= 0.0f && std::isfinite(epsilon)))
    return emitOpError() << "epsilon must be finite and not negative, found "
                         << epsilon;
  SmallVector<int64_t> row(x.getShape());
  int64_t columns = row.back();
  row.back() = 1;
  auto isVector = [&](auto type) {
    return type.getShape() == ArrayRef<int64_t>(columns);
  };
  if (!isVector(getGamma().getType()) || !isVector(getBeta().getType()))
    return emitOpError() << "gain and bias must have shape [" << columns
                         << "], found " << getGamma().getType() << " and "
                         << getBeta().getType();
  if (getY().getType().getShape() != x.getShape() ||
      getMean().getType().getShape() != ArrayRef<int64_t>(row) ||
      getRstd().getType().getShape() != ArrayRef<int64_t>(row))
    return emitOpError() << "result shapes do not follow from " << x;
  return success();
}
SmallVector<Value> LayerNormOp::decompose(OpBuilder &b) {
  Primitives p{b, getLoc()};
  Value mean = p.rowMean(getX());
  Value centred = p.sub(getX(), mean);
  Value variance = p.rowMean(p.mul(centred, centred));
  Value deviation = SqrtOp::create(
      b, getLoc(), p.add(variance, p.constant(getEpsilon().convertToFloat())));
  Value rstd = p.div(p.constant(1.0f), deviation);
  Value y = p.add(p.mul(p.mul(centred, rstd), getGamma()), getBeta());
  return {y, mean, rstd};
}
LogicalResult LayerNormOp::buildVJP(OpBuilder &b, ArrayRef<Value> dys,
                                    ArrayRef<bool> needed,
                                    MutableArrayRef<Value> grads) {
  Value dy = dys[0];
  if (!dy || dys[1] || dys[2])
    return emitOpError("is differentiated through its normalised result only");
  Primitives p{b, getLoc()};
  Value xhat = p.mul(p.sub(getX(), getMean()), getRstd());
  if (needed[0]) {
    // dx = rstd (g - mean(g) - xhat mean(g xhat)), g = dy gamma
    Value g = p.mul(dy, getGamma());
    Value projected = p.mul(xhat, p.rowMean(p.mul(g, xhat)));
    grads[0] = p.mul(getRstd(), p.sub(p.sub(g, p.rowMean(g)), projected));
  }
  if (needed[1])
    grads[1] = sumToShape(b, getLoc(), p.mul(dy, xhat), getGamma().getType());
  if (needed[2])
    grads[2] = sumToShape(b, getLoc(), dy, getBeta().getType());
  return success();
}

//===----------------------------------------------------------------------===//
// cross_entropy
//===----------------------------------------------------------------------===//

LogicalResult CrossEntropyOp::verify() {
  auto logits = getLogits().getType(), labels = getLabels().getType();
  if (logits.getRank() != 2 || labels.getRank() != 1 ||
      labels.getDimSize(0) != logits.getDimSize(0))
    return emitOpError() << "takes logits [R, C] and labels [R], found "
                         << logits << " and " << labels;
  if (getLogSumExp().getType().getShape() !=
      ArrayRef<int64_t>({logits.getDimSize(0), 1}))
    return emitOpError() << "log_sum_exp must be [R, 1], found "
                         << getLogSumExp().getType();
  return success();
}

/// labels as a column, and which rows count.
static std::pair<Value, Value> labelColumn(Primitives &p, CrossEntropyOp op) {
  auto type = op.getLabels().getType();
  Value column = p.reshape(op.getLabels(), {type.getDimSize(0), 1});
  auto scalar = RankedTensorType::get({}, type.getElementType());
  Value ignored = ConstantOp::create(
      p.b, p.loc,
      DenseElementsAttr::get(scalar, p.b.getIntegerAttr(type.getElementType(),
                                                        op.getIgnoreIndex())));
  Value valid = CompareOp::create(p.b, p.loc, Predicate::NE, column, ignored);
  return {column, valid};
}

/// Where a logit is the one of its row's label.
static Value isLabel(Primitives &p, CrossEntropyOp op, Value column) {
  auto type = op.getLabels().getType();
  Value iota = IotaOp::create(
      p.b, p.loc,
      RankedTensorType::get({1, op.getLogits().getType().getDimSize(1)},
                            type.getElementType()));
  return CompareOp::create(p.b, p.loc, Predicate::EQ, iota, column);
}

SmallVector<Value> CrossEntropyOp::decompose(OpBuilder &b) {
  Primitives p{b, getLoc()};
  Value x = getLogits();
  auto [column, valid] = labelColumn(p, *this);
  Value max = p.rowMax(x);
  Value sum = p.rowSum(p.exp(p.sub(x, max)));
  Value logSumExp = p.add(max, LogOp::create(b, getLoc(), sum));
  Value zero = p.constant(0.0f);
  Value picked = p.rowSum(
      SelectOp::create(b, getLoc(), isLabel(p, *this, column), x, zero));
  Value rowLoss =
      SelectOp::create(b, getLoc(), valid, p.sub(logSumExp, picked), zero);
  Value counted = SelectOp::create(b, getLoc(), valid, p.constant(1.0f), zero);
  Value count = p.sumAll(counted);
  return {p.div(p.sumAll(rowLoss), count), logSumExp, count};
}

LogicalResult CrossEntropyOp::buildVJP(OpBuilder &b, ArrayRef<Value> dys,
                                       ArrayRef<bool> needed,
                                       MutableArrayRef<Value> grads) {
  if (!dys[0] || dys[1] || dys[2])
    return emitOpError("is differentiated through its loss only");
  if (!needed[0])
    return success();
  Primitives p{b,
               getLoc()}; // (softmax - onehot) dloss / count where not ignored
  auto [column, valid] = labelColumn(p, *this);
  Value probability = p.exp(p.sub(getLogits(), getLogSumExp()));
  Value oneHot = SelectOp::create(b, getLoc(), isLabel(p, *this, column),
                                  p.constant(1.0f), p.constant(0.0f));
  Value weight = SelectOp::create(b, getLoc(), valid, p.div(dys[0], getCount()),
                                  p.constant(0.0f));
  grads[0] = p.mul(p.sub(probability, oneHot), weight);
  return success();
}
