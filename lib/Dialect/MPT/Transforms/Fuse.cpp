//===- Fuse.cpp - group elementwise and row-wise ops into kernels ---------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// A plan over the ops of the step (which op belongs to which kernel), checked
// before it is used, and the outlining of each kernel into a shared private
// function.
//
//===----------------------------------------------------------------------===//

#include "mlir/IR/Dominance.h"
#include "mlir/IR/IRMapping.h"
#include "mlir/Transforms/CSE.h"
#include "mpt/Dialect/MPT/Analysis/FusionPlan.h"
#include "mpt/Dialect/MPT/IR/Signature.h"
#include "mpt/Dialect/MPT/Transforms/Passes.h"
#include "llvm/ADT/SetVector.h"
#include "llvm/ADT/StringMap.h"

#define DEBUG_TYPE "mpt-fuse"

namespace mpt {
#define GEN_PASS_DEF_FUSE
#include "mpt/Dialect/MPT/Transforms/Passes.h.inc"
} // namespace mpt

using namespace mlir;
using namespace mpt;

namespace {

/// Turns each cluster of a plan into a call of a private function.
struct Outliner {
  func::FuncOp step;
  const FusionPlan &plan;
  ModuleOp module;
  /// Kernel text (with a fixed name) to function: equal kernels are shared.
  llvm::StringMap<func::FuncOp> &kernels;
  /// Values of outlined ops in terms of call results.
  IRMapping mapping;
  unsigned numCalls = 0;

  Outliner(func::FuncOp step, const FusionPlan &plan,
           llvm::StringMap<func::FuncOp> &kernels)
      : step(step), plan(plan), module(step->getParentOfType<ModuleOp>()),
        kernels(kernels) {}

  LogicalResult run();
  LogicalResult outline(ArrayRef<Operation *> ops, OpBuilder &builder);
  func::FuncOp share(func::FuncOp kernel);
};

/// What a kernel body holds a copy of: free leaves and views of its operands.
struct KernelBuilder {
  ArrayRef<Operation *> ops;
  SetVector<Value> arguments;
  SetVector<Value> results;
  SetVector<Operation *> members;

  explicit KernelBuilder(ArrayRef<Operation *> ops)
      : ops(ops), members(ops.begin(), ops.end()) {
    for (Operation *op : ops)
      for (Value operand : op->getOperands())
        addOperand(operand);
    for (Operation *op : ops)
      for (Value result : op->getResults())
        if (usedOutside(result))
          results.insert(result);
  }

