//===- Differentiate.cpp - append the gradient of the loss ----------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Reverse-mode differentiation: each op builds its own vector-Jacobian product;
// this pass walks them, sums gradients, and gives products roles and names.
//
//===----------------------------------------------------------------------===//

#include "mpt/Dialect/MPT/IR/Signature.h"
#include "mpt/Dialect/MPT/Transforms/Passes.h"
#include "llvm/ADT/DenseSet.h"
#include "llvm/ADT/StringExtras.h"

#define DEBUG_TYPE "mpt-differentiate"

namespace mpt {
#define GEN_PASS_DEF_DIFFERENTIATE
#include "mpt/Dialect/MPT/Transforms/Passes.h.inc"
} // namespace mpt

using namespace mlir;
using namespace mpt;

namespace {

struct Driver {
  func::FuncOp func;
  Block &block;
  OpBuilder builder;
  /// Values that depend on a parameter.
  DenseSet<Value> active;
  DenseMap<Value, Value> gradients;

  explicit Driver(func::FuncOp func)
      : func(func), block(func.getBody().front()),
        builder(block.getTerminator()) {}

  LogicalResult check();
  void findActive();
  LogicalResult run();
  LogicalResult visit(Operation *op);
  void nameNewOps(Operation *op, Operation *lastOld, ArrayRef<Value> grads);
  void accumulate(Value value, Value grad, Operation *from);
  LogicalResult finish();
};

/// FNV-1a, 64 bits, over texts that each end in a zero byte.
struct Hash {
  uint64_t state = 0xcbf29ce484222325;

