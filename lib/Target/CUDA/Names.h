//===- Names.h - identifiers for tensors ----------------------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Where every buffer of a step plan lies in device memory, and what emitted
// code calls it. Private to the CUDA back end.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_LIB_TARGET_CUDA_NAMES_H
#define MPT_LIB_TARGET_CUDA_NAMES_H

#include "mpt/Dialect/MPT/Analysis/StepPlan.h"

namespace mpt {
namespace cuda {

/// One allocation: arguments, then constants and tables, then the arena.
struct DeviceMemory {
  struct Buffer {
    std::string name; ///< a C++ identifier, unique
    int64_t offset = 0;
    int64_t bytes = 0;
    bool used = false;
  };
  std::vector<Buffer> buffers; ///< as in the plan
  std::vector<Buffer> tables;  ///< what the parts of each group are
  int64_t arena = 0;           ///< where the arena starts
  int64_t bytes = 0;

  explicit DeviceMemory(const StepPlan &plan);
  /// The address of an access, in bytes from the start.
  int64_t offsetOf(StepPlan::Access access) const {
    return buffers[access.buffer].offset + access.offset;
  }
  static constexpr int64_t kAlignment = 256;

private:
  void addTables(const StepPlan &plan);
};

/// `text` in double quotes, as a C++ literal.
std::string quoted(llvm::StringRef text);

} // namespace cuda
} // namespace mpt

#endif // MPT_LIB_TARGET_CUDA_NAMES_H
