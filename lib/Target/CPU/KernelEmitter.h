//===- KernelEmitter.h - a kernel's model as an LLVM dialect function -----===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Private to the CPU back end.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_LIB_TARGET_CPU_KERNELEMITTER_H
#define MPT_LIB_TARGET_CPU_KERNELEMITTER_H

#include "mlir/IR/BuiltinOps.h"
#include "mpt/Dialect/MPT/Analysis/KernelModel.h"

namespace mpt {
namespace cpu {

/// Appends `void name(ptr args, i64 begin, i64 end)` to `module`, in the LLVM
/// dialect.
void emitKernel(const KernelModel &model, mlir::ModuleOp module);

/// Stack that a call of the kernel takes for row buffers, in bytes.
int64_t getStackBytes(const KernelModel &model);

} // namespace cpu
} // namespace mpt

#endif // MPT_LIB_TARGET_CPU_KERNELEMITTER_H
