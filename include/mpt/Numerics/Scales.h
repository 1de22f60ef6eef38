//===- Scales.h - granularities, recipes and shared exponents ---*- C++ -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// What shares one scale, and where a scale comes from. The functions of scalars
// keep to the vocabulary of Scalar.h; Matrix.h applies them to whole matrices.
//
// A scale multiplies before encoding; decoding multiplies by its inverse. The
// granularities, of a row-major matrix; tiles at the edges may be smaller:
//   PerTensor   one scale
//   PerRow      one for each row
//   PerColumn   one for each column
//   Block128    one for each tile of 128 x 128
//   MxRow       one power of two for each 1 x 32 (OCP MX, for studies only)
//   MxColumn    one power of two for each 32 x 1
// A scale can be taken out of a product only if it is constant along the
// contraction: a left operand (rows x K) takes PerRow, a right one (K x
// columns) PerColumn. MX is the other way about: its blocks lie along the
// contraction, so MxRow is for left operands and MxColumn for right ones.
//
// The recipes:
//   Current     from the amax of this very tensor; 1 where that is 0 or not
//               finite.
//   Delayed     from the largest of the last amaxes, of which this tensor's is
//               not one yet. An amax that is not finite is left out and
//               counted: neither the history nor the scale changes. While all
//               of the history is 0 the scale stays what it was.
//   Fixed       given.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_NUMERICS_SCALES_H
#define MPT_NUMERICS_SCALES_H

#include "mpt/Numerics/Formats.h"

