//===- Products.h - matrix products of the runtime --------------*- C++ -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// A batched f32 product over strided operands, cut into pieces for the threads,
// each piece computed by one of two single-threaded engines: OpenBLAS, or our
// reference kernel whose bits depend neither on threads nor on the CPU.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_LIB_RUNTIME_PRODUCTS_H
#define MPT_LIB_RUNTIME_PRODUCTS_H

#include "Manifest.h"
#include "ThreadPool.h"

namespace mpt::rt {

template <typename T> struct Operand {
  T *data = nullptr;
  int64_t rows = 0, columns = 0; // strides in elements
  int64_t batch[2] = {0, 0};
};

struct Product {
  int64_t m = 0, n = 0, k = 0, batch[2] = {1, 1};
  Operand<const float> lhs, rhs;
  Operand<float> result;
};

/// result = lhs * rhs for one matrix, on this thread. Strides are those of
/// Product; of each operand one is 1.
using Gemm = void (*)(const Product &product);

/// OpenBLAS, loaded on first use and kept to one thread. Fails with
/// MPT_ERROR_UNSUPPORTED where there is none.
Gemm blasGemm();

/// One fma per term, k ascending from zero: the definition of a product.
Gemm referenceGemm();

/// The same through one build of the inner loops, which this CPU must support.
struct ReferenceKernel;
void runReference(const Product &product, const ReferenceKernel &kernel);

void runProduct(const Product &product, Gemm gemm, ThreadPool &pool);

} // namespace mpt::rt

#endif // MPT_LIB_RUNTIME_PRODUCTS_H
