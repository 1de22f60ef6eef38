//===- MemoryReport.cpp - what a step's memory holds ----------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// See MemoryReport.h.
//
//===----------------------------------------------------------------------===//

#include "mpt/Dialect/MPT/Analysis/MemoryReport.h"
#include "mpt/Dialect/MPT/IR/Signature.h"
#include "llvm/Support/Format.h"

using namespace mlir;
using namespace mpt;

namespace {

/// Which buffers are low copies of parameters, and which are gradients.
struct Classifier {
  const StepPlan &plan;
  std::vector<bool> isState, isCopy, isGradient;

  explicit Classifier(const StepPlan &plan)
      : plan(plan), isState(plan.buffers.size()), isCopy(plan.buffers.size()),
        isGradient(plan.buffers.size()) {
    for (const StepPlan::Argument &argument : plan.arguments)
      isState[argument.buffer] =
          argument.kind != Kind::Input && argument.kind != Kind::Label;
    for (auto [index, buffer] : llvm::enumerate(plan.buffers))
      if (buffer.kind == StepPlan::BufferKind::Constant)
        isState[index] = true;
    for (const StepPlan::Launch &launch : plan.launches) {
      for (const StepPlan::Part &part : launch.parts)
        visit(launch.getAccesses(part), part.numWritten);
      if (launch.parts.empty())
        visit(launch.accesses, launch.numWritten);
    }
    plan.forEachCall(
        [&](func::CallOp call, StringRef, ArrayRef<StepPlan::Access> accesses) {
          findGradients(call, accesses);
        });
  }

  /// What is computed from state alone is a copy of it.
  void visit(ArrayRef<StepPlan::Access> accesses, unsigned numWritten) {
    ArrayRef<StepPlan::Access> reads = accesses.drop_back(numWritten);
    bool derived = !reads.empty() && llvm::all_of(reads, [&](auto access) {
      return isState[access.buffer] || isCopy[access.buffer];
    });
    for (StepPlan::Access access : accesses.take_back(numWritten))
      isCopy[access.buffer] = derived && plan.buffers[access.buffer].kind ==
                                             StepPlan::BufferKind::Arena;
  }

  void findGradients(func::CallOp call, ArrayRef<StepPlan::Access> accesses) {
    auto kernel = SymbolTable::lookupNearestSymbolFrom<func::FuncOp>(
        call, call.getCalleeAttr());
    kernel.walk([&](AdamWOp update) {
      if (auto view = getStorageView(update.getGrad()))
        if (auto argument = dyn_cast<BlockArgument>(view->root))
          isGradient[accesses[argument.getArgNumber()].buffer] = true;
    });
  }
};

/// The last product of the forward pass; -1 if there is none.
int64_t lastForwardProduct(const StepPlan &plan) {
  int64_t last = -1;
  for (auto [index, launch] : llvm::enumerate(plan.launches))
    if (auto product = dyn_cast_or_null<ProductOpInterface>(launch.op))
      if (product.getProductRole() == Role::Fprop)
        last = index;
  return last;
}

/// The first moment at which most of the arena is live.
int64_t findPeak(const StepPlan &plan) {
  std::vector<int64_t> live(plan.launches.size() + plan.init.size() + 2, 0);
  for (const StepPlan::Buffer &buffer : plan.buffers)
    if (buffer.kind == StepPlan::BufferKind::Arena && buffer.begin >= 0) {
      live[buffer.begin] += buffer.bytes;
      live[buffer.end + 1] -= buffer.bytes;
    }
  for (size_t i = 1; i < live.size(); ++i)
    live[i] += live[i - 1];
  return llvm::max_element(live) - live.begin();
}

/// The launch at a moment: those of `init` come after the step, whose results
/// have a moment of their own.
std::string nameAt(const StepPlan &plan, size_t moment) {
  if (moment < plan.launches.size())
    return plan.launches[moment].name;
  size_t index = moment - plan.launches.size();
  return index > 0 && index <= plan.init.size() ? plan.init[index - 1].name
                                                : "";
}

/// The category of an argument.
int64_t MemoryReport::*categoryOf(Kind kind) {
  switch (kind) {
  case Kind::Parameter:
    return &MemoryReport::parameters;
  case Kind::OptimizerState:
    return &MemoryReport::optimizer;
  case Kind::ScaleState:
  case Kind::Derived:
    return &MemoryReport::scales;
  case Kind::Input:
  case Kind::Label:
  case Kind::Rng:
  case Kind::Hyper:
    return &MemoryReport::batch;
  }
  llvm_unreachable("all kinds are listed");
}

} // namespace

MemoryReport MemoryReport::of(const StepPlan &plan) {
  MemoryReport report;
  report.arenaBytes = plan.arenaBytes;
  report.liveBytes = plan.liveBytes;
  for (const StepPlan::Argument &argument : plan.arguments)
    report.*categoryOf(argument.kind) += plan.buffers[argument.buffer].bytes;
  Classifier classes(plan);
  int64_t forward = lastForwardProduct(plan), peak = findPeak(plan);
  report.peakAt = nameAt(plan, peak);
  for (auto [index, buffer] : llvm::enumerate(plan.buffers)) {
    if (buffer.kind == StepPlan::BufferKind::Constant)
      report.batch += buffer.bytes;
    if (buffer.kind != StepPlan::BufferKind::Arena || buffer.begin < 0 ||
        buffer.begin > peak || buffer.end < peak)
      continue;
    int64_t &category = classes.isGradient[index] ? report.gradients
                        : classes.isCopy[index]   ? report.copies
                        : buffer.begin <= forward && buffer.end > forward
                            ? report.saved
                            : report.workspace;
    category += buffer.bytes;
  }
  return report;
}

void MemoryReport::forEach(
    llvm::function_ref<void(StringRef name, int64_t)> visit) const {
  visit("parameters", parameters);
  visit("optimizer", optimizer);
  visit("scales", scales);
  visit("batch", batch);
  visit("copies", copies);
  visit("saved", saved);
  visit("gradients", gradients);
  visit("workspace", workspace);
}

void MemoryReport::print(llvm::raw_ostream &os) const {
  auto mebibytes = [](int64_t bytes) {
    return llvm::format("%.1f MiB", static_cast<double>(bytes) / (1 << 20));
  };
  os << "memory: " << mebibytes(total()) << ", of them parameters "
     << mebibytes(parameters) << ", optimizer " << mebibytes(optimizer)
     << ", scales " << mebibytes(scales) << ", batch " << mebibytes(batch)
     << ", arena " << mebibytes(arenaBytes) << "\n";
  if (arenaBytes == 0)
    return;
  os << "arena: " << mebibytes(liveBytes) << " live at '" << peakAt
     << "': saved for the backward pass " << mebibytes(saved) << ", gradients "
     << mebibytes(gradients) << ", low copies of parameters "
     << mebibytes(copies) << ", workspace " << mebibytes(workspace) << "; "
     << llvm::format("%.1f %%", 100.0 * (arenaBytes - liveBytes) / liveBytes)
     << " lost between them\n";
}
