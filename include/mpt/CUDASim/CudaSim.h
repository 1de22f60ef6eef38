//===- CudaSim.h - CUDA C++ for a host compiler -----------------*- C++ -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// What mpt/CUDA/Port.h brings in when the compiler is not nvcc: the subset of
// CUDA C++ that emitted sources use, declared under CUDA's names and run on the
// CPU by lib/CUDASim. The threads of a block are fibers of one host thread;
// blocks and launches run one after the other. Nothing here needs the CUDA
// toolkit. State is global: one host thread at a time may use the simulator.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_CUDASIM_CUDASIM_H
#define MPT_CUDASIM_CUDASIM_H

// Code of the simulator itself is never instrumented, see Checker.cpp.
#define MPT_SIM_INTERNAL __attribute__((no_sanitize("thread")))

// Function and variable qualifiers. __shared__ cannot be given its meaning by a
// macro: MPT_SHARED is the way, and a plain __shared__ does not compile.
#define __global__
#define __device__
#define __host__
#define __constant__ static
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(n) __attribute__((aligned(n)))
#define __shared__ MPT_SHARED_is_the_only_way_to_declare_shared_memory

#define MPT_SITE_PARAM                                                         \
  , const char *siteFile = __builtin_FILE(), int siteLine = __builtin_LINE()
#define MPT_SITE_ARG , siteFile, siteLine

#include "mpt/CUDASim/Types.h"

#include "mpt/CUDASim/HostApi.h"
#include "mpt/CUDASim/Sim.h"

#include "mpt/CUDASim/Device.h"

/// The address of `site` stands for this declaration (and template instance):
/// all threads of a block that reach it get the same memory.
#define MPT_SHARED(T, name, n)                                                 \
  static char name##Site;                                                      \
  T *const name = static_cast<T *>(::mpt::sim::sharedArray(                    \
      &name##Site, #name, sizeof(T) * (n), alignof(T)))
#define MPT_SHARED_DYN(T, name)                                                \
  T *const name = static_cast<T *>(::mpt::sim::dynamicShared())

#endif // MPT_CUDASIM_CUDASIM_H
