//===- Device.h - CUDA's device functions, for the simulator ----*- C++ -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Built-in variables, synchronisation, warp functions, atomics and the scalar
// intrinsics. Functions at which threads wait for each other take the place of
// their call as hidden last arguments, for reports.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_CUDASIM_DEVICE_H
#define MPT_CUDASIM_DEVICE_H

#include "mpt/CUDASim/Types.h"

#include <cmath>
#include <cstring>

/// Set by the scheduler whenever it resumes a thread.
extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;
constexpr int warpSize = 32;

namespace mpt::sim {

/// What a warp does together; names are in Scheduler.cpp. Aligned: any other
/// instruction that all lanes must execute together.
enum class WarpOp {
  Sync,
  Shuffle,
  ShuffleUp,
  ShuffleDown,
  ShuffleXor,
  Ballot,
  Aligned
};

void blockBarrier(const char *file, int line);

/// Waits for the lanes of `mask` to call the same. `value` is what this lane
/// offers, `operand` the lane, distance or lane mask of a shuffle.
uint64_t warpCollective(WarpOp op, unsigned mask, uint64_t value,
                        unsigned operand, int width, const char *file,
                        int line);

/// Tells the checker of an atomic access.
void atomicAccess(const void *address, size_t bytes, const char *file,
                  int line);

template <typename T>
MPT_SIM_INTERNAL T shuffle(WarpOp op, unsigned mask, T value, unsigned operand,
                           int width, const char *file, int line) {
  static_assert(sizeof(T) <= 8, "a shuffle moves at most 8 bytes");
  uint64_t word = 0;
  __builtin_memcpy(&word, &value, sizeof(T));
  word = warpCollective(op, mask, word, operand, width, file, line);
  __builtin_memcpy(&value, &word, sizeof(T));
  return value;
}

/// Replaces *address by update(*address) and returns what it was. Threads run
/// one at a time, so a plain access is atomic.
template <typename T, typename F>
MPT_SIM_INTERNAL T atomic(T *address, F update, const char *file, int line) {
  atomicAccess(address, sizeof(T), file, line);
  T old = *address;
  *address = update(old);
  return old;
}

} // namespace mpt::sim

//===----------------------------------------------------------------------===//
// Synchronisation
//===----------------------------------------------------------------------===//

MPT_SIM_INTERNAL inline void
__syncthreads(const char *siteFile = __builtin_FILE(),
              int siteLine = __builtin_LINE()) {
  mpt::sim::blockBarrier(siteFile, siteLine);
}

MPT_SIM_INTERNAL inline void
__syncwarp(unsigned mask = 0xffffffffu MPT_SITE_PARAM) {
  mpt::sim::warpCollective(mpt::sim::WarpOp::Sync, mask, 0, 0, 32 MPT_SITE_ARG);
}

inline void __threadfence() {}
inline void __threadfence_block() {}

template <typename T>
MPT_SIM_INTERNAL T __shfl_sync(unsigned mask, T value, int lane,
                               int width = 32 MPT_SITE_PARAM) {
  return mpt::sim::shuffle(mpt::sim::WarpOp::Shuffle, mask, value,
                           static_cast<unsigned>(lane), width MPT_SITE_ARG);
}

template <typename T>
MPT_SIM_INTERNAL T __shfl_up_sync(unsigned mask, T value, unsigned delta,
                                  int width = 32 MPT_SITE_PARAM) {
  return mpt::sim::shuffle(mpt::sim::WarpOp::ShuffleUp, mask, value, delta,
                           width MPT_SITE_ARG);
}

template <typename T>
MPT_SIM_INTERNAL T __shfl_down_sync(unsigned mask, T value, unsigned delta,
                                    int width = 32 MPT_SITE_PARAM) {
  return mpt::sim::shuffle(mpt::sim::WarpOp::ShuffleDown, mask, value, delta,
                           width MPT_SITE_ARG);
}

template <typename T>
MPT_SIM_INTERNAL T __shfl_xor_sync(unsigned mask, T value, int laneMask,
                                   int width = 32 MPT_SITE_PARAM) {
  return mpt::sim::shuffle(mpt::sim::WarpOp::ShuffleXor, mask, value,
                           static_cast<unsigned>(laneMask), width MPT_SITE_ARG);
}

