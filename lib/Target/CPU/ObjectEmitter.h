//===- ObjectEmitter.h - LLVM dialect to an object file -------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Private to the CPU back end.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_LIB_TARGET_CPU_OBJECTEMITTER_H
#define MPT_LIB_TARGET_CPU_OBJECTEMITTER_H

#include "mpt/Target/CPU/CPUTarget.h"

namespace mpt {
namespace cpu {

/// Translates, optimizes and compiles a module in the LLVM dialect. The LLVM IR
/// is written to `llvmFile` unless that is empty.
mlir::LogicalResult emitObject(mlir::ModuleOp module, const CPUTarget &target,
                               llvm::StringRef llvmFile,
                               llvm::StringRef objectPath);

} // namespace cpu
} // namespace mpt

#endif // MPT_LIB_TARGET_CPU_OBJECTEMITTER_H
