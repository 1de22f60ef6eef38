//===- PlanMemory.cpp - one arena for a step ------------------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Plans buffers and launches of the lowered step and records what it needs.
//
//===----------------------------------------------------------------------===//

#include "mpt/Dialect/MPT/Analysis/StepPlan.h"
#include "mpt/Dialect/MPT/IR/Signature.h"
#include "mpt/Dialect/MPT/Transforms/Passes.h"

#define DEBUG_TYPE "mpt-plan-memory"

namespace mpt {
#define GEN_PASS_DEF_PLANMEMORY
#include "mpt/Dialect/MPT/Transforms/Passes.h.inc"
} // namespace mpt

using namespace mlir;
using namespace mpt;

namespace {

StringRef describe(StepPlan::LaunchKind kind) {
  switch (kind) {
  case StepPlan::LaunchKind::Kernel:
    return "kernel";
  case StepPlan::LaunchKind::Product:
    return "product";
  case StepPlan::LaunchKind::ScatterAdd:
    return "scatter_add";
  case StepPlan::LaunchKind::Copy:
    return "copy";
  case StepPlan::LaunchKind::Fill:
    return "fill";
  case StepPlan::LaunchKind::Attention:
    return "attention";
  case StepPlan::LaunchKind::AttentionGrad:
    return "attention_grad";
  case StepPlan::LaunchKind::Group:
    return "group";
  }
  llvm_unreachable("all kinds are listed");
}

/// One remark per launch: what it reads and writes, and where that lies.
void printLaunches(func::FuncOp step, const StepPlan &plan) {
  auto place = [&](InFlightDiagnostic &remark, StepPlan::Access access) {
    const StepPlan::Buffer &buffer = plan.buffers[access.buffer];
    if (buffer.kind == StepPlan::BufferKind::Arena)
      remark << "arena+" << buffer.offset + access.offset;
    else
      remark << (buffer.kind == StepPlan::BufferKind::Argument ? "argument"
                                                               : "constant")
             << access.buffer << "+" << access.offset;
  };
  auto print = [&](const StepPlan::Launch &launch, StringRef prefix) {
    InFlightDiagnostic remark =
        (launch.op ? launch.op : step.getOperation())->emitRemark();
    remark << prefix << describe(launch.kind) << " '" << launch.name << "' (";
    size_t numRead = launch.accesses.size() - launch.numWritten;
    for (auto [i, access] : llvm::enumerate(launch.accesses)) {
      remark << (i == 0 ? "" : i == numRead ? ") -> (" : ", ");
      place(remark, access);
    }
    remark << ")";
  };
  for (const StepPlan::Launch &launch : plan.launches)
    print(launch, "");
  for (const StepPlan::Launch &launch : plan.init)
    print(launch, "init: ");
}

bool groupAll(const KernelModel &) { return true; }

struct PlanMemory : mpt::impl::PlanMemoryBase<PlanMemory> {
  using PlanMemoryBase::PlanMemoryBase;

  void runOnOperation() override {
    func::FuncOp step = getStage(getOperation(), "step", "mpt-plan-memory");
    if (!step)
      return signalPassFailure();
    StepPlanOptions options;
    if (group)
      options.canGroup = groupAll;
    FailureOr<StepPlan> plan = StepPlan::build(step, options);
    if (failed(plan))
      return signalPassFailure();
    Builder builder(&getContext());
    step->setAttr("mpt.arena_bytes",
                  builder.getI64IntegerAttr(plan->arenaBytes));
    step->setAttr("mpt.live_bytes", builder.getI64IntegerAttr(plan->liveBytes));
    numLaunches = plan->launches.size();
    if (print)
      printLaunches(step, *plan);
  }
};

} // namespace
