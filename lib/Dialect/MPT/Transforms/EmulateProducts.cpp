//===- EmulateProducts.cpp - low-precision products on f32 hardware -------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// What the CPU does with a product of codes: decode, then multiply in f32.
//
//===----------------------------------------------------------------------===//

#include "mpt/Dialect/MPT/IR/Signature.h"
#include "mpt/Dialect/MPT/Transforms/Passes.h"
#include "llvm/ADT/SetVector.h"

#define DEBUG_TYPE "mpt-emulate-products"

namespace mpt {
#define GEN_PASS_DEF_EMULATEPRODUCTS
#include "mpt/Dialect/MPT/Transforms/Passes.h.inc"
} // namespace mpt

using namespace mlir;
using namespace mpt;

namespace {

struct Driver {
  func::FuncOp func;
  OpBuilder builder;

  explicit Driver(func::FuncOp func) : func(func), builder(func.getContext()) {}

  void run();

private:
  void emulate(ScaledMatmulOp product);
  void eraseBypassed();
  Value decoded(Value codes, Value inverseScale, Operation *before);

  using Key = std::pair<Value, Value>;
  /// Decoded tensors by codes and inverse scale.
  DenseMap<Key, Value> decodedValues;
  llvm::SetVector<Operation *> bypassed;
};

void Driver::run() {
  SmallVector<ScaledMatmulOp> products;
  func.walk([&](ScaledMatmulOp product) { products.push_back(product); });
  for (ScaledMatmulOp product : products)
    emulate(product);
  eraseBypassed();
}

/// Puts the insertion point behind both values' definitions; in front of
/// `before` if those are arguments.
void setInsertionPointAfter(OpBuilder &builder, Value a, Value b,
                            Operation *before) {
  Operation *first = a.getDefiningOp();
  Operation *second = b ? b.getDefiningOp() : nullptr;
  if (first && second && first->isBeforeInBlock(second))
    first = second;
  if (!first)
    first = second;
  if (first)
    builder.setInsertionPointAfter(first);
  else
    builder.setInsertionPoint(before);
}

/// The real values of `codes`. Views are taken of what is decoded, so that one
/// decoding serves every product.
Value Driver::decoded(Value codes, Value inverseScale, Operation *before) {
  auto type = cast<RankedTensorType>(codes.getType());
  if (type.getElementType().isF32())
    return codes;
  Value result = decodedValues.lookup({codes, inverseScale});
  if (result)
    return result;
  auto real = RankedTensorType::get(type.getShape(), builder.getF32Type());
  if (auto view = codes.getDefiningOp<ViewOpInterface>()) {
    Value source = decoded(view.getViewSource(), inverseScale, view);
    setInsertionPointAfter(builder, codes, source, before);
    Operation *copy = builder.clone(*view);
    copy->setOperand(0, source);
    copy->getResult(0).setType(real);
    result = copy->getResult(0);
  } else {
    setInsertionPointAfter(builder, codes, inverseScale, before);
    auto decode = DequantizeOp::create(builder, codes.getLoc(), real, codes,
                                       inverseScale);
    setStableName(decode, (getValueName(codes) + "/decode").str());
    result = decode.getY();
  }
  return decodedValues[{codes, inverseScale}] = result;
}

void Driver::emulate(ScaledMatmulOp product) {
  Value codes[] = {product.getLhs(), product.getRhs()};
  Value lhs = decoded(codes[0], product.getLhsInverseScale(), product);
  Value rhs = decoded(codes[1], product.getRhsInverseScale(), product);
  builder.setInsertionPoint(product);
  auto real = MatmulOp::create(
      builder, product.getLoc(), lhs, rhs, product.getTransposeLhs(),
      product.getTransposeRhs(), product.getFoldBatch(), product.getRoleAttr(),
      MetricsAttr());
  real->setDiscardableAttrs(product->getDiscardableAttrDictionary());
  product.getY().replaceAllUsesWith(real.getY());
  product.erase();
  for (Value value : codes)
    if (Operation *view = value.getDefiningOp<ViewOpInterface>())
      bypassed.insert(view);
}

/// Views of codes that nothing reads any more go away.
void Driver::eraseBypassed() {
  while (!bypassed.empty()) {
    Operation *view = bypassed.pop_back_val();
    if (!view->use_empty())
      continue;
    Value source = cast<ViewOpInterface>(view).getViewSource();
    view->erase();
    if (Operation *next = source.getDefiningOp<ViewOpInterface>())
      bypassed.insert(next);
  }
}

struct EmulateProducts : mpt::impl::EmulateProductsBase<EmulateProducts> {
  void runOnOperation() override {
    func::FuncOp func =
        getStage(getOperation(), "step", "mpt-emulate-products");
    if (!func)
      return signalPassFailure();
    Driver(func).run();
  }
};

} // namespace
