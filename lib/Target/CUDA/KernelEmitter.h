//===- KernelEmitter.h - a kernel's model as a __global__ function --------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Private to the CUDA back end.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_LIB_TARGET_CUDA_KERNELEMITTER_H
#define MPT_LIB_TARGET_CUDA_KERNELEMITTER_H

#include "LaunchShape.h"
#include "SourceWriter.h"

namespace mpt {
namespace cuda {

/// Writes the kernel as the function `name`; `uses` says where it is launched,
/// for the comment.
void emitKernel(const KernelModel &model, llvm::StringRef name,
                llvm::StringRef uses, SourceWriter &writer);

} // namespace cuda
} // namespace mpt

#endif // MPT_LIB_TARGET_CUDA_KERNELEMITTER_H
