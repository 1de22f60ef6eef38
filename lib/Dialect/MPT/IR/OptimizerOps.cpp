//===- OptimizerOps.cpp - optimizer updates -------------------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// The scalar bodies of the optimizers' updates.
//
//===----------------------------------------------------------------------===//

#include "mpt/Dialect/MPT/IR/MPTDialect.h"

using namespace mlir;
using namespace mpt;

LogicalResult AdamWOp::verify() {
  for (Value value : {getGrad(), getM(), getV()})
    if (cast<RankedTensorType>(value.getType()).getShape() !=
        getParam().getType().getShape())
      return emitOpError() << "gradient and moments must have the parameter's "
                              "shape "
                           << getParam().getType() << ", found "
                           << value.getType();
  for (Value value : getResults())
    if (value.getType() != getParam().getType())
      return emitOpError() << "results must have the parameter's type "
                           << getParam().getType() << ", found "
                           << value.getType();
  return success();
}

void AdamWOp::emitScalar(ScalarEmitter &e, ArrayRef<Scalar> x,
                         SmallVectorImpl<Scalar> &y) {
  Scalar param = x[0], grad = x[1], m = x[2], v = x[3];
  Scalar lr = x[4], clip = x[5], c1 = x[6], c2 = x[7], skip = x[8];
  auto mul = [&](Scalar a, Scalar b) { return e.binary(BinaryFn::Mul, a, b); };
  auto sub = [&](Scalar a, Scalar b) { return e.binary(BinaryFn::Sub, a, b); };
  auto div = [&](Scalar a, Scalar b) { return e.binary(BinaryFn::Div, a, b); };
  double beta1 = getBeta1().convertToDouble(),
         beta2 = getBeta2().convertToDouble();
  Scalar g = mul(grad, clip);
  Scalar newM = e.fma(sub(g, m), e.constant(1.0 - beta1), m);
  Scalar newV =
      e.fma(mul(g, g), e.constant(1.0 - beta2), mul(v, e.constant(beta2)));
  Scalar decay = sub(e.constant(1.0f),
                     mul(lr, e.constant(getWeightDecay().convertToDouble())));
  Scalar root = div(e.unary(UnaryFn::Sqrt, newV), e.unary(UnaryFn::Sqrt, c2));
  Scalar denominator =
      e.binary(BinaryFn::Add, root, e.constant(getEpsilon().convertToDouble()));
  Scalar update = mul(div(lr, c1), div(newM, denominator));
  Scalar newParam = sub(mul(param, decay), update);
  y.push_back(e.select(skip, param, newParam));
  y.push_back(e.select(skip, m, newM));
  y.push_back(e.select(skip, v, newV));
}
