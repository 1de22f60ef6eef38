//===- ReferenceGemm.cpp - the reference product --------------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Packs operands of any strides into panels and walks them in blocks that fit
// the caches, as in Goto and van de Geijn, "Anatomy of High-Performance Matrix
// Multiplication" (2008). Blocks of k are taken in ascending order and partial
// sums pass through memory unrounded, so blocking leaves no trace in the bits.
//
//===----------------------------------------------------------------------===//

#include "CpuFeatures.h"
#include "Products.h"
#include "ReferenceKernel.h"

#include <algorithm>
#include <memory>

namespace mpt::rt {

namespace {

constexpr int64_t kBlockK = 256, kBlockM = 144, kBlockN = 3072;

const ReferenceKernel &pickKernel() {
#if defined(__x86_64__)
  if (cpuHas("avx512f"))
    return referenceKernelAvx512;
  if (cpuHas("avx2") && cpuHas("fma"))
    return referenceKernelAvx2;
#endif
  return referenceKernelAny;
}

/// Packs `count` x `k` values at data[i*stride + p*kStride] into panels of
/// `width`, k by k, padded with zeros.
void pack(const float *data, int64_t count, int64_t stride, int64_t k,
          int64_t kStride, int64_t width, float *out) {
  for (int64_t begin = 0; begin < count; begin += width) {
    int64_t used = std::min(width, count - begin);
    const float *base = data + begin * stride;
    if (stride == 1) {
      for (int64_t p = 0; p < k; ++p) {
        std::copy_n(base + p * kStride, used, out + p * width);
        std::fill_n(out + p * width + used, width - used, 0.0f);
      }
    } else {
      // Blocks of k keep the strided reads and writes in the first cache.
      for (int64_t p0 = 0; p0 < k; p0 += 16) {
        int64_t p1 = std::min(k, p0 + 16);
        for (int64_t i = 0; i < used; ++i)
          for (int64_t p = p0; p < p1; ++p)
            out[p * width + i] = base[i * stride + p * kStride];
        for (int64_t i = used; i < width; ++i)
          for (int64_t p = p0; p < p1; ++p)
            out[p * width + i] = 0.0f;
      }
    }
    out += width * k;
  }
}

/// Memory for panels, kept by each thread.
struct Scratch {
  std::unique_ptr<char[]> storage;
  size_t bytes = 0;
  float *get(size_t count) {
    size_t wanted = count * sizeof(float) + 64;
    if (wanted > bytes) {
      storage.reset(new char[wanted]);
      bytes = wanted;
    }
    auto address = reinterpret_cast<uintptr_t>(storage.get());
    return reinterpret_cast<float *>((address + 63) & ~uintptr_t(63));
  }
};

} // namespace

void runReference(const Product &p, const ReferenceKernel &kernel) {
  static thread_local Scratch scratch;
  int64_t blockK = std::min(kBlockK, p.k);
  auto padded = [](int64_t extent, int64_t block, int64_t width) {
    return (std::min(extent, block) + width - 1) / width * width;
  };
  int64_t rhsFloats = padded(p.n, kBlockN, kernel.columns) * blockK;
  int64_t lhsFloats = padded(p.m, kBlockM, kernel.rows) * blockK;
  float *rhs = scratch.get(rhsFloats + lhsFloats), *lhs = rhs + rhsFloats;

  for (int64_t j = 0; j < p.n; j += kBlockN) {
    int64_t n = std::min(kBlockN, p.n - j);
    for (int64_t l = 0; l < p.k; l += kBlockK) {
      int64_t k = std::min(kBlockK, p.k - l);
      pack(p.rhs.data + l * p.rhs.rows + j * p.rhs.columns, n, p.rhs.columns, k,
           p.rhs.rows, kernel.columns, rhs);
      for (int64_t i = 0; i < p.m; i += kBlockM) {
        int64_t m = std::min(kBlockM, p.m - i);
        pack(p.lhs.data + i * p.lhs.rows + l * p.lhs.columns, m, p.lhs.rows, k,
             p.lhs.columns, kernel.rows, lhs);
        for (int64_t c = 0; c < n; c += kernel.columns)
          kernel.panel(m, std::min<int64_t>(kernel.columns, n - c), k, lhs,
                       rhs + c * k, p.result.data + i * p.result.rows + j + c,
                       p.result.rows, l != 0);
      }
    }
  }
}

Gemm referenceGemm() {
  return [](const Product &product) {
    static const ReferenceKernel &kernel = pickKernel();
    runReference(product, kernel);
  };
}

} // namespace mpt::rt
