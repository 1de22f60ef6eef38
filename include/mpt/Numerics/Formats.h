//===- Formats.h - BF16, E4M3, E5M2, INT8 and scales ------------*- C++ -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Encode and decode, to nearest even and stochastically, and the contract of
// scales. A code stands in the low bits of a U; decoding ignores higher bits.
//
//   BF16  16 bits; overflow goes to infinity, as every BF16 unit does it;
//         NaN becomes 0x7fc0.
//   E4M3  8 bits, OCP "FN": no infinity, 0x7f and 0xff are NaN, maximum 448.
//   E5M2  8 bits, as IEEE-754 would have it, maximum 57344.
//         Both saturate: what exceeds the maximum, infinity too, becomes the
//         maximum of its sign (ONNX Cast with saturate = 1). NaN becomes 0x7f.
//   INT8  8 bits, two's complement, -127 to 127 (saturating, symmetric: -128 is
//         decoded but never encoded). NaN becomes 0: there is no code for it.
//
// Stochastic encoding takes 32 random bits. A value at a fraction f of the way
// between two codes goes up with probability p = f rounded to a multiple of
// 2^-32: p = f exactly wherever f has no more bits than that, which are all
// normal results of BF16, E4M3 and E5M2, every subnormal one of BF16, and,
// elsewhere, all values of at least 2^-9 least steps. Below, |p - f| <= 2^-33.
// A value that has a code becomes it, whatever the random bits.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_NUMERICS_FORMATS_H
#define MPT_NUMERICS_FORMATS_H

#include "mpt/Numerics/Scalar.h"