  void addOperand(Value value);
  bool usedOutside(Value value);
  func::FuncOp build(ModuleOp module, Location loc);
  Value materialise(Value value, OpBuilder &builder, IRMapping &map);
};

void KernelBuilder::addOperand(Value value) {
  Operation *def = value.getDefiningOp();
  if (!def) {
    arguments.insert(value);
    return;
  }
  if (members.contains(def) || isFreeLeaf(def))
    return;
  if (isa<ViewOpInterface>(def)) {
    // Through the view if it is one layout of what owns the buffer.
    if (auto view = getStorageView(value); view && view->root != value)
      return addOperand(cast<ViewOpInterface>(def).getViewSource());
    if (auto source = cast<ViewOpInterface>(def).getViewSource();
        source.getDefiningOp() && members.contains(source.getDefiningOp()))
      return;
  }
  arguments.insert(value);
}

/// Whether an op that is neither a member nor a view inside the kernel reads
/// the value.
bool KernelBuilder::usedOutside(Value value) {
  SmallVector<Value> worklist{value};
  while (!worklist.empty()) {
    for (Operation *user : worklist.pop_back_val().getUsers()) {
      if (members.contains(user))
        continue;
      if (!isa<ViewOpInterface>(user))
        return true;
      worklist.push_back(user->getResult(0));
    }
  }
  return false;
}

/// The value inside the kernel: an argument, a member's result, or a copy of
/// the leaf or view that makes it.
Value KernelBuilder::materialise(Value value, OpBuilder &builder,
                                 IRMapping &map) {
  if (Value known = map.lookupOrNull(value))
    return known;
  Operation *def = value.getDefiningOp();
  for (Value operand : def->getOperands())
    materialise(operand, builder, map);
  Operation *copy = builder.clone(*def, map);
  copy->removeAttr(kNameAttr);
  return map.lookup(value);
}

func::FuncOp KernelBuilder::build(ModuleOp module, Location loc) {
  OpBuilder builder(module.getContext());
  builder.setInsertionPointToEnd(module.getBody());
  SmallVector<Type> argTypes, resultTypes;
  for (Value arg : arguments)
    argTypes.push_back(arg.getType());
  for (Value result : results)
    resultTypes.push_back(result.getType());
  auto unknown = builder.getUnknownLoc();
  auto kernel = func::FuncOp::create(
      builder, loc, "kernel", builder.getFunctionType(argTypes, resultTypes));
  kernel.setPrivate();
  kernel->setAttr("mpt.kernel", builder.getUnitAttr());
  Block *body = kernel.addEntryBlock();
  builder.setInsertionPointToStart(body);
  IRMapping map;
  for (auto [arg, inner] : llvm::zip(arguments, body->getArguments()))
    map.map(arg, inner);
  for (Operation *op : ops) {
    for (Value operand : op->getOperands())
      materialise(operand, builder, map);
    Operation *copy = builder.clone(*op, map);
    copy->setLoc(unknown);
    copy->removeAttr(kNameAttr);
  }
  SmallVector<Value> returned;
  for (Value result : results)
    returned.push_back(map.lookup(result));
  func::ReturnOp::create(builder, unknown, returned);
  IRRewriter rewriter(builder);
  DominanceInfo dominance(kernel);
  eliminateCommonSubExpressions(rewriter, dominance, kernel);
  return kernel;
}

/// The first kernel with the same text, or this one under a new name.
func::FuncOp Outliner::share(func::FuncOp kernel) {
  std::string text;
  llvm::raw_string_ostream stream(text);
  kernel->print(stream, OpPrintingFlags().useLocalScope());
  auto [it, isNew] = kernels.try_emplace(text, kernel);
  if (!isNew) {
    kernel.erase();
    return it->second;
  }
  kernel.setName("kernel_" + std::to_string(kernels.size() - 1));
  return kernel;
}

LogicalResult Outliner::outline(ArrayRef<Operation *> ops, OpBuilder &builder) {
  KernelBuilder kernelBuilder(ops);
  if (kernelBuilder.results.empty())
    return success(); // dead
  func::FuncOp kernel =
      share(kernelBuilder.build(module, ops.back()->getLoc()));
  SmallVector<Value> operands;
  for (Value arg : kernelBuilder.arguments)
    operands.push_back(mapping.lookupOrDefault(arg));
  auto call =
      func::CallOp::create(builder, ops.back()->getLoc(), kernel, operands);
  setStableName(call, getStableName(ops.front()));
  for (auto [old, now] : llvm::zip(kernelBuilder.results, call.getResults()))
    mapping.map(old, now);
  ++numCalls;
  return success();
}

/// Rebuilds the step's block in the plan's order; ops that stay are moved.
LogicalResult Outliner::run() {
  Block &block = step.getBody().front();
  Operation *terminator = block.getTerminator();
  OpBuilder builder(terminator);
  SmallVector<Operation *> old;
  for (Operation &op : block.without_terminator())
    old.push_back(&op);
  // Views and leaves are copied where the new order needs them.
  std::function<void(Value)> bring = [&](Value value) {
    Operation *def = value.getDefiningOp();
    if (!def || mapping.contains(value))
      return;
    for (Value operand : def->getOperands())
      bring(operand);
    builder.clone(*def, mapping);
  };
  for (const FusionPlan::Unit &unit : plan.units) {
    if (unit.isKernel) {
      KernelBuilder probe(unit.ops);
      for (Value arg : probe.arguments)
        bring(arg);
      if (failed(outline(unit.ops, builder)))
        return failure();
      continue;
    }
    for (Value operand : unit.ops.front()->getOperands())
      bring(operand);
    builder.clone(*unit.ops.front(), mapping);
  }
  for (OpOperand &operand : terminator->getOpOperands()) {
    bring(operand.get());
    operand.set(mapping.lookupOrDefault(operand.get()));
  }
  for (Operation *op : llvm::reverse(old))
    op->erase();
  return success();
}

struct Fuse : mpt::impl::FuseBase<Fuse> {
  void runOnOperation() override {
    func::FuncOp step = getStage(getOperation(), "step", "mpt-fuse");
    llvm::StringMap<func::FuncOp> kernels;
    if (!step || failed(fuse(step, kernels)))
      return signalPassFailure();
    if (func::FuncOp init = getInit(step); init && failed(fuse(init, kernels)))
      return signalPassFailure();
    numKernels = kernels.size();
  }

  LogicalResult fuse(func::FuncOp func,
                     llvm::StringMap<func::FuncOp> &kernels) {
    if (failed(rematerialiseCheapOps(func)) || failed(copyAwkwardViews(func)))
      return failure();
    FailureOr<FusionPlan> plan = FusionPlan::build(func);
    if (failed(plan) || failed(plan->verify()))
      return failure();
    Outliner outliner(func, *plan, kernels);
    if (failed(outliner.run()))
      return failure();
    numCalls += outliner.numCalls;
    return success();
  }
};

} // namespace
