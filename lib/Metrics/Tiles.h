//===- Tiles.h - the inner loops of measuring -------------------*- C++ -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// A sample of a product is computed in tiles of 8 x 16 from packed panels: the
// lhs in panels of 8 rows, the rhs in panels of 16 columns, k by k, padded with
// zeros. Results are row-major with a stride that holds whole tiles, and are
// written or added to, so that k can be taken in blocks.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_LIB_METRICS_TILES_H
#define MPT_LIB_METRICS_TILES_H

#include <cstddef>
#include <cstdint>

namespace mpt::metrics {

constexpr int kTileRows = 8, kTileColumns = 16;

/// Packs data[index[i]*stride + p*kStride], i < count, p < k, into panels of
/// `width`.
void packPanels(const float *data, const int64_t *index, int64_t count,
                int64_t stride, int64_t k, int64_t kStride, int width,
                float *out);

/// values[i] = in[i], magnitudes[i] = |in[i]|.
void widen(const float *in, size_t n, double *values, double *magnitudes);

/// result = (add ? result : 0) + lhs * rhs, one f32 fma per term, k ascending:
/// the definition of a product on every back end.
void multiply(int64_t k, int64_t lhsPanels, int64_t rhsPanels, const float *lhs,
              const float *rhs, bool add, float *result, int64_t stride);

/// The same in f64: lhs * rhs to `products` and |lhs| * |rhs| to `bounds`.
void multiplyWithBound(int64_t k, int64_t lhsPanels, int64_t rhsPanels,
                       const double *lhs, const double *lhsMagnitudes,
                       const double *rhs, const double *rhsMagnitudes, bool add,
                       double *products, double *bounds, int64_t stride);

} // namespace mpt::metrics

#endif // MPT_LIB_METRICS_TILES_H
