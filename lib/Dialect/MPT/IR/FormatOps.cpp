//===- FormatOps.cpp - casts and what they become -------------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Verifiers and scalar bodies of the ops that change formats.
//
//===----------------------------------------------------------------------===//

#include "mpt/Dialect/MPT/IR/MPTDialect.h"
#include "mpt/Numerics/Scales.h"

using namespace mlir;
using namespace mpt;

FormatAttr CastOp::getFormat() { return ::mpt::getFormat(getY().getType()); }

LogicalResult CastOp::verify() {
  if (!getFormat())
    return emitOpError() << "needs a result with a #mpt.format encoding, found "
                         << getY().getType();
  if (getX().getType().getEncoding())
    return emitOpError() << "of a value that is held in a format already: "
                         << getX().getType();
  return success();
}

Type mpt::getStorageType(MLIRContext *context, Storage storage) {
  switch (storage) {
  case Storage::F32:
    return Float32Type::get(context);
  case Storage::BF16:
    return BFloat16Type::get(context);
  case Storage::E4M3:
    return Float8E4M3FNType::get(context);
  case Storage::E5M2:
    return Float8E5M2Type::get(context);
  case Storage::I8:
    return IntegerType::get(context, 8);
  }
  llvm_unreachable("all storages are listed");
}

float mpt::getStorageMax(Type storage, int64_t margin) {
  num::Format format = storage.isF32()                  ? num::Format::F32
                       : storage.isBF16()               ? num::Format::BF16
                       : isa<Float8E4M3FNType>(storage) ? num::Format::E4M3
                       : isa<Float8E5M2Type>(storage)   ? num::Format::E5M2
                                                        : num::Format::INT8;
  return num::formatMax(format) * num::marginFactor(static_cast<int>(margin));
}

static bool needsScale(Type storage) {
  return !storage.isF32() && !storage.isBF16();
}

/// A scale belongs to FP8 and INT8 storage, and only to that, and broadcasts
/// to the tensor `shaped`.
static LogicalResult verifyScale(Operation *op, Type storage, Value scale,
                                 Value shaped) {
  if (needsScale(storage) != bool(scale))
    return op->emitOpError() << "storage " << storage
                             << (scale ? " takes no scale" : " needs a scale");
  if (!scale)
    return success();
  ArrayRef<int64_t> shape = cast<RankedTensorType>(shaped.getType()).getShape();
  auto merged = broadcastShapes(
      cast<RankedTensorType>(scale.getType()).getShape(), shape);
  if (!merged || ArrayRef(*merged) != shape)
    return op->emitOpError()
           << "takes a scale that broadcasts to " << shaped.getType()
           << ", found " << scale.getType();
  return success();
}

static LogicalResult verifyShape(Operation *op, Value x, Value y) {
  if (cast<RankedTensorType>(x.getType()).getShape() !=
      cast<RankedTensorType>(y.getType()).getShape())
    return op->emitOpError() << "keeps the shape, found " << x.getType()
                             << " and " << y.getType();
  return success();
}

LogicalResult ScaleOp::verify() {
  Type storage = getStorage();
  if (!isa<Float8E4M3FNType, Float8E5M2Type>(storage) &&
      !storage.isSignlessInteger(8))
    return emitOpError() << "storage must be f8E4M3FN, f8E5M2 or i8, found "
                         << storage;
  auto margin = static_cast<int64_t>(getMargin());
  if (margin < -FormatAttr::kMaxMargin || margin > FormatAttr::kMaxMargin)
    return emitOpError() << "margin must be " << -FormatAttr::kMaxMargin
                         << " to " << FormatAttr::kMaxMargin << ", found "
                         << margin;
  if (getPrevious() && getPrevious().getType() != getAmax().getType())
    return emitOpError() << "takes a previous scale per amax, found "
                         << getPrevious().getType() << " and "
                         << getAmax().getType();
  return success();
}
void ScaleOp::emitScalar(ScalarEmitter &e, ArrayRef<Scalar> x,
                         SmallVectorImpl<Scalar> &y) {
  Scalar scale = x.size() > 1 ? e.scaleOr(x[0], getStorage(), getMargin(), x[1])
                              : e.scaleOf(x[0], getStorage(), getMargin());
  y.push_back(scale);
  y.push_back(e.binary(BinaryFn::Div, e.constant(1.0f), scale));
}

