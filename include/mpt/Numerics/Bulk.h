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
    detail::mapArray(x, bytes, n,
                     [=](float v) { return num::encodeE4M3(v * scale); });
    return true;
  case Format::E5M2:
    detail::mapArray(x, bytes, n,
                     [=](float v) { return num::encodeE5M2(v * scale); });
    return true;
  case Format::INT8:
    detail::mapArray(x, bytes, n,
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

/// As encodeArray, stochastically: x[i] is element firstElement + i of the
/// value that `stream` names.
inline bool encodeArrayStochastic(Format format, const float *x, size_t n,
                                  float scale, uint64_t firstElement,
                                  Stream<uint32_t> stream, void *codes) {
  if (format == Format::F32)
    return encodeArray(format, x, n, scale, codes);
  if (format != Format::BF16 && format != Format::E4M3 &&
      format != Format::E5M2 && format != Format::INT8)
    return false;
  for (size_t i = 0; i < n; ++i) {
    uint64_t element = firstElement + i;
    uint32_t word = num::draw(static_cast<uint32_t>(element),
                              static_cast<uint32_t>(element >> 32), stream);
    uint32_t code = num::encodeStochastic(format, x[i] * scale, word);
    if (format == Format::BF16)
      static_cast<uint16_t *>(codes)[i] = static_cast<uint16_t>(code);
    else
      static_cast<uint8_t *>(codes)[i] = static_cast<uint8_t>(code);
  }
  return true;
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
