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

/// What an emitted function is.
enum class KernelForm {
  Kernel,   ///< launched by itself
  Part,     ///< a body of a group's kernel: takes an mpt::PartBlock first
  CountPart ///< the same, of one row whose columns are an argument `count`
};

/// Writes the kernel as the function `name`; `uses` says where it is launched,
/// for the comment.
void emitKernel(const KernelModel &model, llvm::StringRef name,
                llvm::StringRef uses, SourceWriter &writer,
                KernelForm form = KernelForm::Kernel);

} // namespace cuda
} // namespace mpt

#endif // MPT_LIB_TARGET_CUDA_KERNELEMITTER_H