namespace mpt {
namespace num {

/// The numbers are part of the C interface (NumericsC.h), and those of the
/// dialect's enumeration up to Block128.
enum class Granularity {
  None = 0,
  PerTensor = 1,
  PerRow = 2,
  PerColumn = 3,
  Block128 = 4,
  MxRow = 5,
  MxColumn = 6
};

MPT_HD constexpr bool isMx(Granularity granularity) {
  return granularity == Granularity::MxRow ||
         granularity == Granularity::MxColumn;
}

//===----------------------------------------------------------------------===//
// Scales that are any number
//===----------------------------------------------------------------------===//

/// True if an amax may enter a history: not negative, not infinite, not NaN.
template <typename F> MPT_HD auto isFiniteAmax(F amax) {
  F zero = lit(amax, 0.0f);
  F largest = lit(amax, 0x1.fffffep+127f);
  return (amax >= zero) & (amax <= largest);
}

/// computeScale where amax is finite and not 0, `otherwise` elsewhere. At least
/// 2^-126, so that its inverse is finite at any margin too (`formatMax` is then
/// the format's maximum times 2^-margin).
template <typename F> MPT_HD F scaleOr(F amax, float formatMax, F otherwise) {
  F least = lit(amax, 0x1p-126f);
  F scale = num::computeScale(amax, formatMax);
  scale = select(scale < least, least, scale);
  scale = select(amax == lit(amax, 0.0f), otherwise, scale);
  return select(num::isFiniteAmax(amax), scale, otherwise);
}

/// 2^-margin; beyond +-60 as at +-60.
MPT_HD constexpr float marginFactor(int margin) {
  int clamped = margin > 60 ? 60 : margin < -60 ? -60 : margin;
  float factor = 1.0f;
  for (int i = 0; i < (clamped < 0 ? -clamped : clamped); ++i)
    factor *= clamped < 0 ? 2.0f : 0.5f;
  return factor;
}

//===----------------------------------------------------------------------===//
// Delayed scales
//===----------------------------------------------------------------------===//

/// What a history's slot holds after `amax` was offered to it: `amax` if it is
/// finite, what it held otherwise.
template <typename F> MPT_HD F offeredAmax(F amax, F held) {
  return select(num::isFiniteAmax(amax), amax, held);
}

/// 1 if `amax` was left out, 0 if not: for the counter.
template <typename F> MPT_HD auto skippedAmax(F amax) {
  return select(num::isFiniteAmax(amax), litU(amax, 0u), litU(amax, 1u));
}

/// The scale for the next step: by the history's largest entry, or the old one
/// if that is 0. A history holds finite entries only, so the running maximum is
/// amaxBits.
template <typename F>
MPT_HD F delayedScale(F historyMax, float formatMax, F oldScale) {
  return num::scaleOr(historyMax, formatMax, oldScale);
}

/// A delayed scale and where it comes from: a ring of `length` amaxes, of which
/// `next` is the one to be overwritten.
struct DelayedState {
  float *history;
  uint32_t length;
  uint32_t next;
  uint32_t skipped;
  float scale;
};

/// Starts a history from one amax, a profile's say: that stays in force until
/// it has been overwritten `length` times. Where it is 0 or not finite, the
/// history starts empty and the scale is 1.
MPT_HD void startDelayed(DelayedState &state, float amax, float formatMax) {
  for (uint32_t i = 0; i < state.length; ++i)
    state.history[i] = num::offeredAmax(amax, 0.0f);
  state.next = 0;
  state.skipped = 0;
  state.scale = num::scaleOr(amax, formatMax, 1.0f);
}

/// Takes up the amax of the step that has just used state.scale, and sets the
/// scale of the next one. `formatMax` is the format's maximum times 2^-margin.
MPT_HD void updateDelayed(DelayedState &state, float amax, float formatMax) {
  uint32_t skipped = num::skippedAmax(amax);
  state.skipped += skipped;
  float &slot = state.history[state.next];
  slot = num::offeredAmax(amax, slot);
  uint32_t following = state.next + 1 == state.length ? 0 : state.next + 1;
  state.next = skipped ? state.next : following;
  uint32_t largest = 0;
  for (uint32_t i = 0; i < state.length; ++i)
    largest = num::amaxBits(largest, state.history[i]);
  state.scale = num::delayedScale(asFloat(largest), formatMax, state.scale);
}

//===----------------------------------------------------------------------===//
// MX: shared powers of two (OCP Microscaling Formats Specification 1.0)
//===----------------------------------------------------------------------===//

/// emax of the element format, the exponent of its largest power of two (table
/// 1 there). MXINT8 counts in 1/64; our INT8 codes are whole numbers, so theirs
/// is 6 and not 0.
MPT_HD constexpr uint32_t mxEmax(Format format) {
  return format == Format::E4M3 ? 8u : format == Format::E5M2 ? 15u : 6u;
}

/// True if the format can be an element of MX.
MPT_HD constexpr bool isMxElement(Format format) {
  return format == Format::E4M3 || format == Format::E5M2 ||
         format == Format::INT8;
}

/// The E8M0 code of a block's shared scale: floor(log2(amax)) - emax (section
/// 6.3), clamped to E8M0's range, plus its bias of 127. Two cases that the
/// specification leaves open: amax 0 gives 127, which is 1, and an amax that is
/// not finite 255, which is NaN and makes all of the block NaN.
template <typename F> MPT_HD auto mxSharedCode(F amax, uint32_t emax) {
  auto a = bits(amax);
  // The biased exponent of f32 and that of E8M0 are the same; of a subnormal
  // amax it is 0, which the clamp brings to E8M0's least anyhow.
  auto exponent = a >> 23;
  auto floor = litU(amax, emax);
  auto code = select(exponent > floor, exponent - floor, litU(amax, 0u));
  code = select(a == litU(amax, 0u), litU(amax, 127u), code);
  return select(a >= litU(amax, 0x7f800000u), litU(amax, 255u), code);
}

/// The value of an E8M0 code: what decoding multiplies by. Code 0 is 2^-127, a
/// subnormal f32.
template <typename U> MPT_HD auto decodeE8M0(U code) {
  U zero = lit(code, 0u);
  U value = select(code == zero, lit(code, 0x00400000u), code << 23);
  return asFloat(
      select(code == lit(code, 255u), lit(code, 0x7fc00000u), value));
}

/// The inverse of that value, which is what encoding multiplies by: exact for
/// the codes that mxSharedCode gives, 0 to 248 and 255.
template <typename U> MPT_HD auto mxScale(U code) {
  U inverse = (lit(code, 254u) - code) << 23;
  return asFloat(
      select(code == lit(code, 255u), lit(code, 0x7fc00000u), inverse));
}

} // namespace num
} // namespace mpt

#endif // MPT_NUMERICS_SCALES_H
