//===- Rounding.cpp - arrays through a format and back --------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// One loop for each format, rounding and width, so that compilers vectorise
// them. Results do not depend on the level of x86.
//
//===----------------------------------------------------------------------===//

#include "Rounding.h"

#include "Clones.h"
#include "Vectors.h"

#include "mpt/Numerics/Formats.h"

#include <algorithm>

namespace mpt::metrics {

num::Stream<uint32_t> roundingStream(const OperandFormat &format, bool isLhs,
                                     const Draw &draw, uint64_t seed) {
  uint32_t id = num::nameId(isLhs ? "lhs" : "rhs", draw.product);
  return {num::nameId(formatText(format), id), draw.step,
          static_cast<uint32_t>(seed),
          static_cast<uint32_t>(seed >> 32) ^ draw.round};
}

//===----------------------------------------------------------------------===//
// Round trips
//===----------------------------------------------------------------------===//

namespace {

/// The value that format F gives `x`; `word` is not looked at to nearest.
template <num::Format F, bool Stochastic>
MPT_INLINE float roundTrip(float x, float scale, float inverse, uint32_t word) {
  if constexpr (F == num::Format::F32) {
    return x;
  } else {
    uint32_t code = Stochastic ? num::encodeStochastic(F, x * scale, word)
                               : num::encode(F, x * scale);
    return num::decode(F, code) * inverse;
  }
}

template <num::Format F, bool Stochastic, int Width>
MPT_INLINE void panelLoop(const float *__restrict in, int64_t inStride,
                          int64_t lines, const float *__restrict scales,
                          const float *__restrict inverses,
                          const uint32_t *__restrict words,
                          float *__restrict out, int64_t outStride) {
  for (int64_t p = 0; p < lines; ++p)
    for (int i = 0; i < Width; ++i) {
      uint32_t word = 0;
      if constexpr (Stochastic)
        word = words[p * Width + i];
      out[p * outStride + i] = roundTrip<F, Stochastic>(
          in[p * inStride + i], scales[i], inverses[i], word);
    }
}

template <num::Format F, bool Stochastic>
MPT_INLINE void vectorLoop(const float *__restrict in, size_t n, float scale,
                           float inverse, const uint32_t *__restrict words,
                           float *__restrict out) {
  for (size_t p = 0; p < n; ++p) {
    uint32_t word = 0;
    if constexpr (Stochastic)
      word = words[p];
    out[p] = roundTrip<F, Stochastic>(in[p], scale, inverse, word);
  }
}

/// Calls body with `format` as a constant.
template <typename Body>
MPT_INLINE void withFormat(num::Format format, const Body &body) {
  using num::Format;
  switch (format) {
  case Format::F32:
    return body.template operator()<Format::F32>();
  case Format::BF16:
    return body.template operator()<Format::BF16>();
  case Format::E4M3:
    return body.template operator()<Format::E4M3>();
  case Format::E5M2:
    return body.template operator()<Format::E5M2>();
  case Format::INT8:
    return body.template operator()<Format::INT8>();
  }
}

struct Panel {
  const float *in;
  int64_t inStride, lines;
  int width;
  const float *scales, *inverses;
  const uint32_t *words;
  float *out;
  int64_t outStride;

  template <num::Format F> MPT_INLINE void operator()() const {
    if (words)
      return byWidth<F, true>();
    byWidth<F, false>();
  }

  template <num::Format F, bool Stochastic> MPT_INLINE void byWidth() const {
    if (width == 8)
      panelLoop<F, Stochastic, 8>(in, inStride, lines, scales, inverses, words,
                                  out, outStride);
    else
      panelLoop<F, Stochastic, 16>(in, inStride, lines, scales, inverses, words,
                                   out, outStride);
  }
};

struct Vector {
  const float *in;
  size_t n;
  float scale, inverse;
  const uint32_t *words;
  float *out;

