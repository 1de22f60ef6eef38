//===- TestValues.h - inputs for the numerics' tests ------------*- C++ -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// The f32 patterns that the tests sweep: a dense comb over all bit patterns,
// whose odd stride visits every low bit, and the neighbourhood of values of
// interest.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_TEST_UNIT_NUMERICS_TESTVALUES_H
#define MPT_TEST_UNIT_NUMERICS_TESTVALUES_H

#include "mpt/Numerics/Scalar.h"

#include <cmath>
#include <cstdint>
#include <initializer_list>

namespace mpt {
namespace test {

/// fn(x) for f32 patterns `stride` apart, both signs, infinities and NaNs too.
template <typename Fn> void forComb(uint32_t stride, Fn fn) {
  for (uint64_t u = 0; u <= 0xffffffffull; u += stride)
    fn(num::asFloat(static_cast<uint32_t>(u)));
}

/// fn(x) for the patterns within `reach` of x's and of -x's.
template <typename Fn> void forNeighbours(float x, uint32_t reach, Fn fn) {
  for (uint32_t sign : {0u, 0x80000000u})
    for (uint32_t d = 0; d <= 2 * reach; ++d)
      fn(num::asFloat((num::bits(x) ^ sign) + d - reach));
}

/// fn(x) for zeros, subnormals, extremes, infinities and NaNs.
template <typename Fn> void forSpecials(Fn fn) {
  for (uint32_t u :
       {0x00000000u, 0x00000001u, 0x007fffffu, 0x00800000u, 0x7f7fffffu,
        0x7f800000u, 0x7f800001u, 0x7fbfffffu, 0x7fc00000u, 0x7fffffffu}) {
    fn(num::asFloat(u));
    fn(num::asFloat(u | 0x80000000u));
  }
}

} // namespace test
} // namespace mpt

#endif // MPT_TEST_UNIT_NUMERICS_TESTVALUES_H
