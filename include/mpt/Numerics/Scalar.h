//===- Scalar.h - the vocabulary of the numerics ----------------*- C++ -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Every function of the numerics is a template over its scalar type and uses
// only the operations below. This file gives them for float, uint32_t and bool
// (host and CUDA device); a code generator gives them for wrappers around IR
// values and thereby emits the very same arithmetic, scalar or vector.
//
// For wrappers F (f32), U (i32, unsigned) and B (i1), found by ADL:
//   F: + - * /  unary -  < <= > >= == !=   fma sqrt abs bits
//      comparisons are ordered, except != which is true on NaN (arith: UNE)
//   U: + - * & | ^ ~   << >> by an int (>> fills with zeros)
//      < <= > >= == !=  unsigned   mulhi asFloat toFloat
//   B: & | !
//   select(B, F, F)  select(B, U, U)
//   lit(F, float) -> F   lit(U, uint32_t) -> U   litU(F, uint32_t) -> U
// where the first operand of lit and litU only lends its type (and shape).
//
// F, U and B must be three distinct C++ types. + - * / sqrt round to nearest
// even, subnormals are kept, nothing is contracted: compile host code with
// -ffp-contract=off and device code with -fmad=false, never with fast-math.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_NUMERICS_SCALAR_H
#define MPT_NUMERICS_SCALAR_H

#if defined(__CUDACC_RTC__)
typedef unsigned int uint32_t;
typedef unsigned long long uint64_t;
#else
#include <cstdint>
#endif

/// In front of each function: callable on host and device, and inlined, so that
/// loops over arrays vectorise.
#if defined(__CUDACC__)
#define MPT_HD __host__ __device__ __forceinline__
#else
#define MPT_HD inline __attribute__((always_inline))
#endif

namespace mpt {
namespace num {

MPT_HD float fma(float a, float b, float c) {
#if defined(__CUDACC__)
  return ::fmaf(a, b, c);
#else
  return __builtin_fmaf(a, b, c);
#endif
}

MPT_HD float sqrt(float x) {
#if defined(__CUDACC__)
  return ::sqrtf(x);
#else
  return __builtin_sqrtf(x);
#endif
}

/// The float's IEEE-754 bits.
MPT_HD uint32_t bits(float x) {
  uint32_t u;
  __builtin_memcpy(&u, &x, sizeof(u));
  return u;
}

/// The float with these IEEE-754 bits.
MPT_HD float asFloat(uint32_t u) {
  float x;
  __builtin_memcpy(&x, &u, sizeof(x));
  return x;
}

MPT_HD float abs(float x) { return asFloat(bits(x) & 0x7fffffffu); }

/// The value of `u` rounded to nearest even.
MPT_HD float toFloat(uint32_t u) { return static_cast<float>(u); }

/// The high 32 bits of the 64-bit product.
MPT_HD uint32_t mulhi(uint32_t a, uint32_t b) {
  return static_cast<uint32_t>((static_cast<uint64_t>(a) * b) >> 32);
}

MPT_HD float select(bool c, float a, float b) { return c ? a : b; }
MPT_HD uint32_t select(bool c, uint32_t a, uint32_t b) { return c ? a : b; }

MPT_HD float lit(float, float value) { return value; }
MPT_HD uint32_t lit(uint32_t, uint32_t value) { return value; }
MPT_HD uint32_t litU(float, uint32_t value) { return value; }

} // namespace num
} // namespace mpt

#endif // MPT_NUMERICS_SCALAR_H
