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

MPT_CLONES void roundTrip(num::Format format, const float *in, size_t n,
                          float scale, float *out) {
  float inverse = num::inverseScale(scale);
  switch (format) {
  case num::Format::F32:
    std::copy_n(in, n, out);
    break;
  case num::Format::BF16:
    for (size_t i = 0; i < n; ++i)
      out[i] = num::decodeBF16(num::encodeBF16(in[i] * scale)) * inverse;
    break;
  case num::Format::E4M3:
    for (size_t i = 0; i < n; ++i)
      out[i] = num::decodeE4M3(num::encodeE4M3(in[i] * scale)) * inverse;
    break;
  case num::Format::E5M2:
    for (size_t i = 0; i < n; ++i)
      out[i] = num::decodeE5M2(num::encodeE5M2(in[i] * scale)) * inverse;
    break;
  case num::Format::INT8:
    for (size_t i = 0; i < n; ++i)
      out[i] = num::decodeInt8(num::encodeInt8(in[i] * scale)) * inverse;
    break;
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

typedef float Floats __attribute__((vector_size(64)));
typedef double Doubles __attribute__((vector_size(64)));
constexpr int kLanes = 8; // of Doubles
constexpr int kVectors = kTileColumns / kLanes;
constexpr int kHalf = kTileRows / 2;

/// a * b + c with one rounding, a to every lane.
template <typename Scalar, typename Vector>
inline __attribute__((always_inline)) Vector multiplyAdd(Scalar a, Vector b,
                                                         Vector c) {
#if defined(__clang__) && __has_builtin(__builtin_elementwise_fma)
  Vector splat = a - Vector{};
  return __builtin_elementwise_fma(splat, b, c);
#else
  for (size_t l = 0; l < sizeof(Vector) / sizeof(Scalar); ++l)
    c[l] = sizeof(Scalar) == 4 ? __builtin_fmaf(a, b[l], c[l])
                               : __builtin_fma(a, b[l], c[l]);
  return c;
#endif
}

template <typename Vector, typename Scalar>
inline __attribute__((always_inline)) Vector load(const Scalar *from) {
  Vector vector;
  __builtin_memcpy(&vector, from, sizeof vector);
  return vector;
}

template <typename Vector, typename Scalar>
inline __attribute__((always_inline)) void store(Scalar *to, Vector vector) {
  __builtin_memcpy(to, &vector, sizeof vector);
}

inline __attribute__((always_inline)) void
floatTile(int64_t k, const float *__restrict lhs, const float *__restrict rhs,
          float *__restrict tile) {
  Floats acc[kTileRows];
  for (int i = 0; i < kTileRows; ++i)
    acc[i] = load<Floats>(tile + i * kTileColumns);
  for (int64_t p = 0; p < k; ++p, lhs += kTileRows, rhs += kTileColumns) {
    Floats b = load<Floats>(rhs);
    for (int i = 0; i < kTileRows; ++i)
      acc[i] = multiplyAdd(lhs[i], b, acc[i]);
  }
  for (int i = 0; i < kTileRows; ++i)
    store(tile + i * kTileColumns, acc[i]);
}

/// Half a tile's rows: products and bounds together fill the registers.
inline __attribute__((always_inline)) void
doubleHalf(int64_t k, const double *__restrict lhs,
           const double *__restrict lhsMagnitudes, const double *__restrict rhs,
           const double *__restrict rhsMagnitudes, double *__restrict products,
           double *__restrict bounds) {
  Doubles product[kHalf][kVectors], bound[kHalf][kVectors];
  for (int i = 0; i < kHalf; ++i)
    for (int v = 0; v < kVectors; ++v) {
      int at = i * kTileColumns + v * kLanes;
      product[i][v] = load<Doubles>(products + at);
      bound[i][v] = load<Doubles>(bounds + at);
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
      int at = i * kTileColumns + v * kLanes;
      store(products + at, product[i][v]);
      store(bounds + at, bound[i][v]);
    }
}

} // namespace

MPT_WIDE_CLONES void multiply(int64_t k, int64_t lhsPanels, int64_t rhsPanels,
                              const float *lhs, const float *rhs,
                              float *tiles) {
  for (int64_t j = 0; j < rhsPanels; ++j)
    for (int64_t i = 0; i < lhsPanels; ++i, tiles += kTileElements)
      floatTile(k, lhs + i * k * kTileRows, rhs + j * k * kTileColumns, tiles);
}

MPT_WIDE_CLONES void multiplyWithBound(int64_t k, int64_t lhsPanels,
                                       int64_t rhsPanels, const double *lhs,
                                       const double *lhsMagnitudes,
                                       const double *rhs,
                                       const double *rhsMagnitudes,
                                       double *products, double *bounds) {
  constexpr int half = kHalf * kTileColumns;
  for (int64_t j = 0; j < rhsPanels; ++j)
    for (int64_t i = 0; i < lhsPanels; ++i) {
      int64_t l = i * k * kTileRows, r = j * k * kTileColumns;
      for (int h = 0; h < 2; ++h)
        doubleHalf(k, lhs + l + h * kHalf, lhsMagnitudes + l + h * kHalf,
                   rhs + r, rhsMagnitudes + r, products + h * half,
                   bounds + h * half);
      products += kTileElements;
      bounds += kTileElements;
    }
}

} // namespace mpt::metrics
