//===- MemoryReport.h - what a step's memory holds ------------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Bytes of a step plan by what they are for: what is there all the time, and
// what lies in the arena at the moment when most of it is live.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_DIALECT_MPT_ANALYSIS_MEMORYREPORT_H
#define MPT_DIALECT_MPT_ANALYSIS_MEMORYREPORT_H

#include "mpt/Dialect/MPT/Analysis/StepPlan.h"

namespace mpt {

struct MemoryReport {
  /// Arguments, in bytes: parameters; moments and their corrections; scales,
  /// amax histories and what is derived from parameters; inputs and constants.
  int64_t parameters = 0, optimizer = 0, scales = 0, batch = 0;
  /// The arena when most of it is live: low copies of parameters; what the
  /// forward pass leaves for the backward pass (made before the last forward
  /// product, read after it); gradients of parameters; all the rest.
  int64_t copies = 0, saved = 0, gradients = 0, workspace = 0;
  /// The launch at which that is.
  std::string peakAt;
  /// The arena, and the least that any arena could be.
  int64_t arenaBytes = 0, liveBytes = 0;

  static MemoryReport of(const StepPlan &plan);
  /// Everything, without alignment between tensors.
  int64_t total() const {
    return parameters + optimizer + scales + batch + arenaBytes;
  }
  /// One line for people.
  void print(llvm::raw_ostream &os) const;
  /// Calls `visit` with each category's name and bytes.
  void
  forEach(llvm::function_ref<void(llvm::StringRef name, int64_t)> visit) const;
};

} // namespace mpt

#endif // MPT_DIALECT_MPT_ANALYSIS_MEMORYREPORT_H
