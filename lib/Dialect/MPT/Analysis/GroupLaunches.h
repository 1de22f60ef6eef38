//===- GroupLaunches.h - kernel launches that can be one ------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// A launch costs microseconds whatever it does, and a kernel over one bias
// leaves a GPU idle. Launches of one kind that do not depend on each other
// (updates of parameters, gradients' norms, scales) become parts of one launch.
// Private to the step plan.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_LIB_DIALECT_MPT_ANALYSIS_GROUPLAUNCHES_H
#define MPT_LIB_DIALECT_MPT_ANALYSIS_GROUPLAUNCHES_H

#include "mpt/Dialect/MPT/Analysis/StepPlan.h"

namespace mpt {

/// What kernels have in common that may share a launch: kernels that update
/// parameters, kernels over few elements, or kernels of the same ops.
std::string getLaunchFamily(const KernelModel &model);

/// What grouping needs to know besides the launches. Buffers are not shared
/// yet: each has one writer, and perhaps a fill in front of it.
struct GroupingInput {
  /// By launch: its family; empty for what stays alone.
  std::vector<std::string> families;
  /// A buffer that holds updated state, to the argument that it ends in: who
  /// reads the old state stays in front of the update.
  llvm::DenseMap<unsigned, unsigned> stateOf;
  /// A result's buffer to that of an argument whose place it can take, in the
  /// order that launches have now.
  llvm::DenseMap<unsigned, unsigned> inPlace;
  /// Buffers that the step returns.
  llvm::SmallVector<unsigned> returned;
};

/// Moves launches of one family together, where dependences and the memory that
/// is live at once allow it, and makes each such set one launch.
void groupLaunches(StepPlan &plan, const GroupingInput &input);

} // namespace mpt

#endif // MPT_LIB_DIALECT_MPT_ANALYSIS_GROUPLAUNCHES_H
