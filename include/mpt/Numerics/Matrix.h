//===- Matrix.h - scaled formats over whole matrices ------------*- C++ -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Host loops that find the amaxes and scales of a row-major matrix at any
// granularity, and encode, decode and round it with them. Every granularity is
// a grid of tiles, so one loop over pieces of rows serves all.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_NUMERICS_MATRIX_H
#define MPT_NUMERICS_MATRIX_H

#include "mpt/Numerics/Bulk.h"
#include "mpt/Numerics/Scales.h"

namespace mpt {
namespace num {

/// A matrix, and the tiles of it that share a scale.
struct TiledMatrix {
  size_t rows, columns;
  size_t tileRows, tileColumns;

  TiledMatrix(Granularity granularity, size_t rows, size_t columns)
      : rows(rows), columns(columns) {
    bool whole = granularity == Granularity::None ||
                 granularity == Granularity::PerTensor;
    size_t side = granularity == Granularity::Block128 ? 128
                  : isMx(granularity)                  ? 32
                                                       : 1;
    bool row = granularity == Granularity::PerRow;
    bool column = granularity == Granularity::PerColumn;
    tileRows = whole || column                     ? rows
               : granularity == Granularity::MxRow ? 1
                                                   : side;
    tileColumns = whole || row                           ? columns
                  : granularity == Granularity::MxColumn ? 1
                                                         : side;
    // An empty matrix has no tiles, but a tile has a size.
    tileRows = tileRows ? tileRows : 1;
    tileColumns = tileColumns ? tileColumns : 1;
  }

