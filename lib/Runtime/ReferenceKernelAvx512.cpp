//===- ReferenceKernelAvx512.cpp - reference product for AVX-512
//----------------- ===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Compiled with -mavx512f: 12 x 32 results in 24 of 32 registers.
//
//===----------------------------------------------------------------------===//

#define MPT_ROWS 12
#define MPT_LANES 16
#define MPT_VECTORS 2
#define MPT_KERNEL referenceKernelAvx512
#include "ReferenceKernel.inc"
