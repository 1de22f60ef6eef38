//===- Philox.h - counter-based random bits and dropout ---------*- C++ -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3",
// SC 2011) and how mpt keys it, so that every back end draws the same bits for
// an element without state. One draw yields the words of four elements:
//
//   key     = low and high half of the 64-bit seed
//   counter = (element / 4) low, (element / 4) high, id, step
//   word    = element mod 4
//
// where element is the logical row-major index and id = nameId of the value.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_NUMERICS_PHILOX_H
#define MPT_NUMERICS_PHILOX_H

#include "mpt/Numerics/Scalar.h"

#if !defined(__CUDACC_RTC__)
#include <string_view>
#endif

namespace mpt {
namespace num {

/// The four words of one draw.
template <typename U> struct Words4 {
  U x, y, z, w;
};

template <typename U>
MPT_HD Words4<U> philox(U c0, U c1, U c2, U c3, U k0, U k1) {
  U m0 = lit(c0, 0xd2511f53u);
  U m1 = lit(c0, 0xcd9e8d57u);
  // The round number is the generator's, not a value: the loop unrolls.
  for (int round = 0; round < 10; ++round) {
    U high0 = mulhi(m0, c0);
    U low0 = m0 * c0;
    U high1 = mulhi(m1, c2);
    U low1 = m1 * c2;
    c0 = high1 ^ c1 ^ k0;
    c1 = low1;
    c2 = high0 ^ c3 ^ k1;
    c3 = low0;
    k0 = k0 + lit(k0, 0x9e3779b9u);
    k1 = k1 + lit(k1, 0xbb67ae85u);
  }
  return {c0, c1, c2, c3};
}

/// What a draw depends on besides the element.
template <typename U> struct Stream {
  U id, step, seedLo, seedHi;
};

/// The words of elements 4 * group to 4 * group + 3: for loops that take four
/// elements at a time.
template <typename U>
MPT_HD Words4<U> drawGroup(U groupLo, U groupHi, Stream<U> stream) {
  return num::philox(groupLo, groupHi, stream.id, stream.step, stream.seedLo,
                     stream.seedHi);
}

/// The word of one element, given by the halves of its 64-bit index.
template <typename U>
MPT_HD U draw(U elementLo, U elementHi, Stream<U> stream) {
  U groupLo = (elementLo >> 2) | (elementHi << 30);
  Words4<U> words = num::drawGroup(groupLo, elementHi >> 2, stream);
  U zero = lit(elementLo, 0u);
  auto odd = (elementLo & lit(elementLo, 1u)) != zero;
  auto upper = (elementLo & lit(elementLo, 2u)) != zero;
  return select(upper, select(odd, words.w, words.z),
                select(odd, words.y, words.x));
}

/// floor(keep * 2^32), at most 2^32 - 1: an element is kept iff its word is
/// below. `keep` is a probability; at 1 leave the dropout out instead.
MPT_HD constexpr uint32_t keepThreshold(double keep) {
  return keep >= 1.0  ? 0xffffffffu
         : keep > 0.0 ? static_cast<uint32_t>(keep * 4294967296.0)
                      : 0u;
}

/// x / keep if `word` is below the threshold, 0 otherwise; `inverseKeep` is
/// 1 / keep in f32. The backward pass is the same function of the gradient.
template <typename F, typename U>
MPT_HD F dropout(F x, U word, U threshold, F inverseKeep) {
  return select(word < threshold, x * inverseKeep, lit(x, 0.0f));
}

#if !defined(__CUDACC_RTC__)
/// FNV-1a of the name. To hash several parts, such as a value's name and a
/// format's, pass on the previous result.
constexpr uint32_t nameId(std::string_view name, uint32_t hash = 0x811c9dc5u) {
  for (char c : name) {
    hash ^= static_cast<unsigned char>(c);
    hash *= 0x01000193u;
  }
  return hash;
}
#endif

} // namespace num
} // namespace mpt

#endif // MPT_NUMERICS_PHILOX_H