namespace mpt {
namespace num {

/// Storage formats. The numbers are part of the C interface (NumericsC.h).
enum class Format { F32 = 0, BF16 = 1, E4M3 = 2, E5M2 = 3, INT8 = 4 };

/// The largest finite value: the numerator of the scale contract.
MPT_HD constexpr float formatMax(Format format) {
  return format == Format::E4M3   ? 448.0f
         : format == Format::E5M2 ? 57344.0f
         : format == Format::INT8 ? 127.0f
         : format == Format::BF16 ? 0x1.fep+127f
                                  : 0x1.fffffep+127f;
}

/// Bytes that a code takes in memory.
MPT_HD constexpr int formatBytes(Format format) {
  return format == Format::F32 ? 4 : format == Format::BF16 ? 2 : 1;
}

namespace detail {

/// One of the two 8-bit floating formats; constants derive from these.
template <int ManBits, int Bias, uint32_t MaxCode> struct Float8 {
  /// Bits of an f32 mantissa that the format has not.
  static constexpr int kDropped = 23 - ManBits;
  /// Difference of the exponent biases, at the place of an f32 exponent.
  static constexpr uint32_t kRebias = static_cast<uint32_t>(127 - Bias) << 23;
  /// The least normal value, as f32 bits.
  static constexpr uint32_t kMinNormal = static_cast<uint32_t>(128 - Bias)
                                         << 23;
  /// The power of two, as f32 bits, whose ulp is the format's subnormal step.
  static constexpr uint32_t kStepMagic =
      static_cast<uint32_t>(127 + 23 + 1 - Bias - ManBits) << 23;
  /// The power of two, as f32 bits, that takes 2^-16 subnormal steps to 1.
  static constexpr uint32_t kToFixed =
      static_cast<uint32_t>(127 - (1 - Bias - ManBits) + 16) << 23;
  static constexpr uint32_t kMaxCode = MaxCode;
};
using E4M3 = Float8<3, 7, 0x7eu>;
using E5M2 = Float8<2, 15, 0x7bu>;

/// Sign, saturation and NaN around the magnitude's code.
template <typename T, typename F, typename U>
MPT_HD U finishFloat8(F x, U magnitude, U code) {
  U max = lit(code, T::kMaxCode);
  U saturated = select(code > max, max, code);
  U sign = (bits(x) >> 24) & lit(code, 0x80u);
  return select(magnitude > lit(code, 0x7f800000u), lit(code, 0x7fu),
                saturated | sign);
}

template <typename T, typename F> MPT_HD auto encodeFloat8(F x) {
  auto a = bits(x) & litU(x, 0x7fffffffu);
  // Half a step less one, plus one if the kept part is odd: ties go to even.
  auto odd = (a >> T::kDropped) & litU(x, 1u);
  auto bias = litU(x, (1u << (T::kDropped - 1)) - 1u - T::kRebias);
  auto normal = (a + bias + odd) >> T::kDropped;
  // Below, the addition of the magic number rounds to whole steps.
  auto magic = litU(x, T::kStepMagic);
  auto subnormal = bits(asFloat(a) + asFloat(magic)) - magic;
  auto code = select(a < litU(x, T::kMinNormal), subnormal, normal);
  return detail::finishFloat8<T>(x, a, code);
}

/// floor(v + random * 2^-32), v = steps * 2^-16 rounded to a multiple of 2^-32;
/// 0 <= steps <= 2^23.
template <typename F, typename U> MPT_HD U stochasticSteps(F steps, U random) {
  // The upper 16 bits of v's fraction and what is above the point: the addition
  // of 2^23 rounds, and the difference to what it left out is exact.
  F big = lit(steps, 0x1p+23f);
  F sum = steps + big;
  F rest = steps - (sum - big);
  U upper = bits(sum) - bits(big);
  // The lower 16 bits, -2^15 to 2^15, rounded in the same way.
  F center = lit(steps, 0x1.8p+23f);
  U lower = bits(fma(rest, lit(steps, 0x1p+16f), center)) - bits(center);
  // 1 too large, so that it is never negative.
  U carry =
      (lower + (random & lit(random, 0xffffu)) + lit(random, 0x10000u)) >> 16;
  return (upper + (random >> 16) + carry - lit(random, 1u)) >> 16;
}

template <typename T, typename F, typename U>
MPT_HD U encodeFloat8Stochastic(F x, U random) {
  U a = bits(x) & litU(x, 0x7fffffffu);
  U noise = random >> (32 - T::kDropped);
  U normal = (a - litU(x, T::kRebias) + noise) >> T::kDropped;
  F steps = asFloat(a) * asFloat(litU(x, T::kToFixed));
  U subnormal = detail::stochasticSteps(steps, random);
  U code = select(a < litU(x, T::kMinNormal), subnormal, normal);
  return detail::finishFloat8<T>(x, a, code);
}

/// The magnitude's value (finite codes), before sign, infinity and NaN.
template <typename T, typename U> MPT_HD auto decodeFloat8(U magnitude) {
  U magic = lit(magnitude, T::kStepMagic);
  auto subnormal = asFloat(magic + magnitude) - asFloat(magic);
  U normal = (magnitude << T::kDropped) + lit(magnitude, T::kRebias);
  return select(magnitude < lit(magnitude, 1u << (23 - T::kDropped)), subnormal,
                asFloat(normal));
}

} // namespace detail

//===----------------------------------------------------------------------===//
// Encode: nearest even
//===----------------------------------------------------------------------===//

template <typename F> MPT_HD auto encodeBF16(F x) {
  auto u = bits(x);
  auto odd = (u >> 16) & litU(x, 1u);
  return select(x != x, litU(x, 0x7fc0u), (u + litU(x, 0x7fffu) + odd) >> 16);
}

template <typename F> MPT_HD auto encodeE4M3(F x) {
  return detail::encodeFloat8<detail::E4M3>(x);
}

template <typename F> MPT_HD auto encodeE5M2(F x) {
  return detail::encodeFloat8<detail::E5M2>(x);
}

template <typename F> MPT_HD auto encodeInt8(F x) {
  F max = lit(x, 127.0f);
  F c = select(x > max, max, select(x < -max, -max, x));
  // Adding 1.5 * 2^23 leaves the rounded integer in the low bits of the sum.
  auto code = bits(c + lit(x, 12582912.0f)) & litU(x, 0xffu);
  return select(x != x, litU(x, 0u), code);
}

//===----------------------------------------------------------------------===//
// Encode: stochastic
//===----------------------------------------------------------------------===//

template <typename F, typename U> MPT_HD U encodeBF16Stochastic(F x, U random) {
  U u = bits(x);
  U infinite = u & litU(x, 0x7fffffffu);
  U up = (u + (random >> 16)) >> 16;
  U code = select(infinite == litU(x, 0x7f800000u), u >> 16, up);
  return select(x != x, litU(x, 0x7fc0u), code);
}

template <typename F, typename U> MPT_HD U encodeE4M3Stochastic(F x, U random) {
  return detail::encodeFloat8Stochastic<detail::E4M3>(x, random);
}

template <typename F, typename U> MPT_HD U encodeE5M2Stochastic(F x, U random) {
  return detail::encodeFloat8Stochastic<detail::E5M2>(x, random);
}

template <typename F, typename U> MPT_HD U encodeInt8Stochastic(F x, U random) {
  F a = abs(x);
  F max = lit(x, 127.0f);
  F steps = select(a > max, max, a) * lit(x, 65536.0f);
  U magnitude = detail::stochasticSteps(steps, random);
  U zero = litU(x, 0u);
  U code = select(x < lit(x, 0.0f), zero - magnitude, magnitude);
  return select(x != x, zero, code & litU(x, 0xffu));
}

//===----------------------------------------------------------------------===//
// Decode
//===----------------------------------------------------------------------===//

template <typename U> MPT_HD auto decodeBF16(U code) {
  return asFloat(code << 16);
}

template <typename U> MPT_HD auto decodeE4M3(U code) {
  U magnitude = code & lit(code, 0x7fu);
  U sign = (code & lit(code, 0x80u)) << 24;
  U value = bits(detail::decodeFloat8<detail::E4M3>(magnitude));
  U nan = lit(code, 0x7fc00000u);
  return asFloat(sign | select(magnitude == lit(code, 0x7fu), nan, value));
}

template <typename U> MPT_HD auto decodeE5M2(U code) {
  U magnitude = code & lit(code, 0x7fu);
  U sign = (code & lit(code, 0x80u)) << 24;
  U value = bits(detail::decodeFloat8<detail::E5M2>(magnitude));
  U infinity = lit(code, 0x7cu);
  value = select(magnitude == infinity, lit(code, 0x7f800000u), value);
  value = select(magnitude > infinity, lit(code, 0x7fc00000u), value);
  return asFloat(sign | value);
}

template <typename U> MPT_HD auto decodeInt8(U code) {
  // 1.5 * 2^23 + 128 + code, the code's sign bit flipped: exact.
  U magic = lit(code, 0x4b400000u);
  U offset = (code & lit(code, 0xffu)) ^ lit(code, 0x80u);
  return asFloat(magic + offset) - asFloat(magic + lit(code, 128u));
}

//===----------------------------------------------------------------------===//
// By format, and scales
//===----------------------------------------------------------------------===//

/// The code of `x`; `format` is known when the code is generated, not a value.
template <typename F> MPT_HD auto encode(Format format, F x) {
  return format == Format::BF16   ? num::encodeBF16(x)
         : format == Format::E4M3 ? num::encodeE4M3(x)
         : format == Format::E5M2 ? num::encodeE5M2(x)
         : format == Format::INT8 ? num::encodeInt8(x)
                                  : bits(x);
}

template <typename F, typename U>
MPT_HD U encodeStochastic(Format format, F x, U random) {
  return format == Format::BF16   ? num::encodeBF16Stochastic(x, random)
         : format == Format::E4M3 ? num::encodeE4M3Stochastic(x, random)
         : format == Format::E5M2 ? num::encodeE5M2Stochastic(x, random)
         : format == Format::INT8 ? num::encodeInt8Stochastic(x, random)
                                  : bits(x);
}

template <typename U> MPT_HD auto decode(Format format, U code) {
  return format == Format::BF16   ? num::decodeBF16(code)
         : format == Format::E4M3 ? num::decodeE4M3(code)
         : format == Format::E5M2 ? num::decodeE5M2(code)
         : format == Format::INT8 ? num::decodeInt8(code)
                                  : asFloat(code);
}

/// The scale contract: code = encode(x * scale), value = decode(code) * (1 /
/// scale). scale = formatMax / amax, clamped to finite f32; 1 where amax is 0
/// or not finite. For a margin pass formatMax * 2^-margin.
template <typename F> MPT_HD F computeScale(F amax, float formatMax) {
  F largest = lit(amax, 0x1.fffffep+127f);
  F ratio = lit(amax, formatMax) / amax;
  F scale = select(ratio > largest, largest, ratio);
  auto usable = (amax > lit(amax, 0.0f)) & (amax <= largest);
  return select(usable, scale, lit(amax, 1.0f));
}

/// 1 / scale, rounded to nearest: it travels with the data that was scaled.
template <typename F> MPT_HD F inverseScale(F scale) {
  return lit(scale, 1.0f) / scale;
}

/// Running maximum of magnitudes, held as f32 bits: the unsigned maximum does
/// not depend on the order, and NaN, then infinity, win over all else.
template <typename F, typename U> MPT_HD U amaxBits(U running, F x) {
  U a = bits(x) & lit(running, 0x7fffffffu);
  return select(a > running, a, running);
}

} // namespace num
} // namespace mpt

#endif // MPT_NUMERICS_FORMATS_H