  size_t gridRows() const { return (rows + tileRows - 1) / tileRows; }
  size_t gridColumns() const {
    return (columns + tileColumns - 1) / tileColumns;
  }
  /// Scales of the matrix; they lie row-major by tile.
  size_t tiles() const { return gridRows() * gridColumns(); }
  /// The first of the scales that row `row` uses.
  size_t firstTile(size_t row) const { return row / tileRows * gridColumns(); }
};

namespace detail {

/// Elements that are taken through a buffer at a time: they stay in the cache.
constexpr size_t kPiece = 512;

/// fn(begin, count, tile) for the pieces of columns begin to end that share one
/// scale.
template <typename Fn>
MPT_HOST_INLINE void forTileSpans(const TiledMatrix &matrix, size_t begin,
                                  size_t end, Fn fn) {
  while (begin < end) {
    size_t tile = begin / matrix.tileColumns;
    size_t next = (tile + 1) * matrix.tileColumns;
    size_t stop = next < end ? next : end;
    fn(begin, stop - begin, tile);
    begin = stop;
  }
}

/// out[i] = in[i] * scale of column begin + i; `scales` are the row's.
MPT_HOST_INLINE void scalePiece(const TiledMatrix &matrix, size_t begin,
                                size_t count, const float *__restrict scales,
                                const float *__restrict in,
                                float *__restrict out) {
  if (matrix.tileColumns == 1) {
    for (size_t i = 0; i < count; ++i)
      out[i] = in[i] * scales[begin + i];
    return;
  }
  detail::forTileSpans(matrix, begin, begin + count,
                       [=](size_t at, size_t n, size_t tile) {
                         float scale = scales[tile];
                         for (size_t i = at - begin; i < at - begin + n; ++i)
                           out[i] = in[i] * scale;
                       });
}

/// The same with the scales' inverses, in place.
MPT_HOST_INLINE void unscalePiece(const TiledMatrix &matrix, size_t begin,
                                  size_t count, const float *__restrict scales,
                                  float *__restrict values) {
  if (matrix.tileColumns == 1) {
    for (size_t i = 0; i < count; ++i)
      values[i] = values[i] * num::inverseScale(scales[begin + i]);
    return;
  }
  detail::forTileSpans(matrix, begin, begin + count,
                       [=](size_t at, size_t n, size_t tile) {
                         float inverse = num::inverseScale(scales[tile]);
                         for (size_t i = at - begin; i < at - begin + n; ++i)
                           values[i] = values[i] * inverse;
                       });
}

/// fn(row, begin, count) for pieces of rows of at most kPiece elements.
template <typename Fn>
MPT_HOST_INLINE void forPieces(const TiledMatrix &matrix, Fn fn) {
  for (size_t row = 0; row < matrix.rows; ++row)
    for (size_t begin = 0; begin < matrix.columns; begin += kPiece) {
      size_t left = matrix.columns - begin;
      fn(row, begin, left < kPiece ? left : kPiece);
    }
}

/// The codes of one piece whose values are scaled already; `first` is the index
/// of its first element in the matrix.
MPT_HOST_INLINE void encodePiece(Format format, const float *scaled,
                                 size_t count, size_t first,
                                 const Stream<uint32_t> *stream, void *codes) {
  if (stream)
    num::encodeArrayStochastic(format, scaled, count, 1.0f, first, *stream,
                               codes);
  else
    num::encodeArray(format, scaled, count, 1.0f, codes);
}

} // namespace detail

/// amaxes[t] is the largest magnitude of tile t, NaN if it holds one.
MPT_HOST_INLINE void amaxMatrix(const TiledMatrix &matrix, const float *x,
                                float *__restrict amaxes) {
  for (size_t t = 0; t < matrix.tiles(); ++t)
    amaxes[t] = 0.0f;
  for (size_t row = 0; row < matrix.rows; ++row) {
    const float *in = x + row * matrix.columns;
    float *running = amaxes + matrix.firstTile(row);
    if (matrix.tileColumns == 1)
      for (size_t i = 0; i < matrix.columns; ++i)
        running[i] = asFloat(num::amaxBits(bits(running[i]), in[i]));
    else
      detail::forTileSpans(
          matrix, 0, matrix.columns, [=](size_t at, size_t n, size_t tile) {
            float amax = num::amaxArray(in + at, n);
            running[tile] = asFloat(num::amaxBits(bits(running[tile]), amax));
          });
  }
}

/// The scales of the recipe `current` for these amaxes; of F32 and BF16, which
/// take none, 1. MX takes no margin. The two arrays may be one.
MPT_HOST_INLINE void currentScales(Format format, Granularity granularity,
                                   int margin, const float *amaxes, size_t n,
                                   float *scales) {
  if (format == Format::F32 || format == Format::BF16 ||
      granularity == Granularity::None) {
    for (size_t i = 0; i < n; ++i)
      scales[i] = 1.0f;
  } else if (isMx(granularity)) {
    for (size_t i = 0; i < n; ++i)
      scales[i] =
          num::mxScale(num::mxSharedCode(amaxes[i], num::mxEmax(format)));
  } else {
    float max = num::formatMax(format) * num::marginFactor(margin);
    for (size_t i = 0; i < n; ++i)
      scales[i] = num::scaleOr(amaxes[i], max, 1.0f);
  }
}

/// codes = encode(x * scales), scale by tile; stochastically if `stream` is not
/// null, element (i, j) being element i * columns + j of that value.
MPT_HOST_INLINE void encodeMatrix(Format format, const TiledMatrix &matrix,
                                  const float *x, const float *scales,
                                  const Stream<uint32_t> *stream, void *codes) {
  float scaled[detail::kPiece];
  size_t bytes = static_cast<size_t>(num::formatBytes(format));
  detail::forPieces(matrix, [&](size_t row, size_t begin, size_t count) {
    size_t first = row * matrix.columns + begin;
    detail::scalePiece(matrix, begin, count, scales + matrix.firstTile(row),
                       x + first, scaled);
    detail::encodePiece(format, scaled, count, first, stream,
                        static_cast<char *>(codes) + first * bytes);
  });
}

/// x = decode(codes) * (1 / scales), scale by tile.
MPT_HOST_INLINE void decodeMatrix(Format format, const TiledMatrix &matrix,
                                  const void *codes, const float *scales,
                                  float *x) {
  size_t bytes = static_cast<size_t>(num::formatBytes(format));
  detail::forPieces(matrix, [&](size_t row, size_t begin, size_t count) {
    size_t first = row * matrix.columns + begin;
    num::decodeArray(format, static_cast<const char *>(codes) + first * bytes,
                     count, 1.0f, x + first);
    detail::unscalePiece(matrix, begin, count, scales + matrix.firstTile(row),
                         x + first);
  });
}

/// y = decodeMatrix(encodeMatrix(x)), without keeping the codes.
MPT_HOST_INLINE void roundTripMatrix(Format format, const TiledMatrix &matrix,
                                     const float *x, const float *scales,
                                     const Stream<uint32_t> *stream, float *y) {
  float scaled[detail::kPiece];
  alignas(float) unsigned char codes[detail::kPiece * sizeof(float)];
  detail::forPieces(matrix, [&](size_t row, size_t begin, size_t count) {
    size_t first = row * matrix.columns + begin;
    const float *used = scales + matrix.firstTile(row);
    detail::scalePiece(matrix, begin, count, used, x + first, scaled);
    detail::encodePiece(format, scaled, count, first, stream, codes);
    num::decodeArray(format, codes, count, 1.0f, y + first);
    detail::unscalePiece(matrix, begin, count, used, y + first);
  });
}

} // namespace num
} // namespace mpt

#endif // MPT_NUMERICS_MATRIX_H