LogicalResult QuantizeOp::verify() {
  if (failed(verifyShape(*this, getX(), getY())))
    return failure();
  return verifyScale(*this, getY().getType().getElementType(), getScale(),
                     getX());
}
void QuantizeOp::emitScalar(ScalarEmitter &e, ArrayRef<Scalar> x,
                            SmallVectorImpl<Scalar> &y) {
  Scalar scaled = x.size() > 1 ? e.binary(BinaryFn::Mul, x[0], x[1]) : x[0];
  y.push_back(e.encode(scaled, getY().getType().getElementType()));
}

/// Ten rounds of Philox: never repeated.
bool QuantizeStochasticOp::isCheap() { return false; }
LogicalResult QuantizeStochasticOp::verify() {
  if (failed(verifyShape(*this, getX(), getY())))
    return failure();
  Type storage = getY().getType().getElementType();
  if (storage.isF32())
    return emitOpError("has nothing to round to f32");
  return verifyScale(*this, storage, getScale(), getX());
}
void QuantizeStochasticOp::emitScalar(ScalarEmitter &e, ArrayRef<Scalar> x,
                                      SmallVectorImpl<Scalar> &y) {
  Scalar scaled = x.size() > 4 ? e.binary(BinaryFn::Mul, x[0], x[4]) : x[0];
  y.push_back(e.encodeStochastic(scaled, getY().getType().getElementType(),
                                 x[1], x[2], x[3]));
}

/// The largest f32 that rounds to the storage's largest value, to nearest even:
/// half a step above is a tie, which leaves E4M3 only.
static float largestInRange(Type storage) {
  if (storage.isF32())
    return std::numeric_limits<float>::max();
  if (storage.isBF16())
    return 0x1.fefffep+127f;
  if (isa<Float8E4M3FNType>(storage))
    return 464.0f;
  return isa<Float8E5M2Type>(storage) ? 0x1.dffffep+15f : 0x1.fdfffep+6f;
}

LogicalResult SentinelsOp::verify() {
  for (Value other : {Value(getCodes()), Value(getSaturated()),
                      Value(getFlushed()), Value(getNonFinite())})
    if (failed(verifyShape(*this, getX(), other)))
      return failure();
  return verifyScale(*this, getCodes().getType().getElementType(), getScale(),
                     getX());
}
void SentinelsOp::emitScalar(ScalarEmitter &e, ArrayRef<Scalar> x,
                             SmallVectorImpl<Scalar> &y) {
  Scalar zero = e.constant(0.0f), one = e.constant(1.0f);
  Scalar largest = e.constant(std::numeric_limits<float>::max());
  Scalar finite =
      e.compare(Predicate::LE, e.unary(UnaryFn::Abs, x[0]), largest);
  Scalar scaled = x.size() > 2 ? e.binary(BinaryFn::Mul, x[0], x[2]) : x[0];
  Scalar beyond = e.compare(
      Predicate::GT, e.unary(UnaryFn::Abs, scaled),
      e.constant(largestInRange(getCodes().getType().getElementType())));
  Scalar lost = e.logicalAnd(e.compare(Predicate::NE, x[0], zero),
                             e.compare(Predicate::EQ, e.decode(x[1]), zero));
  y.push_back(e.select(e.logicalAnd(finite, beyond), one, zero));
  y.push_back(e.select(e.logicalAnd(finite, lost), one, zero));
  y.push_back(e.select(finite, zero, one));
}

LogicalResult DequantizeOp::verify() {
  if (failed(verifyShape(*this, getX(), getY())))
    return failure();
  return verifyScale(*this, getX().getType().getElementType(),
                     getInverseScale(), getY());
}
void DequantizeOp::emitScalar(ScalarEmitter &e, ArrayRef<Scalar> x,
                              SmallVectorImpl<Scalar> &y) {
  Scalar value = e.decode(x[0]);
  y.push_back(x.size() > 1 ? e.binary(BinaryFn::Mul, value, x[1]) : value);
}
