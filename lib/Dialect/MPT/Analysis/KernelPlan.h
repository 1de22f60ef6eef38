//===- KernelPlan.h - phases and tasks of a kernel ------------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// The second half of building a kernel's model; private to it.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_LIB_DIALECT_MPT_ANALYSIS_KERNELPLAN_H
#define MPT_LIB_DIALECT_MPT_ANALYSIS_KERNELPLAN_H

namespace mpt {

class KernelModel;

/// Puts the reductions into column loops, and decides which values later loops
/// take from a row buffer instead of computing them anew.
void planPhases(KernelModel &model);

/// Splits the domain into tasks.
void planTasks(KernelModel &model);

} // namespace mpt

#endif // MPT_LIB_DIALECT_MPT_ANALYSIS_KERNELPLAN_H
