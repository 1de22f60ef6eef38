//===- Dataflow.h - which launch depends on which ---------------*- C++ -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Static questions about a launch list: what runs if nothing may write an
// argument, and which gradients depend on a launch. Both walk the list once in
// order and follow values through buffers; a launch that writes a whole buffer
// replaces what is known of it, one that writes a part adds to it.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_LIB_RUNTIME_DATAFLOW_H
#define MPT_LIB_RUNTIME_DATAFLOW_H

#include "Manifest.h"

namespace mpt::rt {

/// A buffer that a launch reads or writes.
struct BufferAccess {
  int64_t buffer = 0;
  /// Of a write: the whole buffer gets new contents. Of a kernel only where its
  /// arguments begin is known: one that begins at 0 is taken to be the whole.
  bool whole = false;
};

struct LaunchAccesses {
  std::vector<BufferAccess> reads, writes;
};

/// What `launch` reads and writes. Fails with MPT_ERROR_UNSUPPORTED, naming it,
/// on a kernel whose manifest does not say which arguments it writes.
LaunchAccesses accessesOf(const Manifest &manifest, const Launch &launch);

/// What remains of a step that must not write any argument.
struct GradientPlan {
  /// By launch: it runs. Launches that write an argument do not, nor do those
  /// that read what a launch that does not run would have written.
  std::vector<bool> runs;
  /// By buffer: a launch that runs reads it.
  std::vector<bool> reads;
  /// By result: empty, or the launch that keeps it from being there in the end:
  /// one that does not run, or that writes over it.
  std::vector<std::string> missing;
};

/// Fails with MPT_ERROR_UNSUPPORTED where the manifest has no gradients, or
/// where the loss or a gradient depends on a launch that must not run or is
/// overwritten by one that runs after it; the launch is named.
GradientPlan planGradient(const Manifest &manifest);

/// For each of `launches`, in ascending order, the gradients (indices in
/// manifest.gradients) that depend on what it writes, in the launches that
/// planGradient keeps. Fails as planGradient does, and on an index beyond the
/// list with MPT_ERROR_ARGUMENT.
std::vector<std::vector<size_t>>
gradientsReachedFrom(const Manifest &manifest,
                     const std::vector<size_t> &launches);

} // namespace mpt::rt

#endif // MPT_LIB_RUNTIME_DATAFLOW_H
