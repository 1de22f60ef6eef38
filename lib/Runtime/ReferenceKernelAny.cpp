//===- ReferenceKernelAny.cpp - reference product for any CPU
//------------------- ===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// For any CPU; where it has no fma, the C library's fmaf gives the same bits.
//
//===----------------------------------------------------------------------===//

#define MPT_ROWS 4
#define MPT_LANES 4
#define MPT_VECTORS 2
#define MPT_KERNEL referenceKernelAny
#include "ReferenceKernel.inc"
