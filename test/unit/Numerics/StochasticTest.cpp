//===- StochasticTest.cpp - stochastic rounding -----------------*- C++ -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Stochastic codes are one of the two neighbours, are the value itself where it
// has a code, and are right on average: over a million draws the mean error
// stays within four standard errors.
//
//===----------------------------------------------------------------------===//

#include "TestValues.h"

#include "mpt/Numerics/Formats.h"
#include "mpt/Numerics/NumericsC.h"
#include "mpt/Numerics/Philox.h"

#include "gtest/gtest.h"

#include <limits>
#include <vector>

using namespace mpt;
using num::Format;

namespace {

constexpr Format kFormats[] = {Format::BF16, Format::E4M3, Format::E5M2,
                               Format::INT8};
constexpr size_t kDraws = 1000000;

const std::vector<uint32_t> &words() {
  static const std::vector<uint32_t> drawn = [] {
    std::vector<uint32_t> w(kDraws);
    mpt_num_draw(0, kDraws, num::nameId("stochastic"), 0, 1234, w.data());
    return w;
  }();
  return drawn;
}

/// The distance of the two neighbours of x: what noise 0 and all ones give.
double gap(Format format, float x) {
  double down = num::decode(format, num::encodeStochastic(format, x, 0u));
  double up = num::decode(format, num::encodeStochastic(format, x, ~0u));
  return std::fabs(up - down);
}

TEST(Stochastic, MeanErrorIsWithinFourStandardErrors) {
  // Normal and subnormal in each format, in several binades; a tie; and values
  // far below the least step.
  const float kValues[] = {1.1f,    -1.1f,  1.0625f,  3.3f,       -7.77f,
                           100.1f,  0.31f,  -0.0437f, 0.011f,     2e-3f,
                           1.7e-3f, -9e-4f, 3e-5f,    1.3e-5f,    -5e-6f,
                           126.6f,  0.5f,   -0.5f,    0x1.01p+0f, 1e-4f};
  for (Format format : kFormats)
    for (float x : kValues) {
      double sum = 0, step = gap(format, x);
      double low = std::numeric_limits<double>::infinity(), high = -low;
      for (uint32_t word : words()) {
        double y = num::decode(format, num::encodeStochastic(format, x, word));
        sum += y;
        low = std::fmin(low, y);
        high = std::fmax(high, y);
      }
      double exact = std::fabs(x);
      if (step == 0) { // a code's value, or a fraction that rounds to none
        EXPECT_LE(std::fabs(sum / kDraws - x), 0x1p-17) << x;
        continue;
      }
      double down =
          std::fabs(num::decode(format, num::encodeStochastic(format, x, 0u)));
      double p = (exact - down) / step;
      double standardError = step * std::sqrt(p * (1 - p) / kDraws);
      EXPECT_LE(std::fabs(sum / kDraws - x), 4 * standardError)
          << "format " << static_cast<int>(format) << " value " << x;
      EXPECT_LE(high - low, step) << "only the two neighbours may come out";
      EXPECT_TRUE((low <= x && x <= high) || p < 1e-4 || p > 1 - 1e-4) << x;
    }
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

TEST(Stochastic, ArrayDrawsByElement) {
  std::vector<float> x(1000, 1.1f);
  std::vector<uint8_t> all(1000), part(100);
  ASSERT_EQ(mpt_num_encode_stochastic(MPT_NUM_E4M3, x.data(), 1000, 2.0f, 0, 1,
                                      2, 3, all.data()),
            0);
  ASSERT_EQ(mpt_num_encode_stochastic(MPT_NUM_E4M3, x.data(), 100, 2.0f, 501, 1,
                                      2, 3, part.data()),
            0);
  for (size_t i = 0; i < part.size(); ++i)
    EXPECT_EQ(part[i], all[501 + i]);
}

} // namespace
