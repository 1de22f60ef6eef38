//===- ScalesTest.cpp - granularities, recipes, MX --------------*- C++ -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Which elements share a scale, what a recipe does at the edges (zero,
// infinity, NaN, overflow of the scale itself), and MX's shared exponents by
// the specification's formula in double precision.
//
//===----------------------------------------------------------------------===//

#include "TestValues.h"

#include "mpt/Numerics/Matrix.h"
#include "mpt/Numerics/NumericsC.h"

#include "gtest/gtest.h"

#include <algorithm>
#include <limits>
#include <vector>

using namespace mpt;
using num::Format;
using num::Granularity;

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr float kLargest = std::numeric_limits<float>::max();

const Granularity kGranularities[] = {
    Granularity::None,      Granularity::PerTensor, Granularity::PerRow,
    Granularity::PerColumn, Granularity::Block128,  Granularity::MxRow,
    Granularity::MxColumn};

/// The tile of element (i, j) by the definition of each granularity.
size_t tileOf(Granularity granularity, size_t i, size_t j, size_t columns) {
  switch (granularity) {
  case Granularity::None:
  case Granularity::PerTensor:
    return 0;
  case Granularity::PerRow:
    return i;
  case Granularity::PerColumn:
    return j;
  case Granularity::Block128:
    return i / 128 * ((columns + 127) / 128) + j / 128;
  case Granularity::MxRow:
    return i * ((columns + 31) / 32) + j / 32;
  case Granularity::MxColumn:
    return i / 32 * columns + j;
  }
  return 0;
}

std::vector<float> sampleMatrix(size_t rows, size_t columns) {
  std::vector<float> x(rows * columns);
  uint32_t word = 7;
  for (float &v : x) {
    word = word * 1664525u + 1013904223u;
    v = num::asFloat((word & 0x807fffffu) | ((90 + (word >> 25) % 60) << 23));
  }
  return x;
}

TEST(Scales, MatricesUseTheScaleOfTheTile) {
  num::Stream<uint32_t> stream{1, 2, 3, 4};
  MptNumStream drawn{1, 2, 3 | uint64_t(4) << 32};
  for (auto [rows, columns] :
       {std::pair<size_t, size_t>{1, 1}, {3, 700}, {300, 5}, {130, 161}}) {
    std::vector<float> x = sampleMatrix(rows, columns);
    for (Granularity granularity : kGranularities)
      for (Format format : {Format::E4M3, Format::INT8, Format::BF16}) {
        if (num::isMx(granularity) && format == Format::BF16)
          continue;
        size_t tiles = 0;
        int g = static_cast<int>(granularity), f = static_cast<int>(format);
        ASSERT_EQ(mpt_num_tiles(g, rows, columns, &tiles), 0);
        std::vector<float> amaxes(tiles), expected(tiles), scales(tiles);
        for (size_t i = 0; i < rows; ++i)
          for (size_t j = 0; j < columns; ++j) {
            size_t tile = tileOf(granularity, i, j, columns);
            ASSERT_LT(tile, tiles);
            expected[tile] =
                std::max(expected[tile], std::fabs(x[i * columns + j]));
          }
        ASSERT_EQ(
            mpt_num_matrix_amax(g, x.data(), rows, columns, amaxes.data()), 0);
        EXPECT_EQ(amaxes, expected);
        ASSERT_EQ(mpt_num_current_scales(f, g, 0, amaxes.data(), tiles,
                                         scales.data()),
                  0);
        MptNumMatrix matrix{f, g, rows, columns};
        for (const MptNumStream *random :
             {(const MptNumStream *)nullptr, (const MptNumStream *)&drawn}) {
          std::vector<float> y(x.size()), back(x.size());
          std::vector<uint16_t> codes(x.size());
          ASSERT_EQ(mpt_num_matrix_round_trip(&matrix, x.data(), scales.data(),
                                              random, y.data()),
                    0);
          ASSERT_EQ(mpt_num_matrix_encode(&matrix, x.data(), scales.data(),
                                          random, codes.data()),
                    0);
          ASSERT_EQ(mpt_num_matrix_decode(&matrix, codes.data(), scales.data(),
                                          back.data()),
                    0);
          EXPECT_EQ(y, back);
          for (size_t e = 0; e < x.size(); ++e) {
            float s =
                scales[tileOf(granularity, e / columns, e % columns, columns)];
            uint32_t word = num::draw(static_cast<uint32_t>(e), 0u, stream);
            uint32_t code = random
                                ? num::encodeStochastic(format, x[e] * s, word)
                                : num::encode(format, x[e] * s);
            ASSERT_EQ(y[e], num::decode(format, code) * num::inverseScale(s))
                << "granularity " << g << " element " << e;
          }
        }
      }
  }
}

