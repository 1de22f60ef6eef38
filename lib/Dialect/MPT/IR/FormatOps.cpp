//===- FormatOps.cpp - casts and what they become -------------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Verifiers and scalar bodies of the ops that change formats.
//
//===----------------------------------------------------------------------===//

#include "mpt/Dialect/MPT/IR/MPTDialect.h"

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

static bool needsScale(Type storage) {
  return !storage.isF32() && !storage.isBF16();
}

/// A scale belongs to FP8 and INT8 storage, and only to that.
static LogicalResult verifyScale(Operation *op, Type storage, bool hasScale) {
  if (needsScale(storage) != hasScale)
    return op->emitOpError()
           << "storage " << storage
           << (hasScale ? " takes no scale" : " needs a scale");
  return success();
}

LogicalResult ScaleOp::verify() {
  Type storage = getStorage();
  if (!isa<Float8E4M3FNType, Float8E5M2Type>(storage) &&
      !storage.isSignlessInteger(8))
    return emitOpError() << "storage must be f8E4M3FN, f8E5M2 or i8, found "
                         << storage;
  return success();
}
void ScaleOp::emitScalar(ScalarEmitter &e, ArrayRef<Scalar> x,
                         SmallVectorImpl<Scalar> &y) {
  Scalar scale = e.scaleOf(x[0], getStorage());
  y.push_back(scale);
  y.push_back(e.binary(BinaryFn::Div, e.constant(1.0f), scale));
}

LogicalResult QuantizeOp::verify() {
  if (getX().getType().getShape() != getY().getType().getShape())
    return emitOpError() << "keeps the shape, found " << getX().getType()
                         << " and " << getY().getType();
  return verifyScale(*this, getY().getType().getElementType(),
                     bool(getScale()));
}
void QuantizeOp::emitScalar(ScalarEmitter &e, ArrayRef<Scalar> x,
                            SmallVectorImpl<Scalar> &y) {
  Scalar scaled = x.size() > 1 ? e.binary(BinaryFn::Mul, x[0], x[1]) : x[0];
  y.push_back(e.encode(scaled, getY().getType().getElementType()));
}

LogicalResult DequantizeOp::verify() {
  if (getX().getType().getShape() != getY().getType().getShape())
    return emitOpError() << "keeps the shape, found " << getX().getType()
                         << " and " << getY().getType();
  return verifyScale(*this, getX().getType().getElementType(),
                     bool(getInverseScale()));
}
void DequantizeOp::emitScalar(ScalarEmitter &e, ArrayRef<Scalar> x,
                              SmallVectorImpl<Scalar> &y) {
  Scalar value = e.decode(x[0]);
  y.push_back(x.size() > 1 ? e.binary(BinaryFn::Mul, value, x[1]) : value);
}
