//===- FuseEpilogues.cpp - products take in the kernel behind them --------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// A product of our own kernels shows each element of its result to an epilogue
// while it is in registers. Where one kernel reads the result at the same rows
// and columns, it becomes that epilogue: the result is not written and read
// again, and a launch is saved.
//
//===----------------------------------------------------------------------===//

#include "mpt/Dialect/MPT/Analysis/Epilogue.h"
#include "mpt/Dialect/MPT/Analysis/OwnProducts.h"
#include "mpt/Dialect/MPT/IR/Signature.h"
#include "mpt/Dialect/MPT/Transforms/Passes.h"
#include "llvm/ADT/SmallVectorExtras.h"

#define DEBUG_TYPE "mpt-fuse-epilogues"

namespace mpt {
#define GEN_PASS_DEF_FUSEEPILOGUES
#include "mpt/Dialect/MPT/Transforms/Passes.h.inc"
} // namespace mpt

using namespace mlir;
using namespace mpt;

namespace {

/// A call that a product takes in, and where both become one op.
struct Match {
  func::CallOp call;
  unsigned position = 0;
  /// The fused product stands in front of it.
  Operation *before = nullptr;
  /// Somebody else reads the product.
  bool keep = false;
};

struct Driver {
  bool remarks;
  int64_t numFused = 0;

  void run(ScaledMatmulOp product);
  std::optional<Match> match(ScaledMatmulOp product);
  std::string whyNot(ScaledMatmulOp product, Match &match);
};

/// The place behind everything that the call and the product need, if all that
/// reads the product is behind it too.
Operation *placeOf(ScaledMatmulOp product, func::CallOp call) {
  Operation *last = product;
  for (Value operand : call.getOperands())
    if (Operation *def = operand.getDefiningOp())
      if (last->isBeforeInBlock(def))
        last = def;
  for (Operation *user : product.getY().getUsers())
    if (user == last || user->isBeforeInBlock(last))
      return nullptr;
  return last->getNextNode();
}

/// Fills in `match` but for its call; returns why the call stays a kernel.
std::string Driver::whyNot(ScaledMatmulOp product, Match &match) {
  auto operands = match.call.getOperands();
  match.position = llvm::find(operands, product.getY()) - operands.begin();
  auto kernel = SymbolTable::lookupNearestSymbolFrom<func::FuncOp>(
      match.call, match.call.getCalleeAttr());
  ArrayRef<int64_t> shape = product.getY().getType().getShape();
  int64_t n = shape.back(), m = product.getY().getType().getNumElements() / n;
  Epilogue epilogue = getEpilogue(kernel, match.position, m, n);
  if (!epilogue.problem.empty())
    return "the kernel " + epilogue.problem;
  match.before = placeOf(product, match.call);
  if (!match.before)
    return "the product is read before all that the kernel needs is there";
  match.keep = !product.getY().hasOneUse();
  return "";
}

/// The first kernel behind the product that it can take in.
std::optional<Match> Driver::match(ScaledMatmulOp product) {
  SmallVector<func::CallOp> calls;
  for (Operation *user : product.getY().getUsers())
    if (auto call = dyn_cast<func::CallOp>(user))
      calls.push_back(call);
  llvm::sort(calls, [](func::CallOp a, func::CallOp b) {
    return a->isBeforeInBlock(b);
  });
  for (func::CallOp call : calls) {
    Match found{call};
    std::string problem = whyNot(product, found);
    if (problem.empty())
      return found;
    if (remarks)
      product.emitRemark() << "named '" << getStableName(product)
                           << "' does not take in '" << getStableName(call)
                           << "': " << problem;
  }
  return std::nullopt;
}

void Driver::run(ScaledMatmulOp product) {
  std::optional<Match> found = match(product);
  if (!found)
    return;
  SmallVector<Value> others(found->call.getOperands());
  others.erase(others.begin() + found->position);
  SmallVector<Type> types(found->call.getResultTypes());
  if (found->keep)
    types.insert(types.begin(), product.getY().getType());
  OpBuilder builder(found->before);
  auto fused = FusedMatmulOp::create(
      builder, product.getLoc(), types, product.getLhs(), product.getRhs(),
      product.getLhsInverseScale(), product.getRhsInverseScale(), others,
      product.getTransposeLhs(), product.getTransposeRhs(),
      product.getFoldBatch(), product.getRoleAttr(), found->call.getCallee(),
      found->position, found->keep);
  fused->setDiscardableAttrs(product->getDiscardableAttrDictionary());
  ResultRange results = fused.getResults();
  found->call.replaceAllUsesWith(results.drop_front(found->keep));
  found->call.erase();
  if (found->keep)
    product.getY().replaceAllUsesWith(results.front());
  product.erase();
  ++numFused;
}

struct FuseEpilogues : mpt::impl::FuseEpiloguesBase<FuseEpilogues> {
  using FuseEpiloguesBase::FuseEpiloguesBase;

  void runOnOperation() override {
    func::FuncOp step = getStage(getOperation(), "step", "mpt-fuse-epilogues");
    if (!step)
      return signalPassFailure();
    Driver driver{remarks};
    SmallVector<ScaledMatmulOp> products(step.getOps<ScaledMatmulOp>());
    for (ScaledMatmulOp product : products) {
      auto who = product->getAttrOfType<StringAttr>(kImplementationAttr);
      if (who && who.getValue() == kOwn)
        driver.run(product);
    }
    numFused += driver.numFused;
  }
};

} // namespace