TEST(Scales, EdgesOfAmax) {
  for (float bad : {0.0f, -0.0f, kInfinity, kNaN, -1.0f})
    EXPECT_EQ(num::scaleOr(bad, 448.0f, 3.0f), 3.0f) << bad;
  EXPECT_EQ(num::scaleOr(1.0f, 448.0f, 3.0f), 448.0f);
  EXPECT_EQ(num::scaleOr(1e-45f, 448.0f, 3.0f), kLargest);
  for (int margin : {-60, 0, 60})
    for (float amax : {1e-45f, 1.0f, kLargest}) {
      float scale =
          num::scaleOr(amax, 127.0f * num::marginFactor(margin), 1.0f);
      EXPECT_TRUE(scale > 0 && scale <= kLargest) << amax << " " << margin;
      EXPECT_TRUE(num::inverseScale(scale) > 0 &&
                  num::inverseScale(scale) <= kLargest)
          << amax << " " << margin;
    }
  EXPECT_EQ(num::marginFactor(3), 0.125f);
  EXPECT_EQ(num::marginFactor(-2), 4.0f);
  // Above amax nothing saturates by rounding of the scale: MAX stays MAX.
  test::forComb((1u << 18) + 1, [](float amax) {
    if (amax > 0x1p-110f && amax <= kLargest) {
      float scale = num::computeScale(amax, 448.0f);
      EXPECT_EQ(num::encodeE4M3(amax * scale), 0x7eu) << amax;
    }
  });
}

TEST(Scales, DelayedFollowsTheLargestOfItsHistory) {
  float history[3];
  MptNumDelayed state{history, 3, 0, 0, 0};
  ASSERT_EQ(mpt_num_delayed_start(MPT_NUM_E4M3, 0, 7.0f, &state), 0);
  EXPECT_EQ(state.scale, 64.0f) << "the first step is not blind";
  auto update = [&](float amax, int margin = 0) {
    EXPECT_EQ(mpt_num_delayed_update(MPT_NUM_E4M3, margin, amax, &state), 0);
    return state.scale;
  };
  EXPECT_EQ(update(3.5f), 64.0f);
  EXPECT_EQ(update(14.0f), 32.0f);
  EXPECT_EQ(update(3.5f), 32.0f);
  // What is not finite is skipped: no slot is used up, the scale stays.
  for (float bad : {kInfinity, kNaN})
    EXPECT_EQ(update(bad), 32.0f);
  EXPECT_EQ(state.skipped, 2u);
  EXPECT_EQ(update(3.5f), 32.0f) << "14 is still in the window of three";
  EXPECT_EQ(update(3.5f), 128.0f) << "and has left it";
  EXPECT_EQ(update(0.0f), 128.0f);
  EXPECT_EQ(update(0.0f), 128.0f);
  EXPECT_EQ(update(0.0f), 128.0f) << "all 0: the old scale stays";
  EXPECT_EQ(update(1.75f), 256.0f);
  EXPECT_EQ(update(1.75f, 1), 128.0f) << "a margin halves";
  EXPECT_EQ(state.skipped, 2u);
}

TEST(Scales, DelayedStartsWithoutAProfile) {
  for (float amax : {0.0f, kInfinity, kNaN}) {
    float history[2] = {5, 5};
    MptNumDelayed state{history, 2, 1, 9, 5};
    ASSERT_EQ(mpt_num_delayed_start(MPT_NUM_INT8, 0, amax, &state), 0);
    EXPECT_EQ(state.scale, 1.0f);
    EXPECT_EQ(state.skipped, 0u);
    EXPECT_EQ(state.next, 0u);
    EXPECT_EQ(history[0] + history[1], 0.0f);
    ASSERT_EQ(mpt_num_delayed_update(MPT_NUM_INT8, 0, 254.0f, &state), 0);
    EXPECT_EQ(state.scale, 0.5f);
  }
}

TEST(Scales, MxSharedExponents) {
  struct Element {
    Format format;
    int emax;
  };
  for (Element element : {Element{Format::E4M3, 8}, Element{Format::E5M2, 15},
                          Element{Format::INT8, 6}}) {
    auto check = [&](float x) {
      float amax = std::fabs(x);
      uint32_t code = num::mxSharedCode(amax, num::mxEmax(element.format));
      if (!(amax <= kLargest)) {
        ASSERT_EQ(code, 255u);
        ASSERT_TRUE(std::isnan(num::decodeE8M0(code)));
        ASSERT_TRUE(std::isnan(num::mxScale(code)));
        return;
      }
      int shared = amax == 0 ? 0 : std::ilogb(amax) - element.emax;
      shared = std::max(-127, std::min(127, shared));
      ASSERT_EQ(code, static_cast<uint32_t>(shared + 127)) << amax;
      ASSERT_EQ(num::decodeE8M0(code), std::ldexp(1.0, shared)) << amax;
      ASSERT_EQ(num::mxScale(code), std::ldexp(1.0, -shared)) << amax;
      ASSERT_EQ(num::inverseScale(num::mxScale(code)), num::decodeE8M0(code));
    };
    test::forComb((1u << 14) + 1, check);
    test::forSpecials(check);
    for (int e = -149; e <= 127; ++e)
      test::forNeighbours(static_cast<float>(std::ldexp(1.0, e)), 1, check);
  }
  for (uint32_t code = 0; code < 255; ++code)
    EXPECT_EQ(num::decodeE8M0(code), std::ldexp(1.0, int(code) - 127));
}