MPT_SIM_INTERNAL inline unsigned __ballot_sync(unsigned mask,
                                               int predicate MPT_SITE_PARAM) {
  return static_cast<unsigned>(mpt::sim::warpCollective(
      mpt::sim::WarpOp::Ballot, mask, predicate != 0, 0, 32 MPT_SITE_ARG));
}

MPT_SIM_INTERNAL inline int __any_sync(unsigned mask,
                                       int predicate MPT_SITE_PARAM) {
  return __ballot_sync(mask, predicate MPT_SITE_ARG) != 0;
}

MPT_SIM_INTERNAL inline int __all_sync(unsigned mask,
                                       int predicate MPT_SITE_PARAM) {
  return __ballot_sync(mask, predicate MPT_SITE_ARG) == mask;
}

//===----------------------------------------------------------------------===//
// Atomics
//===----------------------------------------------------------------------===//

#define MPT_SIM_ATOMIC(name, T, expression)                                    \
  MPT_SIM_INTERNAL inline T name(T *address, T value MPT_SITE_PARAM) {         \
    return mpt::sim::atomic(address, [value](T old) MPT_SIM_INTERNAL -> T {    \
      (void)old;                                                               \
      return expression;                                                       \
    } MPT_SITE_ARG);                                                           \
  }
MPT_SIM_ATOMIC(atomicAdd, float, old + value)
MPT_SIM_ATOMIC(atomicAdd, double, old + value)
MPT_SIM_ATOMIC(atomicAdd, int, old + value)
MPT_SIM_ATOMIC(atomicAdd, unsigned, old + value)
MPT_SIM_ATOMIC(atomicAdd, unsigned long long, old + value)
MPT_SIM_ATOMIC(atomicMax, int, old > value ? old : value)
MPT_SIM_ATOMIC(atomicMax, unsigned, old > value ? old : value)
MPT_SIM_ATOMIC(atomicMin, int, old < value ? old : value)
MPT_SIM_ATOMIC(atomicMin, unsigned, old < value ? old : value)
MPT_SIM_ATOMIC(atomicExch, int, value)
MPT_SIM_ATOMIC(atomicExch, unsigned, value)
MPT_SIM_ATOMIC(atomicExch, float, value)
MPT_SIM_ATOMIC(atomicOr, unsigned, old | value)
MPT_SIM_ATOMIC(atomicOr, int, old | value)
MPT_SIM_ATOMIC(atomicAnd, unsigned, old &value)
#undef MPT_SIM_ATOMIC

#define MPT_SIM_CAS(T)                                                         \
  MPT_SIM_INTERNAL inline T atomicCAS(T *address, T compare,                   \
                                      T value MPT_SITE_PARAM) {                \
    return mpt::sim::atomic(address, [=](T old) MPT_SIM_INTERNAL -> T {        \
      return old == compare ? value : old;                                     \
    } MPT_SITE_ARG);                                                           \
  }
MPT_SIM_CAS(int)
MPT_SIM_CAS(unsigned)
MPT_SIM_CAS(unsigned long long)
#undef MPT_SIM_CAS

//===----------------------------------------------------------------------===//
// Intrinsics
//===----------------------------------------------------------------------===//

template <typename T> inline T __ldg(const T *address) { return *address; }

inline unsigned __float_as_uint(float x) {
  unsigned bits;
  __builtin_memcpy(&bits, &x, 4);
  return bits;
}
inline float __uint_as_float(unsigned bits) {
  float x;
  __builtin_memcpy(&x, &bits, 4);
  return x;
}
inline int __float_as_int(float x) {
  return static_cast<int>(__float_as_uint(x));
}
inline float __int_as_float(int bits) {
  return __uint_as_float(static_cast<unsigned>(bits));
}
inline unsigned __umulhi(unsigned a, unsigned b) {
  return static_cast<unsigned>(static_cast<uint64_t>(a) * b >> 32);
}
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __clz(int x) {
  return x ? __builtin_clz(static_cast<unsigned>(x)) : 32;
}

inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fmaf_rn(float a, float b, float c) {
  return __builtin_fmaf(a, b, c);
}
inline float __fsqrt_rn(float a) { return __builtin_sqrtf(a); }

// CUDA has these for mixed integer types in the global namespace; emitted
// sources use equal types.
template <typename T> constexpr T min(T a, T b) { return b < a ? b : a; }
template <typename T> constexpr T max(T a, T b) { return a < b ? b : a; }

#endif // MPT_CUDASIM_DEVICE_H