  void add(char byte) {
    state = (state ^ static_cast<unsigned char>(byte)) * 0x100000001b3;
  }
  void add(StringRef text) {
    for (char c : text)
      add(c);
    add('\0');
  }
};

/// What makes this the same model for a profile or a checkpoint: names and
/// shapes of the parameters, op and name of everything that computes, in order.
/// Constants, views and the shapes of activations depend on the batch and are
/// left out.
std::string hashOf(func::FuncOp func) {
  Hash hash;
  for (BlockArgument arg : func.getArguments()) {
    if (getArgumentKind(func, arg.getArgNumber()) != Kind::Parameter)
      continue;
    hash.add(getArgumentName(func, arg.getArgNumber()));
    for (int64_t size : cast<RankedTensorType>(arg.getType()).getShape())
      hash.add(std::to_string(size));
    hash.add(StringRef());
  }
  for (Operation &op : func.getBody().front()) {
    if (isa<ViewOpInterface>(op) || op.hasTrait<OpTrait::ConstantLike>())
      continue;
    hash.add(op.getName().getStringRef());
    hash.add(getStableName(&op));
  }
  return llvm::utohexstr(hash.state, /*LowerCase=*/true, /*Width=*/16);
}

/// A scalar f32 loss and no casts: gradients are taken of the f32 graph.
LogicalResult Driver::check() {
  auto scalar = RankedTensorType::get({}, builder.getF32Type());
  if (func.getNumResults() != 1 || func.getResultTypes()[0] != scalar)
    return func.emitError() << "mpt-differentiate expects one result, a scalar "
                               "tensor<f32> loss, found "
                            << func.getFunctionType();
  for (Operation &op : block)
    if (isa<CastOp>(op))
      return op.emitError()
             << "mpt-differentiate expects a graph without casts: "
                "precision is assigned after differentiation";
  return success();
}

void Driver::findActive() {
  for (BlockArgument arg : block.getArguments())
    if (getArgumentKind(func, arg.getArgNumber()) == Kind::Parameter)
      active.insert(arg);
  for (Operation &op : block)
    if (llvm::any_of(op.getOperands(),
                     [&](Value v) { return active.contains(v); }))
      for (Value result : op.getResults())
        if (getElementTypeOrSelf(result.getType()).isF32())
          active.insert(result);
}

LogicalResult Driver::run() {
  findActive();
  Value loss = block.getTerminator()->getOperand(0);
  if (!active.contains(loss))
    return func.emitError(
        "mpt-differentiate: the loss depends on no parameter");
  SmallVector<Operation *> forward;
  for (Operation &op : block.without_terminator())
    forward.push_back(&op);
  for (Operation *op : forward)
    if (auto product = dyn_cast<MatmulOp>(op))
      product.setRole(Role::Fprop);
  gradients[loss] = ConstantOp::scalar(builder, loss.getLoc(), 1.0f);
  for (Operation *op : llvm::reverse(forward))
    if (failed(visit(op)))
      return failure();
  return finish();
}

/// Builds the vector-Jacobian product of one op whose results have gradients.
LogicalResult Driver::visit(Operation *op) {
  SmallVector<Value> resultGrads;
  for (Value result : op->getResults())
    resultGrads.push_back(gradients.lookup(result));
  SmallVector<bool> needed;
  for (Value operand : op->getOperands())
    needed.push_back(active.contains(operand));
  if (llvm::none_of(resultGrads, [](Value v) { return bool(v); }) ||
      llvm::none_of(needed, [](bool n) { return n; }))
    return success();
  auto differentiable = dyn_cast<DifferentiableOpInterface>(op);
  if (!differentiable)
    return op->emitOpError() << "named '" << getStableName(op)
                             << "' has no gradient, but a parameter needs one "
                                "through it";
  SmallVector<Value> grads(op->getNumOperands());
  Operation *lastOld = block.getTerminator()->getPrevNode();
  builder.setInsertionPoint(block.getTerminator());
  if (failed(differentiable.buildVJP(builder, resultGrads, needed, grads)))
    return failure();
  nameNewOps(op, lastOld, grads);
  for (auto [operand, grad] : llvm::zip(op->getOperands(), grads))
    if (grad)
      accumulate(operand, grad, op);
  return success();
}

/// Names the ops behind `lastOld` after `op`. A product takes its role from the
/// operand whose gradient it is: wgrad for a parameter, else dgrad.
void Driver::nameNewOps(Operation *op, Operation *lastOld,
                        ArrayRef<Value> grads) {
  std::string base = getStableName(op).str();
  Block::iterator it =
      lastOld ? std::next(Block::iterator(lastOld)) : block.begin();
  for (; &*it != block.getTerminator(); ++it) {
    it->setLoc(op->getLoc());
    setStableName(&*it, base + "/grad");
  }
  if (!isa<ProductOpInterface>(op))
    return;
  bool oneOfTwo = llvm::any_of(
      op->getOperands(), [](Value v) { return getParameter(v).has_value(); });
  for (auto [i, grad] : llvm::enumerate(grads)) {
    auto product = grad ? grad.getDefiningOp<MatmulOp>() : MatmulOp();
    if (!product)
      continue;
    bool wgrad = getParameter(op->getOperand(i)).has_value();
    product.setRole(wgrad ? Role::Wgrad : Role::Dgrad);
    std::string suffix = wgrad ? "/wgrad" : "/dgrad";
    if (!oneOfTwo) // attention: both operands are activations
      suffix += i == 0 ? ".lhs" : ".rhs";
    setStableName(product, base + suffix);
  }
}

void Driver::accumulate(Value value, Value grad, Operation *from) {
  Value &sum = gradients[value];
  if (!sum) {
    sum = grad;
    return;
  }
  sum = AddOp::create(builder, from->getLoc(), sum, grad);
  setStableName(sum.getDefiningOp(), (getStableName(from) + "/grad").str());
}

/// Returns loss and gradients; a parameter that the loss does not depend on
/// gets none, and says so.
LogicalResult Driver::finish() {
  SmallVector<Value> results{block.getTerminator()->getOperand(0)};
  auto named = [&](StringRef name) {
    return builder.getDictionaryAttr(
        builder.getNamedAttr(kNameAttr, builder.getStringAttr(name)));
  };
  SmallVector<DictionaryAttr> attrs{named("loss")};
  for (BlockArgument arg : block.getArguments()) {
    if (getArgumentKind(func, arg.getArgNumber()) != Kind::Parameter)
      continue;
    StringRef name = getArgumentName(func, arg.getArgNumber());
    if (Value grad = gradients.lookup(arg)) {
      results.push_back(grad);
      attrs.push_back(named(name));
    } else {
      func.emitWarning() << "parameter '" << name
                         << "' does not influence the loss and is not trained";
    }
  }
  setResults(func, results, attrs);
  func.setName("gradient");
  return success();
}

struct Differentiate : mpt::impl::DifferentiateBase<Differentiate> {
  void runOnOperation() override {
    func::FuncOp func =
        getStage(getOperation(), "forward", "mpt-differentiate");
    if (!func)
      return signalPassFailure();
    Driver driver(func);
    if (failed(driver.check()))
      return signalPassFailure();
    getOperation()->setAttr(kGraphHashAttr,
                            StringAttr::get(&getContext(), hashOf(func)));
    if (failed(driver.run()))
      signalPassFailure();
  }
};

} // namespace
