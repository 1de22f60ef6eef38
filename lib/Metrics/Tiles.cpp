//===- Tiles.cpp - the inner loops of measuring ---------------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Each entry is compiled for several levels of x86 and chosen when the library
// is loaded; results do not depend on the level, since fma is explicit and
// nothing is contracted.
//
//===----------------------------------------------------------------------===//

#include "Tiles.h"

#include "Clones.h"
#include "Vectors.h"

#include "mpt/Numerics/Scalar.h"

#include <algorithm>

namespace mpt::metrics {

void packPanels(const float *data, const int64_t *index, int64_t count,
                int64_t stride, int64_t k, int64_t kStride, int width,
                float *out) {
  // Blocks of k keep the strided reads and writes in the first cache.
  constexpr int64_t block = 16;
  for (int64_t begin = 0; begin < count; begin += width, out += width * k) {
    int64_t used = std::min<int64_t>(width, count - begin);
    for (int64_t first = 0; first < k; first += block) {
      int64_t last = std::min(k, first + block);
      for (int64_t i = 0; i < used; ++i) {
        const float *from = data + index[begin + i] * stride;
        for (int64_t p = first; p < last; ++p)
          out[p * width + i] = from[p * kStride];
      }
      for (int64_t i = used; i < width; ++i)
        for (int64_t p = first; p < last; ++p)
          out[p * width + i] = 0.0f;
    }
  }
}

MPT_CLONES void widen(const float *in, size_t n, double *values,
                      double *magnitudes) {
  for (size_t i = 0; i < n; ++i) {
    values[i] = in[i];
    magnitudes[i] = num::abs(in[i]);
  }
}

namespace {

constexpr int kVectors = kTileColumns / kLanes;
constexpr int kHalf = kTileRows / 2;

MPT_INLINE void floatTile(int64_t k, const float *__restrict lhs,
                          const float *__restrict rhs, bool add,
                          float *__restrict result, int64_t stride) {
  Floats acc[kTileRows];
  for (int i = 0; i < kTileRows; ++i)
    acc[i] = add ? load<Floats>(result + i * stride) : Floats{};
  for (int64_t p = 0; p < k; ++p, lhs += kTileRows, rhs += kTileColumns) {
    Floats b = load<Floats>(rhs);
    for (int i = 0; i < kTileRows; ++i)
      acc[i] = multiplyAdd(lhs[i], b, acc[i]);
  }
  for (int i = 0; i < kTileRows; ++i)
    store(result + i * stride, acc[i]);
}

/// Half a tile's rows: products and bounds together fill the registers.
MPT_INLINE void doubleHalf(int64_t k, const double *__restrict lhs,
                           const double *__restrict lhsMagnitudes,
                           const double *__restrict rhs,
                           const double *__restrict rhsMagnitudes, bool add,
                           double *__restrict products,
                           double *__restrict bounds, int64_t stride) {
  Doubles product[kHalf][kVectors], bound[kHalf][kVectors];
  for (int i = 0; i < kHalf; ++i)
    for (int v = 0; v < kVectors; ++v) {
      int64_t at = i * stride + v * kLanes;
      product[i][v] = add ? load<Doubles>(products + at) : Doubles{};
      bound[i][v] = add ? load<Doubles>(bounds + at) : Doubles{};
    }
  for (int64_t p = 0; p < k; ++p) {
    for (int v = 0; v < kVectors; ++v) {
      Doubles b = load<Doubles>(rhs + p * kTileColumns + v * kLanes);
      Doubles m = load<Doubles>(rhsMagnitudes + p * kTileColumns + v * kLanes);
      for (int i = 0; i < kHalf; ++i) {
        product[i][v] = multiplyAdd(lhs[p * kTileRows + i], b, product[i][v]);
        bound[i][v] =
            multiplyAdd(lhsMagnitudes[p * kTileRows + i], m, bound[i][v]);
      }
    }
  }
  for (int i = 0; i < kHalf; ++i)
    for (int v = 0; v < kVectors; ++v) {
      int64_t at = i * stride + v * kLanes;
      store(products + at, product[i][v]);
      store(bounds + at, bound[i][v]);
    }
}

} // namespace

MPT_WIDE_CLONES void multiply(int64_t k, int64_t lhsPanels, int64_t rhsPanels,
                              const float *lhs, const float *rhs, bool add,
                              float *result, int64_t stride) {
  for (int64_t j = 0; j < rhsPanels; ++j)
    for (int64_t i = 0; i < lhsPanels; ++i)
      floatTile(k, lhs + i * k * kTileRows, rhs + j * k * kTileColumns, add,
                result + i * kTileRows * stride + j * kTileColumns, stride);
}

MPT_WIDE_CLONES void
multiplyWithBound(int64_t k, int64_t lhsPanels, int64_t rhsPanels,
                  const double *lhs, const double *lhsMagnitudes,
                  const double *rhs, const double *rhsMagnitudes, bool add,
                  double *products, double *bounds, int64_t stride) {
  for (int64_t j = 0; j < rhsPanels; ++j)
    for (int64_t i = 0; i < 2 * lhsPanels; ++i) {
      // A panel holds two halves of a tile side by side.
      int64_t l = i / 2 * k * kTileRows + i % 2 * kHalf;
      int64_t r = j * k * kTileColumns;
      int64_t at = i * kHalf * stride + j * kTileColumns;
      doubleHalf(k, lhs + l, lhsMagnitudes + l, rhs + r, rhsMagnitudes + r, add,
                 products + at, bounds + at, stride);
    }
}

} // namespace mpt::metrics
