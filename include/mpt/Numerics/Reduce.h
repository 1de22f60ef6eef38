//===- Reduce.h - the order of sums and maxima ------------------*- C++ -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// The order in which reductions combine their elements is part of an op's
// definition: back ends agree bit for bit because they share it. These host
// loops state the definition; profiler, reference code and tests use them.
// `get(i)` yields element i, so a caller can apply a scalar body on the way.
//
// A row: 32 lanes; lane l takes elements l, l + 32, l + 64, ... in order,
// starting from the identity; then v[i] + v[i + 16], + 8, + 4, + 2, + 1.
// A column (over leading axes): chunks of 64 rows, each summed in ascending
// order from 0, then the chunks' sums in ascending order from 0.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_NUMERICS_REDUCE_H
#define MPT_NUMERICS_REDUCE_H

#include "mpt/Numerics/Math.h"

#include <cstddef>

namespace mpt {
namespace num {

/// Lanes of a row's reduction: a warp, or two AVX-512 registers.
constexpr int kReduceLanes = 32;
/// Rows of a chunk in a reduction over rows.
constexpr int kReduceChunk = 64;

/// The lanes' tree. `combine(a, b)` with a from the lower lane; overwrites.
template <typename F, typename Combine>
F reduceLanes(F (&lanes)[kReduceLanes], Combine combine) {
  for (int width = kReduceLanes / 2; width > 0; width /= 2)
    for (int i = 0; i < width; ++i)
      lanes[i] = combine(lanes[i], lanes[i + width]);
  return lanes[0];
}

/// Reduces get(0) ... get(n - 1) as a row.
template <typename Get, typename Combine>
float reduceRow(size_t n, float identity, Get get, Combine combine) {
  float lanes[kReduceLanes];
  for (float &lane : lanes)
    lane = identity;
  for (size_t i = 0; i < n; ++i)
    lanes[i % kReduceLanes] = combine(lanes[i % kReduceLanes], get(i));
  return reduceLanes(lanes, combine);
}

/// The sum of a row of n elements.
template <typename Get> float rowSum(size_t n, Get get) {
  return reduceRow(n, 0.0f, get, [](float a, float b) { return a + b; });
}

/// The maximum of a row of n elements: -inf if n is 0, NaN if any is NaN.
template <typename Get> float rowMax(size_t n, Get get) {
  return reduceRow(n, asFloat(0xff800000u), get,
                   [](float a, float b) { return num::maxOf(a, b); });
}

/// The sum over rows of one column; get(r) yields its element in row r.
template <typename Get> float columnSum(size_t rows, Get get) {
  float total = 0.0f;
  for (size_t begin = 0; begin < rows; begin += kReduceChunk) {
    size_t end = rows - begin < kReduceChunk ? rows : begin + kReduceChunk;
    float partial = 0.0f;
    for (size_t r = begin; r < end; ++r)
      partial = partial + get(r);
    total = total + partial;
  }
  return total;
}

inline float rowSum(const float *x, size_t n) {
  return rowSum(n, [x](size_t i) { return x[i]; });
}
inline float rowMax(const float *x, size_t n) {
  return rowMax(n, [x](size_t i) { return x[i]; });
}

/// Sums of all columns of a row-major matrix: `out` has `columns` elements.
inline void columnSums(const float *x, size_t rows, size_t columns,
                       float *out) {
  for (size_t c = 0; c < columns; ++c)
    out[c] = columnSum(rows, [=](size_t r) { return x[r * columns + c]; });
}

} // namespace num
} // namespace mpt

#endif // MPT_NUMERICS_REDUCE_H