TEST(Scales, MxBlockWithANonFiniteElementIsNaN) {
  for (int format : {MPT_NUM_E4M3, MPT_NUM_INT8})
    for (float bad : {kInfinity, kNaN}) {
      std::vector<float> x(64, 1.0f), y(64);
      x[40] = bad;
      float scales[2];
      ASSERT_EQ(mpt_num_matrix_amax(MPT_NUM_MX_ROW, x.data(), 1, 64, scales),
                0);
      ASSERT_EQ(
          mpt_num_current_scales(format, MPT_NUM_MX_ROW, 0, scales, 2, scales),
          0);
      MptNumMatrix matrix{format, MPT_NUM_MX_ROW, 1, 64};
      ASSERT_EQ(mpt_num_matrix_round_trip(&matrix, x.data(), scales, nullptr,
                                          y.data()),
                0);
      for (size_t i = 0; i < 64; ++i)
        EXPECT_TRUE(i < 32 ? y[i] == 1.0f : std::isnan(y[i])) << i;
    }
}

TEST(Scales, CInterfaceRefuses) {
  float x = 1, scale = 1, y = 7;
  uint8_t code = 7;
  size_t tiles = 7;
  EXPECT_EQ(mpt_num_tiles(7, 1, 1, &tiles), -1);
  EXPECT_EQ(mpt_num_tiles(1, SIZE_MAX, 2, &tiles), -1);
  EXPECT_EQ(mpt_num_tiles(1, 1, 1, nullptr), -1);
  EXPECT_EQ(tiles, 7u);
  EXPECT_EQ(mpt_num_tiles(MPT_NUM_BLOCK128, 0, 5, &tiles), 0);
  EXPECT_EQ(tiles, 0u);
  EXPECT_EQ(mpt_num_matrix_amax(-1, &x, 1, 1, &y), -1);
  EXPECT_EQ(mpt_num_matrix_amax(1, nullptr, 1, 1, &y), -1);
  for (MptNumMatrix bad : {MptNumMatrix{5, 1, 1, 1}, MptNumMatrix{2, 7, 1, 1},
                           MptNumMatrix{MPT_NUM_BF16, MPT_NUM_MX_ROW, 1, 1},
                           MptNumMatrix{2, 1, SIZE_MAX, SIZE_MAX}}) {
    EXPECT_EQ(mpt_num_matrix_round_trip(&bad, &x, &scale, nullptr, &y), -1);
    EXPECT_EQ(mpt_num_matrix_encode(&bad, &x, &scale, nullptr, &code), -1);
    EXPECT_EQ(mpt_num_matrix_decode(&bad, &code, &scale, &y), -1);
  }
  MptNumMatrix good{MPT_NUM_E4M3, MPT_NUM_PER_ROW, 1, 1};
  EXPECT_EQ(mpt_num_matrix_round_trip(&good, &x, nullptr, nullptr, &y), -1);
  EXPECT_EQ(mpt_num_matrix_round_trip(nullptr, &x, &scale, nullptr, &y), -1);
  MptNumDelayed none{nullptr, 1, 0, 0, 1}, empty{&y, 0, 0, 0, 1},
      beyond{&y, 1, 1, 0, 1}, fine{&y, 1, 0, 0, 1};
  for (MptNumDelayed *state :
       {&none, &empty, &beyond, (MptNumDelayed *)nullptr})
    EXPECT_EQ(mpt_num_delayed_update(MPT_NUM_E4M3, 0, 1.0f, state), -1);
  EXPECT_EQ(mpt_num_delayed_update(MPT_NUM_BF16, 0, 1.0f, &fine), -1);
  beyond.length = 0;
  EXPECT_EQ(mpt_num_delayed_start(MPT_NUM_E4M3, 0, 1.0f, &beyond), -1);
  EXPECT_EQ(beyond.next, 1u) << "what is refused is not written to";
  EXPECT_EQ(y, 7.0f);
  EXPECT_EQ(code, 7);
}

} // namespace
