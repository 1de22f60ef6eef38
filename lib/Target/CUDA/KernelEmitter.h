//===- KernelEmitter.h - a kernel's model as a __global__ function --------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Private to the CUDA back end.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_LIB_TARGET_CUDA_KERNELEMITTER_H
#define MPT_LIB_TARGET_CUDA_KERNELEMITTER_H

#include "SourceWriter.h"
#include "mpt/Dialect/MPT/Analysis/KernelModel.h"

namespace mpt {
namespace cuda {

/// Who does what in a kernel.
enum class Shape {
  ThreadPerElement, ///< one row: a grid-stride loop over its columns
  ThreadPerRow,     ///< one column
  WarpPerRow,       ///< the 32 lanes of a row reduction are a warp
  ThreadPerColumn,  ///< of a chunk of 64 rows, which it takes in order
  WarpPerChunk      ///< the same with row reductions: a warp takes the rows
};

/// How a kernel is launched.
struct LaunchShape {
  Shape shape = Shape::ThreadPerElement;
  int64_t gridX = 1, gridY = 1;
  int64_t block = 128;
  /// Dynamic shared memory for kept rows, in bytes; 0 where they are computed
  /// anew because they do not fit.
  int64_t sharedBytes = 0;
};

LaunchShape getLaunchShape(const KernelModel &model);

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
