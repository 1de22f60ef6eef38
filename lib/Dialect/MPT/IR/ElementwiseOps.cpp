//===- ElementwiseOps.cpp - semantics and gradients of elementwise ops ----===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Per op: verifier, scalar body and vector-Jacobian product, in one place.
//
//===----------------------------------------------------------------------===//

#include "mlir/IR/PatternMatch.h"
#include "mpt/Dialect/MPT/IR/MPTDialect.h"

using namespace mlir;
using namespace mpt;

namespace {
/// The gradient of a broadcast operand: `grad` summed to the operand's shape.
void setGrad(OpBuilder &builder, Operation *op, unsigned operand, Value grad,
             MutableArrayRef<Value> grads) {
  grads[operand] = sumToShape(builder, op->getLoc(), grad,
                              op->getOperand(operand).getType());
}

Value mul(OpBuilder &b, Location loc, Value x, Value y) {
  return MulOp::create(b, loc, x, y);
}
Value constant(OpBuilder &b, Location loc, float value) {
  return ConstantOp::scalar(b, loc, value);
}
} // namespace

//===----------------------------------------------------------------------===//
// Arithmetic
//===----------------------------------------------------------------------===//

void AddOp::emitScalar(ScalarEmitter &e, ArrayRef<Scalar> x,
                       SmallVectorImpl<Scalar> &y) {
  y.push_back(e.binary(BinaryFn::Add, x[0], x[1]));
}
LogicalResult AddOp::buildVJP(OpBuilder &b, ArrayRef<Value> dy,
                              ArrayRef<bool> needed,
                              MutableArrayRef<Value> dx) {
  for (unsigned i = 0; i < 2; ++i)
    if (needed[i])
      setGrad(b, *this, i, dy[0], dx);
  return success();
}

void SubOp::emitScalar(ScalarEmitter &e, ArrayRef<Scalar> x,
                       SmallVectorImpl<Scalar> &y) {
  y.push_back(e.binary(BinaryFn::Sub, x[0], x[1]));
}
LogicalResult SubOp::buildVJP(OpBuilder &b, ArrayRef<Value> dy,
                              ArrayRef<bool> needed,
                              MutableArrayRef<Value> dx) {
  if (needed[0])
    setGrad(b, *this, 0, dy[0], dx);
  if (needed[1])
    setGrad(b, *this, 1, NegOp::create(b, getLoc(), dy[0]), dx);
  return success();
}

void MulOp::emitScalar(ScalarEmitter &e, ArrayRef<Scalar> x,
                       SmallVectorImpl<Scalar> &y) {
  y.push_back(e.binary(BinaryFn::Mul, x[0], x[1]));
}
LogicalResult MulOp::buildVJP(OpBuilder &b, ArrayRef<Value> dy,
                              ArrayRef<bool> needed,
                              MutableArrayRef<Value> dx) {
  for (unsigned i = 0; i < 2; ++i)
    if (needed[i])
      setGrad(b, *this, i, mul(b, getLoc(), dy[0], getOperand(1 - i)), dx);
  return success();
}

void DivOp::emitScalar(ScalarEmitter &e, ArrayRef<Scalar> x,
                       SmallVectorImpl<Scalar> &y) {
  y.push_back(e.binary(BinaryFn::Div, x[0], x[1]));
}
LogicalResult DivOp::buildVJP(OpBuilder &b, ArrayRef<Value> dy,
                              ArrayRef<bool> needed,
                              MutableArrayRef<Value> dx) {
  Value quotient = DivOp::create(b, getLoc(), dy[0], getRhs());
  if (needed[0])
    setGrad(b, *this, 0, quotient, dx);
  if (needed[1]) // d(l/r)/dr = -(l/r)/r
    setGrad(b, *this, 1,
            NegOp::create(b, getLoc(), mul(b, getLoc(), quotient, getY())), dx);
  return success();
}

//===----------------------------------------------------------------------===//
// Unary functions
//===----------------------------------------------------------------------===//

bool ExpOp::isCheap() { return false; }
bool LogOp::isCheap() { return false; }
bool SqrtOp::isCheap() { return false; }
bool TanhOp::isCheap() { return false; }
bool ErfOp::isCheap() { return false; }
bool GeluOp::isCheap() { return false; }
bool GeluGradOp::isCheap() { return false; }
bool DropoutOp::isCheap() { return false; }