  template <num::Format F> MPT_INLINE void operator()() const {
    if (words)
      vectorLoop<F, true>(in, n, scale, inverse, words, out);
    else
      vectorLoop<F, false>(in, n, scale, inverse, words, out);
  }
};

} // namespace

MPT_CLONES void roundPanel(num::Format format, const float *in,
                           int64_t inStride, int64_t lines, int width,
                           const float *scales, const uint32_t *words,
                           float *out, int64_t outStride) {
  float inverses[kMostWidth];
  for (int i = 0; i < width; ++i)
    inverses[i] = num::inverseScale(scales[i]);
  withFormat(format, Panel{in, inStride, lines, width, scales, inverses, words,
                           out, outStride});
}

MPT_CLONES void roundVector(num::Format format, const float *in, size_t n,
                            float scale, const uint32_t *words, float *out) {
  withFormat(format,
             Vector{in, n, scale, num::inverseScale(scale), words, out});
}

//===----------------------------------------------------------------------===//
// Random words
//===----------------------------------------------------------------------===//

namespace {

/// Words of the four elements of each lane's group.
template <int Width>
MPT_INLINE void drawLanes(num::Stream<uint32_t> stream,
                          const uint64_t *__restrict groups,
                          uint32_t *__restrict words) {
  uint32_t low[Width], high[Width];
  for (int i = 0; i < Width; ++i) {
    low[i] = static_cast<uint32_t>(groups[i]);
    high[i] = static_cast<uint32_t>(groups[i] >> 32);
  }
  for (int i = 0; i < Width; ++i) {
    num::Words4<uint32_t> w = num::drawGroup(low[i], high[i], stream);
    words[i] = w.x;
    words[Width + i] = w.y;
    words[2 * Width + i] = w.z;
    words[3 * Width + i] = w.w;
  }
}

template <int Width>
MPT_INLINE void panelWords(num::Stream<uint32_t> stream, const uint64_t *bases,
                           int64_t lines, uint32_t *words) {
  uint64_t groups[Width];
  int64_t offsets[Width]; // of a lane's first element in its group
  int64_t most = 0;
  for (int i = 0; i < Width; ++i) {
    groups[i] = bases[i] >> 2;
    offsets[i] = int64_t(bases[i] & 3);
    most = std::max(most, offsets[i]);
  }
  uint32_t four[4 * Width];
  for (int64_t p = 0; p < lines + most; p += 4) {
    if (most == 0 && p + 4 <= lines) {
      drawLanes<Width>(stream, groups, words + p * Width);
    } else {
      drawLanes<Width>(stream, groups, four);
      for (int w = 0; w < 4; ++w)
        for (int i = 0; i < Width; ++i) {
          int64_t line = p + w - offsets[i];
          if (line >= 0 && line < lines)
            words[line * Width + i] = four[w * Width + i];
        }
    }
    for (uint64_t &group : groups)
      ++group;
  }
}

} // namespace

MPT_CLONES void drawPanel(num::Stream<uint32_t> stream, const uint64_t *bases,
                          int64_t lines, int width, uint32_t *words) {
  if (width == 8)
    panelWords<8>(stream, bases, lines, words);
  else
    panelWords<16>(stream, bases, lines, words);
}

MPT_CLONES void drawVector(num::Stream<uint32_t> stream, uint64_t base,
                           size_t n, uint32_t *words) {
  constexpr int width = 16;
  uint64_t group = base >> 2;
  size_t skip = base & 3;
  uint64_t groups[width];
  uint32_t lanes[4 * width];
  for (size_t done = 0; done < n;) {
    for (int i = 0; i < width; ++i)
      groups[i] = group++;
    drawLanes<width>(stream, groups, lanes);
    uint32_t ordered[4 * width];
    for (int i = 0; i < width; ++i)
      for (int w = 0; w < 4; ++w)
        ordered[4 * i + w] = lanes[w * width + i];
    size_t count = std::min(n - done, 4 * width - skip);
    std::copy_n(ordered + skip, count, words + done);
    done += count;
    skip = 0;
  }
}

//===----------------------------------------------------------------------===//
// Losses
//===----------------------------------------------------------------------===//

template <int Width>
static MPT_INLINE void
lossLoop(const float *__restrict in, const float *__restrict out, int64_t lines,
         const float *__restrict scales, uint32_t last, uint64_t counts[2]) {
  constexpr uint32_t magnitude = 0x7fffffffu, infinity = 0x7f800000u;
  uint32_t flushed[Width] = {}, saturated[Width] = {};
  for (int64_t p = 0; p < lines; ++p)
    for (int i = 0; i < Width; ++i) {
      float x = in[p * Width + i];
      uint32_t a = num::bits(x) & magnitude;
      uint32_t counted = a - 1 < infinity - 1;
      uint32_t zero = (num::bits(out[p * Width + i]) & magnitude) == 0;
      uint32_t scaled = num::bits(x * scales[i]) & magnitude;
      uint32_t beyond = uint32_t(scaled > last) & uint32_t(scaled <= infinity);
      flushed[i] += counted & zero;
      saturated[i] += counted & beyond;
    }
  for (int i = 0; i < Width; ++i) {
    counts[0] += flushed[i];
    counts[1] += saturated[i];
  }
}

MPT_CLONES void countPanelLosses(const float *in, const float *out,
                                 int64_t lines, int width, const float *scales,
                                 uint32_t last, uint64_t counts[2]) {
  if (width == 8)
    lossLoop<8>(in, out, lines, scales, last, counts);
  else
    lossLoop<16>(in, out, lines, scales, last, counts);
}

} // namespace mpt::metrics
