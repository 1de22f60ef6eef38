//===- Kernels.h - What emitted kernels share -------------------*- C++ -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Device functions and kernels that do not depend on the graph.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_CUDA_KERNELS_H
#define MPT_CUDA_KERNELS_H

#include "mpt/CUDA/Port.h"
#include "mpt/Numerics/Formats.h"
#include "mpt/Numerics/Philox.h"
#include "mpt/Numerics/Scales.h"

namespace mpt {

/// The Philox word of an element (mpt/Numerics/Philox.h).
__device__ inline uint32_t randomWord(int64_t element, int64_t seed,
                                      int64_t step, int64_t id) {
  uint64_t index = static_cast<uint64_t>(element);
  uint64_t key = static_cast<uint64_t>(seed);
  num::Stream<uint32_t> stream = {
      static_cast<uint32_t>(id), static_cast<uint32_t>(step),
      static_cast<uint32_t>(key), static_cast<uint32_t>(key >> 32)};
  return num::draw(static_cast<uint32_t>(index),
                   static_cast<uint32_t>(index >> 32), stream);
}

/// Whether dropout keeps an element: its word is below `threshold`.
__device__ inline bool keeps(int64_t element, int64_t seed, int64_t step,
                             int64_t id, uint32_t threshold) {
  return randomWord(element, seed, step, id) < threshold;
}

/// Truncates; out of range saturates, NaN gives 0.
__device__ inline int64_t toInt64(float x) {
  return x != x             ? 0
         : x >= 0x1.0p+63f  ? INT64_MAX
         : x <= -0x1.0p+63f ? INT64_MIN
                            : static_cast<int64_t>(x);
}
__device__ inline int32_t toInt32(float x) {
  return x != x             ? 0
         : x >= 0x1.0p+31f  ? INT32_MAX
         : x <= -0x1.0p+31f ? INT32_MIN
                            : static_cast<int32_t>(x);
}

/// Writes `count` codes, at most 16 bytes of them, to where 16 bytes are
/// aligned: rows of a transposed result.
template <typename Code>
__device__ inline void storePiece(const Code *from, Code *to, int64_t count) {
  static_assert(sizeof(Code) <= 2, "pieces are of codes");
  struct alignas(16) Piece {
    uint32_t words[4];
  };
  constexpr int perWord = 4 / sizeof(Code);
  if (count < 4 * perWord) {
    for (int i = 0; i < count; ++i)
      to[i] = from[i];
    return;
  }
  Piece piece = {};
  for (int i = 0; i < 4 * perWord; ++i)
    piece.words[i / perWord] |= static_cast<uint32_t>(from[i])
                                << (8 * sizeof(Code) * (i % perWord));
  *reinterpret_cast<Piece *>(to) = piece;
}

/// table[ids[r]] += updates[r], r ascending: a thread owns a column, so the
/// order of each sum is fixed without atomics.
template <typename Id>
__global__ void __launch_bounds__(128)
    scatterAdd(const Id *__restrict__ ids, const float *__restrict__ updates,
               float *__restrict__ table, int64_t rows, int64_t columns) {
  const int64_t c = gridThreadId();
  if (c >= columns)
    return;
  for (int64_t row = 0; row < rows; ++row) {
    float *to = table + ids[row] * columns + c;
    *to = *to + updates[row * columns + c];
  }
}

} // namespace mpt

#endif // MPT_CUDA_KERNELS_H
