//===- Clones.h - functions compiled for several CPUs -----------*- C++ -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Attributes for the profiler's inner loops.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_LIB_METRICS_CLONES_H
#define MPT_LIB_METRICS_CLONES_H

/// The dynamic loader picks the clone that the CPU can run.
#if defined(__x86_64__) && defined(__linux__)
#define MPT_CLONES                                                             \
  __attribute__((target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4")))
#else
#define MPT_CLONES
#endif

/// For vectors written out: LLVM would cut them to 256 bits at v4.
#if defined(__clang__)
#define MPT_WIDE_CLONES MPT_CLONES __attribute__((min_vector_width(512)))
#else
#define MPT_WIDE_CLONES MPT_CLONES
#endif

#endif // MPT_LIB_METRICS_CLONES_H
