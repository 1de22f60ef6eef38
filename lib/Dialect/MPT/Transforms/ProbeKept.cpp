//===- ProbeKept.cpp - what a kept tensor's format does to gradients ------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Gives a step one argument per tensor that it keeps for the backward pass,
// which says in what format the backward pass is to see it: gradients with and
// without are the measurement (mpt.kept).
//
//===----------------------------------------------------------------------===//

#include "mpt/Dialect/MPT/Analysis/KeptTensors.h"
#include "mpt/Dialect/MPT/IR/Signature.h"
#include "mpt/Dialect/MPT/Transforms/Passes.h"
#include "llvm/ADT/StringSet.h"

#define DEBUG_TYPE "mpt-probe-kept"

namespace mpt {
#define GEN_PASS_DEF_PROBEKEPT
#include "mpt/Dialect/MPT/Transforms/Passes.h.inc"
} // namespace mpt

using namespace mlir;
using namespace mpt;

namespace {

/// What the input's values stand for, from 1; 0 is f32.
constexpr Storage kProbed[] = {Storage::BF16, Storage::E4M3};

/// `kept` as the backward pass sees it: the value that the switch chooses.
Value choose(const KeptTensor &kept, Value which, StringRef name) {
  OpBuilder b(kept.value.getContext());
  b.setInsertionPointAfter(kept.value.getDefiningOp());
  Location loc = kept.value.getLoc();
  auto type = cast<RankedTensorType>(kept.value.getType());
  Value chosen = kept.value;
  auto named = [&](auto op, const Twine &suffix) {
    setStableName(op, (name + suffix).str());
    return op->getResult(0);
  };
  for (auto [i, storage] : llvm::enumerate(kProbed)) {
    auto held = RankedTensorType::get(type.getShape(), type.getElementType(),
                                      FormatAttr::get(b.getContext(), storage));
    Value low = named(CastOp::create(b, loc, held, kept.value),
                      "/cast." + stringifyStorage(storage));
    Value code = ConstantOp::scalarInt(b, loc, i + 1);
    Value on =
        named(CompareOp::create(b, loc, Predicate::EQ, which, code), "/kept");
    chosen = named(SelectOp::create(b, loc, on, low, chosen), "/kept");
  }
  return chosen;
}

/// The same views of `to` as `value` is of `from`.
Value rebuildViews(Value value, Value from, Value to,
                   DenseMap<Value, Value> &known) {
  if (value == from)
    return to;
  Value &result = known[value];
  if (result)
    return result;
  Operation *view = value.getDefiningOp();
  Value source = rebuildViews(cast<ViewOpInterface>(view).getViewSource(), from,
                              to, known);
  OpBuilder b(view->getContext());
  b.setInsertionPointAfter(view);
  if (source.getDefiningOp() && view->isBeforeInBlock(source.getDefiningOp()))
    b.setInsertionPointAfter(source.getDefiningOp());
  Operation *copy = b.clone(*view);
  copy->setOperand(0, source);
  return known[value] = copy->getResult(0);
}

struct ProbeKept : mpt::impl::ProbeKeptBase<ProbeKept> {
  void runOnOperation() override {
    func::FuncOp step = getStage(getOperation(), "step", "mpt-probe-kept");
    if (!step)
      return signalPassFailure();
    SmallVector<KeptTensor> all = findKeptTensors(step), tensors;
    SmallVector<NewArgument> arguments;
    auto scalar =
        RankedTensorType::get({}, IntegerType::get(&getContext(), 64));
    llvm::StringSet<> names;
    for (const KeptTensor &kept : all) {
      if (!kept.heldHigh.empty())
        continue;
      StringRef name = getValueName(kept.value);
      if (!names.insert(name).second) {
        kept.value.getDefiningOp()->emitOpError()
            << "named '" << name
            << "': the backward pass keeps two tensors of that name";
        return signalPassFailure();
      }
      tensors.push_back(kept);
      arguments.push_back({scalar, (name + "/kept").str(), Kind::Hyper});
    }
    if (tensors.empty()) {
      step.emitError(
          "mpt-probe-kept expects a step with the result 'loss' "
          "whose backward pass reads what the forward pass computed");
      return signalPassFailure();
    }
    unsigned first = addArguments(step, arguments);
    for (auto [i, kept] : llvm::enumerate(tensors)) {
      Value seen =
          choose(kept, step.getArgument(first + i), getValueName(kept.value));
      DenseMap<Value, Value> views;
      for (OpOperand *read : kept.reads)
        read->set(rebuildViews(read->get(), kept.value, seen, views));
    }
    numTensors += tensors.size();
  }
};

} // namespace
