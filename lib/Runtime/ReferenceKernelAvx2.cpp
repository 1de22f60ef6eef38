//===- ReferenceKernelAvx2.cpp - reference product for AVX2
//--------------------- ===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Compiled with -mavx2 -mfma: 6 x 16 results in 12 of 16 registers.
//
//===----------------------------------------------------------------------===//

#define MPT_ROWS 6
#define MPT_LANES 8
#define MPT_VECTORS 2
#define MPT_KERNEL referenceKernelAvx2
#include "ReferenceKernel.inc"
