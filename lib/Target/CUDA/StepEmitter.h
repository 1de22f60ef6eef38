//===- StepEmitter.h - a step plan as one .cu file ------------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Private to the CUDA back end.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_LIB_TARGET_CUDA_STEPEMITTER_H
#define MPT_LIB_TARGET_CUDA_STEPEMITTER_H

#include "Names.h"
#include "llvm/Support/raw_ostream.h"

namespace mpt {
namespace cuda {

/// Writes kernels, products, tables and the launch list. Refuses, by name, what
/// cuBLASLt cannot multiply on the target.
mlir::LogicalResult emitStep(const StepPlan &plan, const DeviceMemory &memory,
                             llvm::StringRef graphHash, llvm::raw_ostream &os);

/// Writes the plan as JSON (docs/cuda.md).
mlir::LogicalResult writeManifest(const StepPlan &plan,
                                  const DeviceMemory &memory,
                                  llvm::StringRef graphHash,
                                  llvm::StringRef sourceHash,
                                  llvm::raw_ostream &os);

} // namespace cuda
} // namespace mpt

#endif // MPT_LIB_TARGET_CUDA_STEPEMITTER_H