#define MPT_UNARY(OP, FN, GRADIENT)                                            \
  void OP::emitScalar(ScalarEmitter &e, ArrayRef<Scalar> x,                    \
                      SmallVectorImpl<Scalar> &y) {                            \
    y.push_back(e.unary(UnaryFn::FN, x[0]));                                   \
  }                                                                            \
  LogicalResult OP::buildVJP(OpBuilder &b, ArrayRef<Value> dys,                \
                             ArrayRef<bool> needed,                            \
                             MutableArrayRef<Value> grads) {                   \
    Location loc = getLoc();                                                   \
    Value x = getX(), y = getY(), dy = dys[0];                                 \
    (void)x;                                                                   \
    (void)y;                                                                   \
    if (needed[0])                                                             \
      grads[0] = GRADIENT;                                                     \
    return success();                                                          \
  }

MPT_UNARY(NegOp, Neg, NegOp::create(b, loc, dy))
MPT_UNARY(ExpOp, Exp, mul(b, loc, dy, y))
MPT_UNARY(LogOp, Log, DivOp::create(b, loc, dy, x))
MPT_UNARY(SqrtOp, Sqrt,
          DivOp::create(b, loc, mul(b, loc, dy, constant(b, loc, 0.5f)), y))
// 1 - y^2
MPT_UNARY(TanhOp, Tanh,
          mul(b, loc, dy,
              SubOp::create(b, loc, constant(b, loc, 1.0f), mul(b, loc, y, y))))
// 2 / sqrt(pi) e^(-x^2)
MPT_UNARY(ErfOp, Erf,
          mul(b, loc, mul(b, loc, dy, constant(b, loc, 1.1283791670955126f)),
              ExpOp::create(b, loc, NegOp::create(b, loc, mul(b, loc, x, x)))))
MPT_UNARY(GeluOp, Gelu, GeluGradOp::create(b, loc, x, dy))
#undef MPT_UNARY

void GeluGradOp::emitScalar(ScalarEmitter &e, ArrayRef<Scalar> x,
                            SmallVectorImpl<Scalar> &y) {
  y.push_back(e.binary(BinaryFn::Mul, x[1], e.unary(UnaryFn::GeluGrad, x[0])));
}

//===----------------------------------------------------------------------===//
// Comparison, logic, selection, conversion
//===----------------------------------------------------------------------===//

LogicalResult CompareOp::verify() {
  Type lhs = getLhs().getType().getElementType();
  Type rhs = getRhs().getType().getElementType();
  if (lhs != rhs || !(lhs.isF32() || lhs.isInteger(64) || lhs.isInteger(32)))
    return emitOpError() << "compares f32, i32 or i64 tensors of one element "
                            "type, found "
                         << lhs << " and " << rhs;
  return success();
}
void CompareOp::emitScalar(ScalarEmitter &e, ArrayRef<Scalar> x,
                           SmallVectorImpl<Scalar> &y) {
  y.push_back(e.compare(getPredicate(), x[0], x[1]));
}
void AndOp::emitScalar(ScalarEmitter &e, ArrayRef<Scalar> x,
                       SmallVectorImpl<Scalar> &y) {
  y.push_back(e.logicalAnd(x[0], x[1]));
}
void OrOp::emitScalar(ScalarEmitter &e, ArrayRef<Scalar> x,
                      SmallVectorImpl<Scalar> &y) {
  y.push_back(e.logicalOr(x[0], x[1]));
}
void NotOp::emitScalar(ScalarEmitter &e, ArrayRef<Scalar> x,
                       SmallVectorImpl<Scalar> &y) {
  y.push_back(e.logicalNot(x[0]));
}

void SelectOp::emitScalar(ScalarEmitter &e, ArrayRef<Scalar> x,
                          SmallVectorImpl<Scalar> &y) {
  y.push_back(e.select(x[0], x[1], x[2]));
}
LogicalResult SelectOp::buildVJP(OpBuilder &b, ArrayRef<Value> dy,
                                 ArrayRef<bool> needed,
                                 MutableArrayRef<Value> dx) {
  Value zero = constant(b, getLoc(), 0.0f);
  if (needed[1])
    setGrad(b, *this, 1,
            SelectOp::create(b, getLoc(), getCondition(), dy[0], zero), dx);
  if (needed[2])
    setGrad(b, *this, 2,
            SelectOp::create(b, getLoc(), getCondition(), zero, dy[0]), dx);
  return success();
}

