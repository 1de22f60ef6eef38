//===- ChooseProducts.cpp - our kernel or cuBLASLt, product by product ----===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Records on every product of a CUDA step who multiplies, and why. Measured
// times decide where a tuning table has both; else the target's cost model
// does, which knows that our kernels have one tile and do not cut k.
//
//===----------------------------------------------------------------------===//

#include "mpt/Dialect/MPT/Analysis/OwnProducts.h"
#include "mpt/Dialect/MPT/IR/Signature.h"
#include "mpt/Dialect/MPT/Transforms/Passes.h"
#include "mpt/Precision/CostModel.h"
#include "llvm/Support/FormatVariadic.h"

#define DEBUG_TYPE "mpt-choose-products"

namespace mpt {
#define GEN_PASS_DEF_CHOOSEPRODUCTS
#include "mpt/Dialect/MPT/Transforms/Passes.h.inc"
} // namespace mpt

using namespace mlir;
using namespace mpt;
using precision::CostModel;

namespace {

Storage storageOf(Value value) {
  Type element = cast<RankedTensorType>(value.getType()).getElementType();
  if (element.isF32())
    return Storage::F32;
  if (element.isBF16())
    return Storage::BF16;
  if (isa<Float8E4M3FNType>(element))
    return Storage::E4M3;
  return isa<Float8E5M2Type>(element) ? Storage::E5M2 : Storage::I8;
}

std::string inMicroseconds(double us) {
  return llvm::formatv("{0:f1} us", us).str();
}

struct Choice {
  bool own = false;
  std::string reason;
};

struct Chooser {
  ProductEngine engine;
  CostModel cost;

  Choice choose(ProductOpInterface op);
  Choice compare(ProductOpInterface op, const ProductViews &views);
};

/// The faster of the two: measured where both are, else predicted.
Choice Chooser::compare(ProductOpInterface op, const ProductViews &views) {
  auto formats =
      precision::pairOf(op->getContext(), storageOf(op.getLhsOperand().get()),
                        storageOf(op.getRhsOperand().get()));
  precision::ProductShape shape{views.m, views.n, views.k,
                                views.batch[0] * views.batch[1]};
  auto state = [](bool own, StringRef how, double ours, double theirs) {
    return Choice{own, (how + ": own " + inMicroseconds(ours) + ", cublaslt " +
                        inMicroseconds(theirs))
                           .str()};
  };
  auto ours = cost.tuning.find(shape, formats, kOwn);
  auto theirs = cost.tuning.find(shape, formats, kCublasLt);
  if (ours && theirs)
    return state(*ours <= *theirs, "measured", *ours, *theirs);
  std::string cannot = whyNotCublasLt(op, views);
  if (!cannot.empty())
    return {true, "not for cuBLASLt: it " + cannot};
  cannot = cost.target.whyNotRun(formats);
  if (!cannot.empty())
    return {true, "no figures for " + cost.target.name + ": " + cannot};
  OwnProduct own = getOwnProduct(op, views);
  CostModel ownModel{cost.target, {}}, theirModel{cost.target, {}};
  ownModel.target.tiles = {{kOwnTileRows, own.tileColumns}};
  ownModel.target.splits = {1};
  double predicted = ownModel.timeOf(shape, formats).us;
  double rival = theirModel.timeOf(shape, formats).us;
  return state(predicted <= rival, "predicted", predicted, rival);
}

Choice Chooser::choose(ProductOpInterface op) {
  if (engine == ProductEngine::CublasLt)
    return {false, "asked for"};
  unsigned problem = 0;
  auto views = getProductViews(op, problem);
  std::string cannot =
      views ? whyNotOwn(op, *views) : std::string("has no strided form");
  if (!cannot.empty())
    return {false, "no own kernel: it " + cannot};
  if (engine == ProductEngine::Own)
    return {true, "asked for"};
  return compare(op, *views);
}

struct ChooseProducts : mpt::impl::ChooseProductsBase<ChooseProducts> {
  using ChooseProductsBase::ChooseProductsBase;

  LogicalResult readCosts(Chooser &chooser, Location loc) {
    auto report = [&](llvm::Error error) -> LogicalResult {
      return emitError(loc)
             << "mpt-choose-products: " << llvm::toString(std::move(error));
    };
    auto known = precision::getTarget(target);
    if (!known)
      return report(known.takeError());
    chooser.cost.target = std::move(*known);
    if (tuning.empty())
      return success();
    auto table = precision::readTuningTable(tuning, chooser.cost.target);
    if (!table)
      return report(table.takeError());
    chooser.cost.tuning = std::move(*table);
    return success();
  }

  void runOnOperation() override {
    func::FuncOp step = getStage(getOperation(), "step", "mpt-choose-products");
    Chooser chooser{products, {}};
    if (!step || failed(readCosts(chooser, step.getLoc())))
      return signalPassFailure();
    OpBuilder builder(&getContext());
    for (auto op : step.getOps<ProductOpInterface>()) {
      Choice choice = chooser.choose(op);
      op->setAttr(kImplementationAttr,
                  builder.getStringAttr(choice.own ? kOwn : kCublasLt));
      op->setAttr(kReasonAttr, builder.getStringAttr(choice.reason));
      ++(choice.own ? numOwn : numCublasLt);
    }
  }
};

} // namespace
