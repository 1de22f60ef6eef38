//===- Vectors.h - short vectors of floats and doubles ----------*- C++ -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Vectors written out, of one width on every CPU: sums in lanes have one order,
// so results do not depend on the level that a loop was compiled for.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_LIB_METRICS_VECTORS_H
#define MPT_LIB_METRICS_VECTORS_H

#include <cstddef>
#include <cstdint>

#define MPT_INLINE inline __attribute__((always_inline))

namespace mpt::metrics {

typedef float Floats __attribute__((vector_size(64)));
typedef float HalfFloats __attribute__((vector_size(32)));
typedef double Doubles __attribute__((vector_size(64)));
typedef int64_t DoubleMask __attribute__((vector_size(64)));
constexpr int kLanes = 8; // of Doubles

template <typename Vector, typename Scalar>
MPT_INLINE Vector load(const Scalar *from) {
  Vector vector;
  __builtin_memcpy(&vector, from, sizeof vector);
  return vector;
}

template <typename Vector, typename Scalar>
MPT_INLINE void store(Scalar *to, Vector vector) {
  __builtin_memcpy(to, &vector, sizeof vector);
}

/// a * b + c with one rounding, a to every lane.
template <typename Scalar, typename Vector>
MPT_INLINE Vector multiplyAdd(Scalar a, Vector b, Vector c) {
#if defined(__clang__) && __has_builtin(__builtin_elementwise_fma)
  Vector splat = a - Vector{};
  return __builtin_elementwise_fma(splat, b, c);
#else
  for (size_t l = 0; l < sizeof(Vector) / sizeof(Scalar); ++l)
    c[l] = sizeof(Scalar) == 4 ? __builtin_fmaf(a, b[l], c[l])
                               : __builtin_fma(a, b[l], c[l]);
  return c;
#endif
}

/// Eight floats as doubles.
MPT_INLINE Doubles widenLanes(const float *from) {
  return __builtin_convertvector(load<HalfFloats>(from), Doubles);
}

MPT_INLINE double sumLanes(Doubles v) {
  return ((v[0] + v[1]) + (v[2] + v[3])) + ((v[4] + v[5]) + (v[6] + v[7]));
}

} // namespace mpt::metrics

#endif // MPT_LIB_METRICS_VECTORS_H
