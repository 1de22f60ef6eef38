//===- LaunchShape.h - who does what in an emitted kernel -----------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// How the points of a kernel's domain are given to blocks, warps and threads,
// and what a block keeps in shared memory. Private to the CUDA back end.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_LIB_TARGET_CUDA_LAUNCHSHAPE_H
#define MPT_LIB_TARGET_CUDA_LAUNCHSHAPE_H

#include "mpt/Dialect/MPT/Analysis/KernelModel.h"

namespace mpt {
namespace cuda {

enum class Shape {
  ThreadPerElement, ///< one row: a grid-stride loop over its columns
  ThreadPerRow,     ///< one column
  WarpPerRow,       ///< the 32 lanes of a row reduction are a warp
  ThreadPerColumn,  ///< of a chunk of 64 rows, which it takes in order
  BlockRows,        ///< a block 64 rows, a warp a whole row at a time
  BlockTiles        ///< a block 64 rows, some columns of all of them at a time
};

/// An array in a block's shared memory.
struct SharedArray {
  enum class Use {
    Kept,     ///< values of a row that later column loops need: `index` a node
    RowValue, ///< row reductions of 64 rows: `index` a node
    Lanes,    ///< unfinished row reductions, 32 lanes of 64 rows: a node
    Stage,    ///< what a chunk sum adds up: `index` a result
    Sums,     ///< the sums so far: `index` a result
    Turned    ///< 64 rows of a transposed result: `index` a result
  };
  Use use;
  unsigned index;
  int64_t elements;
  int64_t offset; ///< in bytes
};

/// How a kernel is launched.
struct LaunchShape {
  Shape shape = Shape::ThreadPerElement;
  int64_t gridX = 1, gridY = 1;
  int64_t block = 128;
  /// Dynamic shared memory in bytes.
  int64_t sharedBytes = 0;
  /// Whether kept values are in shared memory; they are computed anew where
  /// they do not fit.
  bool keepsRows = false;
  /// BlockTiles: columns at a time, and whether the tiles are spread over
  /// blocks.
  int64_t tile = 0;
  bool spreadsTiles = false;
  llvm::SmallVector<SharedArray> arrays;
};

LaunchShape getLaunchShape(const KernelModel &model);

/// Rows of a transposed result in shared memory lie this many elements apart:
/// 64 and a word, so that neither rows nor columns meet in one bank.
inline int64_t getTurnedPitch(int64_t elementBytes) {
  return KernelModel::kChunkRows + std::max<int64_t>(4 / elementBytes, 1);
}

} // namespace cuda
} // namespace mpt

#endif // MPT_LIB_TARGET_CUDA_LAUNCHSHAPE_H