LogicalResult ConvertOp::verify() {
  for (Type type :
       {getX().getType().getElementType(), getY().getType().getElementType()})
    if (!type.isF32() && !type.isInteger(64) && !type.isInteger(32) &&
        !type.isInteger(1))
      return emitOpError() << "converts between i1, i32, i64 and f32, found "
                           << type;
  if (getY().getType().getEncoding())
    return emitOpError() << "does not round to a format, found "
                         << getY().getType();
  return success();
}
void ConvertOp::emitScalar(ScalarEmitter &e, ArrayRef<Scalar> x,
                           SmallVectorImpl<Scalar> &y) {
  y.push_back(e.convert(x[0], getY().getType().getElementType()));
}
OpFoldResult ConvertOp::fold(FoldAdaptor) {
  return getX().getType() == getY().getType() ? getX() : Value();
}

/// Costs what its memory traffic costs: never repeated.
bool CopyOp::isCheap() { return false; }
void CopyOp::emitScalar(ScalarEmitter &, ArrayRef<Scalar> x,
                        SmallVectorImpl<Scalar> &y) {
  y.push_back(x[0]);
}

LogicalResult IotaOp::verify() {
  if (getY().getType().getRank() < 1)
    return emitOpError() << "needs a last axis, found " << getY().getType();
  return success();
}
void IotaOp::emitScalar(ScalarEmitter &e, ArrayRef<Scalar>,
                        SmallVectorImpl<Scalar> &y) {
  y.push_back(e.convert(e.columnIndex(), getY().getType().getElementType()));
}

//===----------------------------------------------------------------------===//
// Dropout
//===----------------------------------------------------------------------===//

LogicalResult DropoutOp::verify() {
  float keep = getKeepProbability().convertToFloat();
  if (!(keep > 0.0f && keep <= 1.0f))
    return emitOpError() << "keep_probability must be in (0, 1], found "
                         << keep;
  return success();
}
void DropoutOp::emitScalar(ScalarEmitter &e, ArrayRef<Scalar> x,
                           SmallVectorImpl<Scalar> &y) {
  float keep = getKeepProbability().convertToFloat();
  Scalar kept = e.dropoutKeep(x[1], x[2], x[3], keep);
  Scalar scaled = e.binary(BinaryFn::Mul, x[0], e.constant(1.0f / keep));
  y.push_back(e.select(kept, scaled, e.constant(0.0f)));
}
LogicalResult DropoutOp::buildVJP(OpBuilder &b, ArrayRef<Value> dy,
                                  ArrayRef<bool> needed,
                                  MutableArrayRef<Value> dx) {
  if (needed[0]) // the same mask, drawn again
    dx[0] = DropoutOp::create(b, getLoc(), dy[0], getSeed(), getStep(), getId(),
                              getKeepProbabilityAttr());
  return success();
}

//===----------------------------------------------------------------------===//
// add: accumulate a scatter into what is already there
//===----------------------------------------------------------------------===//

namespace {
/// x + scatter_add(0, ids, u) = scatter_add(x, ids, u): the tied embedding's
/// gradient is added to the decoder's in place instead of through a table of
/// zeros.
struct AddOfScatter : OpRewritePattern<AddOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(AddOp op,
                                PatternRewriter &rewriter) const final {
    for (unsigned i = 0; i < 2; ++i) {
      auto scatter = op.getOperand(i).getDefiningOp<ScatterAddOp>();
      if (!scatter || !scatter->hasOneUse())
        continue;
      auto init = scatter.getInit().getDefiningOp<ConstantOp>();
      auto zeros =
          init ? dyn_cast<SplatElementsAttr>(init.getValue()) : nullptr;
      Value other = op.getOperand(1 - i);
      if (!zeros || !zeros.getSplatValue<APFloat>().isZero() ||
          other.getType() != op.getType())
        continue;
      // The scatter moves down to the sum, where `other` dominates it.
      auto moved =
          ScatterAddOp::create(rewriter, op.getLoc(), op.getType(), other,
                               scatter.getIds(), scatter.getUpdates());
      moved->setDiscardableAttrs(scatter->getDiscardableAttrDictionary());
      rewriter.replaceOp(op, moved);
      return success();
    }
    return failure();
  }
};
} // namespace

void AddOp::getCanonicalizationPatterns(RewritePatternSet &patterns,
                                        MLIRContext *context) {
  patterns.add<AddOfScatter>(context);
}
