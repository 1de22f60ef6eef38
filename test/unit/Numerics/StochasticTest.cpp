//===- StochasticTest.cpp - stochastic rounding -----------------*- C++ -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Stochastic codes are one of the two neighbours, are the value itself where it
// has a code, and are right on average: for values across every binade of every
// format, by the exact share of random words that go up, and by a million draws
// of Philox, whose mean error stays within four standard errors.
//
//===----------------------------------------------------------------------===//

#include "TestValues.h"

#include "mpt/Numerics/Formats.h"
#include "mpt/Numerics/NumericsC.h"
#include "mpt/Numerics/Philox.h"

#include "gtest/gtest.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <vector>

using namespace mpt;
using num::Format;

namespace {

constexpr Format kFormats[] = {Format::BF16, Format::E4M3, Format::E5M2,
                               Format::INT8};
constexpr uint32_t kDraws = 1000000;

/// The code of x under these random bits, decoded.
double rounded(Format format, float x, uint32_t random) {
  return num::decode(format, num::encodeStochastic(format, x, random));
}

/// The least and the greatest value that may come out, in magnitude.
double below(Format format, float x) {
  return std::fabs(rounded(format, x, 0u));
}
double above(Format format, float x) {
  return std::fabs(rounded(format, x, ~0u));
}

/// The format's least step, and the exponents of the binades that it has values
/// in, from that of the least step on.
struct Range {
  Format format;
  int leastStep, lowest, highest;
};
const Range kRanges[] = {{Format::BF16, -133, -133, 127},
                         {Format::E4M3, -9, -9, 8},
                         {Format::E5M2, -16, -16, 15},
                         {Format::INT8, 0, 0, 6}};

/// fn(range, x) for values of both signs across each binade of each format, and
/// in the two binades below its least step.
template <typename Fn> void forBinades(Fn fn) {
  for (const Range &range : kRanges)
    for (int e = range.lowest - 2; e <= range.highest; ++e)
      for (float m : {0x1.000002p+0f, 0x1.3c1a5ep+0f, 0x1.8p+0f, 0x1.a9d3b6p+0f,
                      0x1.bffffep+0f})
        for (float sign : {1.0f, -1.0f})
          fn(range, sign * std::ldexp(m, e));
}

TEST(Stochastic, GoesUpAsOftenAsTheFractionSays) {
  // Whether it goes up is monotonic in the random bits, so that bisection finds
  // for how many of the 2^32 it does: the probability itself, not an estimate.
  forBinades([](const Range &range, float x) {
    double low = below(range.format, x), high = above(range.format, x);
    if (low == high) { // x has a code, or no word takes it up
      EXPECT_LE((std::fabs(x) - low) * 0x1p+33, std::ldexp(1, range.leastStep));
      return;
    }
    uint64_t stays = 0, up = 0xffffffff;
    while (up - stays > 1) {
      uint64_t middle = (stays + up) / 2;
      double y =
          std::fabs(rounded(range.format, x, static_cast<uint32_t>(middle)));
      ASSERT_TRUE(y == low || y == high) << x;
      (y == high ? up : stays) = middle;
    }
    double probability = static_cast<double>(0x100000000ull - up) * 0x1p-32;
    double fraction = (std::fabs(static_cast<double>(x)) - low) / (high - low);
    bool exact = std::fabs(x) >= std::ldexp(1.0f, range.leastStep - 9);
    EXPECT_LE(std::fabs(probability - fraction), exact ? 0.0 : 0x1p-33)
        << "format " << static_cast<int>(range.format) << " of " << x;
  });
}

TEST(Stochastic, MeanErrorIsWithinFourStandardErrors) {
  std::vector<float> values(kDraws);
  std::vector<uint16_t> codes(kDraws);
  std::vector<float> decoded(kDraws);
  uint32_t id = 0;
  forBinades([&](const Range &range, float x) {
    double step = above(range.format, x) - below(range.format, x);
    if (step == 0 || !(above(range.format, x) < 3.4e38))
      return;
    std::fill(values.begin(), values.end(), x);
    int format = static_cast<int>(range.format);
    ASSERT_EQ(mpt_num_encode_stochastic(format, values.data(), kDraws, 1.0f, 0,
                                        ++id, 0, 20, codes.data()),
              0);
    ASSERT_EQ(
        mpt_num_decode(format, codes.data(), kDraws, 1.0f, decoded.data()), 0);
    double up = 0; // how often, since sums of values would round
    for (float y : decoded)
      up += std::fabs(y) == static_cast<float>(above(range.format, x));
    double p =
        (std::fabs(static_cast<double>(x)) - below(range.format, x)) / step;
    double standardError = std::sqrt(p * (1 - p) / kDraws);
    EXPECT_LE(std::fabs(up / kDraws - p), 4 * standardError)
        << "format " << format << " value " << x << " fraction " << p;
  });
}

TEST(Stochastic, CodedValuesStay) {
  for (Format format : kFormats) {
    uint32_t codes = format == Format::BF16 ? 65536 : 256;
    for (uint32_t code = 0; code < codes; ++code) {
      float x = num::decode(format, code);
      if (std::isnan(x))
        continue;
      uint32_t nearest = num::encode(format, x);
      for (uint32_t word : {0u, 1u, 0x80000000u, 0xffffffffu})
        EXPECT_EQ(num::encodeStochastic(format, x, word), nearest)
            << "format " << static_cast<int>(format) << " code " << code;
    }
  }
}

TEST(Stochastic, NeighboursOfNearest) {
  // Noise 0 never goes up in magnitude, and all ones never below nearest.
  for (Format format : kFormats) {
    uint64_t wrong = 0;
    test::forComb((1u << 14) + 1, [&](float x) {
      if (std::isnan(x))
        return;
      float down = num::decode(format, num::encodeStochastic(format, x, 0u));
      float up = num::decode(format, num::encodeStochastic(format, x, ~0u));
      float nearest = num::decode(format, num::encode(format, x));
      bool ordered = std::fabs(down) <= std::fabs(nearest) &&
                     std::fabs(nearest) <= std::fabs(up);
      wrong += !ordered || (nearest != down && nearest != up);
    });
    EXPECT_EQ(wrong, 0u) << "format " << static_cast<int>(format);
  }
}

TEST(Stochastic, SaturationAndNaN) {
  float infinity = std::numeric_limits<float>::infinity();
  for (uint32_t word : {0u, 0x7fffffffu, 0xffffffffu}) {
    for (float x : {1e9f, infinity}) {
      EXPECT_EQ(num::encodeE4M3Stochastic(x, word), 0x7eu);
      EXPECT_EQ(num::encodeE5M2Stochastic(-x, word), 0xfbu);
      EXPECT_EQ(num::encodeInt8Stochastic(x, word), 127u);
      EXPECT_EQ(num::encodeInt8Stochastic(-x, word), 129u);
    }
    EXPECT_EQ(num::encodeBF16Stochastic(infinity, word), 0x7f80u);
    for (uint32_t u : {0x7f800001u, 0x7fffffffu, 0xffffffffu}) {
      float nan = num::asFloat(u);
      EXPECT_EQ(num::encodeE4M3Stochastic(nan, word), 0x7fu);
      EXPECT_EQ(num::encodeE5M2Stochastic(nan, word), 0x7fu);
      EXPECT_EQ(num::encodeBF16Stochastic(nan, word), 0x7fc0u);
      EXPECT_EQ(num::encodeInt8Stochastic(nan, word), 0u);
    }
  }
}

TEST(Stochastic, ArraysDrawByElement) {
  // The loops take blocks of elements; each code is still that of the element's
  // own word, wherever a part of the value begins and ends.
  std::vector<float> x;
  test::forComb((1u << 20) + 1, [&](float v) { x.push_back(v); });
  num::Stream<uint32_t> stream{1, 2, 3, 4};
  const uint64_t seed = 3 | uint64_t(4) << 32;
  std::vector<uint8_t> codes(4 * x.size() + 1);
  for (int f = MPT_NUM_F32; f <= MPT_NUM_INT8; ++f)
    for (uint64_t first : {0ull, 1ull, 501ull, 0x3fffffffdull})
      for (size_t n : {size_t(0), size_t(1), size_t(3), size_t(511),
                       size_t(513), x.size()}) {
        std::fill(codes.begin(), codes.end(), 0xee);
        ASSERT_EQ(mpt_num_encode_stochastic(f, x.data(), n, 3.0f, first, 1, 2,
                                            seed, codes.data()),
                  0);
        auto format = static_cast<Format>(f);
        size_t bytes = static_cast<size_t>(num::formatBytes(format));
        for (size_t i = 0; i < n; ++i) {
          uint64_t element = first + i;
          uint32_t word =
              num::draw(static_cast<uint32_t>(element),
                        static_cast<uint32_t>(element >> 32), stream);
          float scaled = x[i] * 3.0f;
          uint32_t code = num::encodeStochastic(format, scaled, word);
          if (f == MPT_NUM_F32 && std::isnan(scaled))
            continue;
          ASSERT_EQ(0, std::memcmp(&code, &codes[i * bytes], bytes))
              << f << " " << first << " " << n << " " << i;
        }
        EXPECT_EQ(codes[n * bytes], 0xee) << "nothing beyond is written";
      }
}

} // namespace
