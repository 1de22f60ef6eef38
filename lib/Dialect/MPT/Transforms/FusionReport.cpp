//===- FusionReport.cpp - launches and bytes of the step, by layer --------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Prints what fusion is judged by (StepReport), for people and for tests.
//
//===----------------------------------------------------------------------===//

#include "mpt/Dialect/MPT/Analysis/StepReport.h"
#include "mpt/Dialect/MPT/IR/Signature.h"
#include "mpt/Dialect/MPT/Transforms/Passes.h"
#include "llvm/Support/raw_ostream.h"

#define DEBUG_TYPE "mpt-fusion-report"

namespace mpt {
#define GEN_PASS_DEF_FUSIONREPORT
#include "mpt/Dialect/MPT/Transforms/Passes.h.inc"
} // namespace mpt

using namespace mlir;
using namespace mpt;

namespace {

/// "name: launches (of which ...), bytes (of which ...)"
void printLayer(const LayerTraffic &layer, llvm::raw_ostream &os) {
  int64_t launches = 0, bytes = 0;
  for (unsigned i = 0; i < LayerTraffic::kClasses; ++i) {
    launches += layer.launches[i];
    bytes += layer.bytes[i];
  }
  os << (layer.name.empty() ? "rest" : layer.name) << ": " << launches
     << " launches, " << bytes << " bytes\n";
  for (unsigned i = 0; i < LayerTraffic::kClasses; ++i)
    if (layer.launches[i])
      os << "  " << stringify(static_cast<LaunchClass>(i)) << ' '
         << layer.launches[i] << ", " << layer.bytes[i] << " bytes\n";
}

std::string describe(Operation *call) {
  return describeKernel(SymbolTable::lookupNearestSymbolFrom<func::FuncOp>(
      call, cast<func::CallOp>(call).getCalleeAttr()));
}

void printLaunch(const StepPlan::Launch &launch, llvm::raw_ostream &os) {
  Traffic traffic = getTraffic(launch);
  os << stringify(classify(launch)) << " '" << launch.name << "' reads "
     << traffic.read << ", writes " << traffic.written;
  if (isa_and_nonnull<func::CallOp>(launch.op))
    os << ": " << describe(launch.op);
  os << '\n';
  for (const StepPlan::Part &part : launch.parts)
    os << "  '" << part.name << "': " << describe(part.op) << '\n';
}

struct FusionReport : mpt::impl::FusionReportBase<FusionReport> {
  using FusionReportBase::FusionReportBase;

  void runOnOperation() override {
    func::FuncOp step = getStage(getOperation(), "step", "mpt-fusion-report");
    if (!step)
      return signalPassFailure();
    FailureOr<StepPlan> plan = StepPlan::build(step);
    if (failed(plan))
      return signalPassFailure();
    llvm::raw_ostream &os = llvm::errs();
    for (const LayerTraffic &layer : getLayerTraffic(*plan))
      printLayer(layer, os);
    for (const StepPlan::Launch &launch : plan->launches)
      if (list || classify(launch) == LaunchClass::StandAlone)
        printLaunch(launch, os);
    markAllAnalysesPreserved();
  }
};

} // namespace
