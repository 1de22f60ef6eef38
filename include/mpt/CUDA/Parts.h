//===- Parts.h - One launch for many tensors --------------------*- C++ -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// A group's kernel does the work of many small launches: its blocks are dealt
// out to parts, in order, and a table in device memory says which function a
// part runs on which tensors. Places are bytes from the start of the step's
// memory, so the table is the same wherever that lies.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_CUDA_PARTS_H
#define MPT_CUDA_PARTS_H

#include "mpt/CUDA/Port.h"

namespace mpt {

/// One part, on at most N tensors.
template <int N> struct Part {
  /// Blocks of the parts before it.
  int64_t firstBlock;
  /// Elements, for functions that run over any number.
  int64_t count;
  /// Which function of the group, and how many blocks stand side by side.
  int32_t body, gridX;
  /// Tensors: arguments, then results; behind them the first one again.
  uint64_t places[N];
};

/// A block's place among those of its part: what the grid is to a kernel that
/// is launched alone.
struct PartBlock {
  int64_t index, count, gridX;

  MPT_SIM_INTERNAL __device__ int64_t threadId() const {
    return index % gridX * blockDim.x + threadIdx.x;
  }
  MPT_SIM_INTERNAL __device__ int64_t threads() const {
    return count * blockDim.x;
  }
  MPT_SIM_INTERNAL __device__ int64_t warpId() const {
    return index * (blockDim.x >> 5) + (threadIdx.x >> 5);
  }
  /// Which row of blocks, where they stand in rows of gridX.
  MPT_SIM_INTERNAL __device__ int64_t row() const { return index / gridX; }
};

/// The argument of a group's kernel.
template <int N> struct Parts {
  char *memory;
  const Part<N> *table;
  /// Parts, and blocks of all of them.
  int64_t count, blocks;

  /// The last part that begins at or before the calling block.
  MPT_SIM_INTERNAL __device__ const Part<N> &find() const {
    int64_t low = 0, high = count;
    while (high - low > 1) {
      int64_t middle = (low + high) / 2;
      (table[middle].firstBlock <= blockIdx.x ? low : high) = middle;
    }
    return table[low];
  }
  MPT_SIM_INTERNAL __device__ PartBlock blockOf(const Part<N> &part) const {
    const Part<N> *next = &part + 1;
    int64_t end = next < table + count ? next->firstBlock : blocks;
    return {blockIdx.x - part.firstBlock, end - part.firstBlock, part.gridX};
  }
  template <typename T>
  MPT_SIM_INTERNAL __device__ T *at(const Part<N> &part, int tensor) const {
    return reinterpret_cast<T *>(memory + part.places[tensor]);
  }

  /// The tensors of all parts, for the simulator.
  template <typename Visit> void visitPointers(Visit visit) const {
    visit(table);
    for (int64_t part = 0; part < count; ++part)
      for (uint64_t place : table[part].places)
        visit(memory + place);
  }
};

} // namespace mpt

#endif // MPT_CUDA_PARTS_H
