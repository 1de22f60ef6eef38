//===- KeptTensors.cpp - what the backward pass reads again ---------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// See KeptTensors.h.
//
//===----------------------------------------------------------------------===//

#include "mpt/Dialect/MPT/Analysis/KeptTensors.h"
#include "mpt/Dialect/MPT/IR/MPTDialect.h"
#include "llvm/ADT/MapVector.h"

using namespace mlir;
using namespace mpt;

static RankedTensorType typeOf(Value value) {
  return cast<RankedTensorType>(value.getType());
}

Value mpt::getCastSource(Value value) {
  while (auto view = value.getDefiningOp<ViewOpInterface>()) {
    if (typeOf(view.getViewSource()).getNumElements() !=
        typeOf(value).getNumElements())
      break;
    value = view.getViewSource();
  }
  return value;
}

/// The ops that the loss depends on.
static DenseSet<Operation *> findForward(func::FuncOp step) {
  DenseSet<Operation *> forward;
  SmallVector<Value> worklist;
  Operation *terminator = step.getBody().front().getTerminator();
  for (auto [i, value] : llvm::enumerate(terminator->getOperands()))
    if (auto name = step.getResultAttrOfType<StringAttr>(i, kNameAttr);
        name && name.getValue() == "loss")
      worklist.push_back(value);
  while (!worklist.empty()) {
    Operation *op = worklist.pop_back_val().getDefiningOp();
    if (op && forward.insert(op).second)
      worklist.append(op->operand_begin(), op->operand_end());
  }
  return forward;
}

/// A loss is computed in f32, and its gradient from what it saw.
static StringRef heldHigh(Value value) {
  SmallVector<Value> worklist{value};
  while (!worklist.empty())
    for (Operation *user : worklist.pop_back_val().getUsers()) {
      if (isa<CrossEntropyOp>(user))
        return "what the loss reads stays f32";
      if (isa<ViewOpInterface>(user))
        worklist.push_back(user->getResult(0));
    }
  return "";
}

SmallVector<KeptTensor> mpt::findKeptTensors(func::FuncOp step) {
  DenseSet<Operation *> forward = findForward(step);
  llvm::MapVector<Value, KeptTensor> found;
  for (Operation &op : step.getBody().front().without_terminator()) {
    if (forward.contains(&op) || isa<ViewOpInterface, ProductOpInterface>(op))
      continue;
    for (OpOperand &operand : op.getOpOperands()) {
      Value source = getCastSource(operand.get());
      Operation *maker = source.getDefiningOp();
      RankedTensorType type = typeOf(source);
      if (!maker || !forward.contains(maker) ||
          maker->hasTrait<OpTrait::ConstantLike>() ||
          !type.getElementType().isF32() || type.getRank() == 0 ||
          type.getShape().back() == 1)
        continue;
      KeptTensor &kept = found[source];
      if (!kept.value)
        kept = {source, {}, isa<ProductOpInterface>(maker), heldHigh(source)};
      kept.reads.push_back(&operand);
    }
  }
  SmallVector<KeptTensor> tensors;
  for (auto &entry : found)
    tensors.push_back(std::move(entry.second));
  llvm::sort(tensors, [](const KeptTensor &a, const KeptTensor &b) {
    auto x = cast<OpResult>(a.value), y = cast<OpResult>(b.value);
    return x.getOwner() == y.getOwner()
               ? x.getResultNumber() < y.getResultNumber()
               : x.getOwner()->isBeforeInBlock(y.getOwner());
  });
  return tensors;
}
