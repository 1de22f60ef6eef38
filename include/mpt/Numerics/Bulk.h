//===- Bulk.h - loops over arrays -------------------------------*- C++ -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Host loops that encode, decode and measure arrays, one plain loop per format
// so that compilers vectorise them. Arrays must not overlap.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_NUMERICS_BULK_H
#define MPT_NUMERICS_BULK_H

#include "mpt/Numerics/Formats.h"
#include "mpt/Numerics/Philox.h"

#include <cstddef>

/// Inlined into a caller that is compiled for several levels of a processor.
#define MPT_HOST_INLINE inline __attribute__((always_inline))

namespace mpt {
namespace num {

namespace detail {

/// out[i] = fn(in[i]).
template <typename In, typename Out, typename Fn>
MPT_HOST_INLINE void mapArray(const In *__restrict in, Out *__restrict out,
                              size_t n, Fn fn) {
  for (size_t i = 0; i < n; ++i)
    out[i] = static_cast<Out>(fn(in[i]));
}

/// The same from floats to bytes, where reading takes the time: asking for the
/// input early saves a tenth of it on arrays larger than the caches.
template <typename Fn>
MPT_HOST_INLINE void mapToBytes(const float *__restrict in,
                                uint8_t *__restrict out, size_t n, Fn fn) {
  constexpr size_t kBlock = 256, kAhead = 2048, kLine = 16;
  size_t i = 0;
  for (; i + kBlock + kAhead <= n; i += kBlock) {
    for (size_t line = 0; line < kBlock; line += kLine)
      __builtin_prefetch(in + i + kAhead + line);
    detail::mapArray(in + i, out + i, kBlock, fn);
  }
  detail::mapArray(in + i, out + i, n - i, fn);
}

} // namespace detail

/// codes[i] = encode(x[i] * scale); F32 copies the scaled values. False if
/// `format` is none of the enumeration's.
MPT_HOST_INLINE bool encodeArray(Format format, const float *x, size_t n,
                                 float scale, void *codes) {
  auto *bytes = static_cast<uint8_t *>(codes);
  switch (format) {
  case Format::F32:
    detail::mapArray(x, static_cast<float *>(codes), n,
                     [=](float v) { return v * scale; });
    return true;
  case Format::BF16:
    detail::mapArray(x, static_cast<uint16_t *>(codes), n,
                     [=](float v) { return num::encodeBF16(v * scale); });
    return true;
  case Format::E4M3:
    detail::mapToBytes(x, bytes, n,
                       [=](float v) { return num::encodeE4M3(v * scale); });
    return true;
  case Format::E5M2:
    detail::mapToBytes(x, bytes, n,
                       [=](float v) { return num::encodeE5M2(v * scale); });
    return true;
  case Format::INT8:
    detail::mapToBytes(x, bytes, n,
                       [=](float v) { return num::encodeInt8(v * scale); });
    return true;
  }
  return false;
}

/// x[i] = decode(codes[i]) * inverseScale. False if `format` is none of the
/// enumeration's.
MPT_HOST_INLINE bool decodeArray(Format format, const void *codes, size_t n,
                                 float inverseScale, float *x) {
  float s = inverseScale;
  auto *bytes = static_cast<const uint8_t *>(codes);
  switch (format) {
  case Format::F32:
    detail::mapArray(static_cast<const float *>(codes), x, n,
                     [=](float v) { return v * s; });
    return true;
  case Format::BF16:
    detail::mapArray(static_cast<const uint16_t *>(codes), x, n,
                     [=](uint32_t c) { return num::decodeBF16(c) * s; });
    return true;
  case Format::E4M3:
    detail::mapArray(bytes, x, n,
                     [=](uint32_t c) { return num::decodeE4M3(c) * s; });
    return true;
  case Format::E5M2:
    detail::mapArray(bytes, x, n,
                     [=](uint32_t c) { return num::decodeE5M2(c) * s; });
    return true;
  case Format::INT8:
    detail::mapArray(bytes, x, n,
                     [=](uint32_t c) { return num::decodeInt8(c) * s; });
    return true;
  }
  return false;
}

namespace detail {

/// Elements whose random words are drawn at a time: they stay in the cache.
constexpr size_t kDrawBlock = 512;

/// fn(i, count, words) for consecutive pieces of n elements: `words` are those
/// of elements firstElement + i to firstElement + i + count - 1.
template <typename Fn>
MPT_HOST_INLINE void forDrawnPieces(uint64_t firstElement, size_t n,
                                    Stream<uint32_t> stream, Fn fn) {
  uint32_t words[kDrawBlock];
  // The first piece may begin inside the group of four that is drawn with it.
  size_t skipped = static_cast<size_t>(firstElement & 3);
  uint64_t group = firstElement >> 2;
  for (size_t i = 0; i < n;) {
    size_t room = kDrawBlock - skipped;
    size_t count = n - i < room ? n - i : room;
    size_t groups = (skipped + count + 3) / 4;
    for (size_t g = 0; g < groups; ++g) {
      uint64_t counter = group + g;
      Words4<uint32_t> drawn =
          num::drawGroup(static_cast<uint32_t>(counter),
                         static_cast<uint32_t>(counter >> 32), stream);
      words[4 * g] = drawn.x;
      words[4 * g + 1] = drawn.y;
      words[4 * g + 2] = drawn.z;
      words[4 * g + 3] = drawn.w;
    }
    fn(i, count, words + skipped);
    i += count;
    group += groups;
    skipped = 0;
  }
}

/// codes[i] = encode(x[i] * scale, word of element firstElement + i).
template <typename Code, typename Encode>
MPT_HOST_INLINE void encodeDrawn(const float *__restrict x, size_t n,
                                 float scale, uint64_t firstElement,
                                 Stream<uint32_t> stream,
                                 Code *__restrict codes, Encode encode) {
  detail::forDrawnPieces(
      firstElement, n, stream,
      [=](size_t begin, size_t count, const uint32_t *words) {
        for (size_t i = 0; i < count; ++i)
          codes[begin + i] =
              static_cast<Code>(encode(x[begin + i] * scale, words[i]));
      });
}

} // namespace detail

/// words[i] is the random word of element firstElement + i (Philox.h's `draw`).
MPT_HOST_INLINE void drawArray(uint64_t firstElement, size_t n,
                               Stream<uint32_t> stream, uint32_t *out) {
  detail::forDrawnPieces(
      firstElement, n, stream,
      [=](size_t begin, size_t count, const uint32_t *words) {
        for (size_t i = 0; i < count; ++i)
          out[begin + i] = words[i];
      });
}

/// As encodeArray, stochastically: x[i] is element firstElement + i of the
/// value that `stream` names.
MPT_HOST_INLINE bool encodeArrayStochastic(Format format, const float *x,
                                           size_t n, float scale,
                                           uint64_t firstElement,
                                           Stream<uint32_t> stream,
                                           void *codes) {
  auto *bytes = static_cast<uint8_t *>(codes);
  switch (format) {
  case Format::F32:
    return encodeArray(format, x, n, scale, codes);
  case Format::BF16:
    detail::encodeDrawn(x, n, scale, firstElement, stream,
                        static_cast<uint16_t *>(codes),
                        [](float v, uint32_t word) {
                          return num::encodeBF16Stochastic(v, word);
                        });
    return true;
  case Format::E4M3:
    detail::encodeDrawn(x, n, scale, firstElement, stream, bytes,
                        [](float v, uint32_t word) {
                          return num::encodeE4M3Stochastic(v, word);
                        });
    return true;
  case Format::E5M2:
    detail::encodeDrawn(x, n, scale, firstElement, stream, bytes,
                        [](float v, uint32_t word) {
                          return num::encodeE5M2Stochastic(v, word);
                        });
    return true;
  case Format::INT8:
    detail::encodeDrawn(x, n, scale, firstElement, stream, bytes,
                        [](float v, uint32_t word) {
                          return num::encodeInt8Stochastic(v, word);
                        });
    return true;
  }
  return false;
}

/// y[i] = x[i] / keep or 0 (Philox.h's `dropout`), by the words of elements
/// firstElement + i.
MPT_HOST_INLINE void dropoutArray(const float *x, size_t n, double keep,
                                  uint64_t firstElement,
                                  Stream<uint32_t> stream, float *y) {
  uint32_t threshold = num::keepThreshold(keep);
  float inverseKeep = 1.0f / static_cast<float>(keep);
  detail::forDrawnPieces(
      firstElement, n, stream,
      [=](size_t begin, size_t count, const uint32_t *words) {
        for (size_t i = 0; i < count; ++i)
          y[begin + i] =
              num::dropout(x[begin + i], words[i], threshold, inverseKeep);
      });
}

/// The largest magnitude of the array, 0 if it is empty, NaN if one is NaN.
MPT_HOST_INLINE float amaxArray(const float *x, size_t n) {
  uint32_t running = 0;
  for (size_t i = 0; i < n; ++i)
    running = num::amaxBits(running, x[i]);
  return asFloat(running);
}

} // namespace num
} // namespace mpt

#endif // MPT_NUMERICS_BULK_H
