//===- AttentionOps.cpp - attention as one op -----------------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Verifiers of attention and its gradient, which share operands, attributes and
// rules, and the sizes that there are kernels for.
//
//===----------------------------------------------------------------------===//

#include "mpt/Dialect/MPT/IR/MPTDialect.h"

using namespace mlir;
using namespace mpt;

std::string AttentionOp::unsupported(int64_t sequence, int64_t headSize) {
  if (headSize < 32 || headSize > 128 || headSize % 16)
    return "heads of " + std::to_string(headSize) +
           " elements, expected 32 to 128 in steps of 16";
  if (sequence % 16)
    return "sequences of " + std::to_string(sequence) +
           ", expected a multiple of 16";
  return "";
}

namespace {

RankedTensorType typeOf(Value value) {
  return cast<RankedTensorType>(value.getType());
}

/// Checks that each value has the shape and one of the element types.
LogicalResult checkAll(Operation *op, StringRef what, ValueRange values,
                       ArrayRef<int64_t> shape, bool f32Too) {
  for (Value value : values) {
    RankedTensorType type = typeOf(value);
    Type element = type.getElementType();
    if (type.getShape() != shape ||
        !(element.isBF16() || (f32Too && element.isF32())))
      return op->emitOpError()
             << "takes " << what << " of type "
             << RankedTensorType::get(shape,
                                      BFloat16Type::get(op->getContext()))
             << (f32Too ? " (or f32)" : "") << ", found " << type;
  }
  return success();
}

/// What both ops ask of sizes, mask and dropout.
template <typename Op> LogicalResult checkCommon(Op op) {
  ArrayRef<int64_t> shape = typeOf(op.getQuery()).getShape();
  if (shape.size() != 4)
    return op.emitOpError()
           << "takes a query [batch, sequence, heads, head size], found "
           << op.getQuery().getType();
  std::string problem = AttentionOp::unsupported(shape[1], shape[3]);
  if (!problem.empty())
    return op.emitOpError() << "has " << problem;
  if (failed(checkAll(op, "operands",
                      {op.getQuery(), op.getKey(), op.getValue()}, shape,
                      false)))
    return failure();
  if (Value bias = op.getBias()) {
    ArrayRef<int64_t> found = typeOf(bias).getShape();
    if (found.size() != 4 || (found[0] != 1 && found[0] != shape[0]) ||
        found[1] != 1 || found[2] != 1 || found[3] != shape[1])
      return op.emitOpError() << "takes a bias [" << shape[0] << " or 1, 1, 1, "
                              << shape[1] << "], found " << bias.getType();
  }
  bool drops = op.getKeepProbability().has_value();
  if (drops != bool(op.getSeed()) || drops != bool(op.getStep()) ||
      drops != op.getDropoutId().has_value())
    return op.emitOpError(
        "takes seed, step, keep_probability and dropout_id, or none of them");
  if (!drops)
    return success();
  float keep = op.getKeepProbability()->convertToFloat();
  if (!(keep > 0.0f && keep <= 1.0f))
    return op.emitOpError()
           << "keep_probability must be in (0, 1], found " << keep;
  return success();
}

/// Checks f32 tensors with a number per row of the scores.
LogicalResult checkRows(Operation *op, ValueRange values,
                        ArrayRef<int64_t> shape) {
  int64_t expected[] = {shape[0], shape[2], shape[1]};
  for (Value value : values)
    if (typeOf(value).getShape() != ArrayRef(expected))
      return op->emitOpError()
             << "has a number per row of the scores as [" << shape[0] << ", "
             << shape[2] << ", " << shape[1] << "], found " << value.getType();
  return success();
}

} // namespace

LogicalResult AttentionOp::verify() {
  if (failed(checkCommon(*this)))
    return failure();
  ArrayRef<int64_t> shape = typeOf(getQuery()).getShape();
  if (failed(checkAll(*this, "an output", getOutput(), shape, true)))
    return failure();
  return checkRows(*this, {getRowMax(), getLogSum()}, shape);
}

LogicalResult AttentionGradOp::verify() {
  if (failed(checkCommon(*this)))
    return failure();
  ArrayRef<int64_t> shape = typeOf(getQuery()).getShape();
  if (failed(checkAll(*this, "an output", getOutput(), shape, true)) ||
      failed(checkAll(*this, "a gradient of the output", getGradOutput(), shape,
                      false)) ||
      failed(checkAll(*this, "gradients",
                      {getGradQuery(), getGradKey(), getGradValue()}, shape,
                      true)))
    return failure();
  return checkRows(*this, {getRowMax(), getLogSum(), getRowProducts()}, shape);
}
