//===- ReferenceKernel.h - one build of the reference kernel ----*- C++ -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// The interface between the packing of the reference product and its inner
// loops, which are compiled for several vector widths. This header is included
// by files compiled for other CPUs, so it must define no function.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_LIB_RUNTIME_REFERENCEKERNEL_H
#define MPT_LIB_RUNTIME_REFERENCEKERNEL_H

#include <stdint.h>

namespace mpt::rt {

struct ReferenceKernel {
  int rows, columns; // of a register tile
  /// result[m x n] (+)= lhs panels * rhs panel, n <= columns. The lhs is packed
  /// in panels of `rows`, the rhs in one of `columns`, k by k, zero padded.
  void (*panel)(int64_t m, int64_t n, int64_t k, const float *lhs,
                const float *rhs, float *result, int64_t stride,
                bool accumulate);
};

extern const ReferenceKernel referenceKernelAvx512; // avx512f
extern const ReferenceKernel referenceKernelAvx2;   // avx2, fma
extern const ReferenceKernel referenceKernelAny;

} // namespace mpt::rt

#endif // MPT_LIB_RUNTIME_REFERENCEKERNEL_H
