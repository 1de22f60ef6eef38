//===- ReduceTest.cpp - the order of reductions -----------------*- C++ -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// The reductions against the definition written out once more, in another way,
// and on inputs where the order shows in the result.
//
//===----------------------------------------------------------------------===//

#include "mpt/Numerics/Reduce.h"
#include "mpt/Numerics/NumericsC.h"
#include "mpt/Numerics/Philox.h"

#include "gtest/gtest.h"

#include <cmath>
#include <limits>
#include <vector>

using namespace mpt;

namespace {

/// n values of mixed sign over many binades.
std::vector<float> randomValues(size_t n) {
  std::vector<uint32_t> words(n);
  EXPECT_EQ(mpt_num_draw(0, n, 1, 2, 3, words.data()), 0);
  std::vector<float> x;
  for (uint32_t w : words) // exponents 2^-16 to 2^15
    x.push_back(num::asFloat(
        (w & 0x80000000u) | ((111u + (w >> 23) % 32) << 23) | (w & 0x7fffffu)));
  return x;
}

/// The row sum in recursive form: a lane is the sum of its elements, and a tree
/// node at lane i of width w adds the nodes at i and i + w of width 2 w.
float laneSum(const std::vector<float> &x, size_t lane) {
  float sum = 0;
  for (size_t i = lane; i < x.size(); i += 32)
    sum += x[i];
  return sum;
}
float treeSum(const std::vector<float> &x, size_t lane, size_t width) {
  return width == 32 ? laneSum(x, lane)
                     : treeSum(x, lane, 2 * width) +
                           treeSum(x, lane + width, 2 * width);
}

TEST(Reduce, RowSum) {
  for (size_t n : {0, 1, 2, 31, 32, 33, 63, 64, 100, 256, 1000, 4096}) {
    std::vector<float> x = randomValues(n);
    EXPECT_EQ(num::bits(num::rowSum(x.data(), n)), num::bits(treeSum(x, 0, 1)));
    EXPECT_EQ(mpt_num_row_sum(x.data(), n), num::rowSum(x.data(), n));
  }
  // Elements 0 and 32 share a lane and cancel before the 1 comes in.
  std::vector<float> x(33, 0.0f);
  x[0] = 1e30f;
  x[1] = 1.0f;
  x[32] = -1e30f;
  EXPECT_EQ(num::rowSum(x.data(), 33), 1.0f);
  // Lanes 0 and 16 meet first: the 1 of lane 8 survives.
  x[32] = 0.0f;
  x[16] = -1e30f;
  EXPECT_EQ(num::rowSum(x.data(), 33), 1.0f);
}

TEST(Reduce, RowSumOfMappedElements) {
  std::vector<float> x = randomValues(100);
  float squares = num::rowSum(100, [&](size_t i) { return x[i] * x[i]; });
  std::vector<float> y;
  for (float v : x)
    y.push_back(v * v);
  EXPECT_EQ(squares, num::rowSum(y.data(), 100));
}

TEST(Reduce, RowMax) {
  float infinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(num::rowMax(nullptr, 0), -infinity);
  std::vector<float> x = randomValues(1000);
  float expected = -infinity;
  for (float v : x)
    expected = std::fmax(expected, v);
  EXPECT_EQ(num::rowMax(x.data(), 1000), expected);
  for (size_t i : {0, 31, 500, 999}) {
    std::vector<float> y = x;
    y[i] = std::nanf("");
    EXPECT_TRUE(std::isnan(num::rowMax(y.data(), 1000)));
    EXPECT_TRUE(std::isnan(mpt_num_row_max(y.data(), 1000)));
  }
}

TEST(Reduce, ColumnSums) {
  const size_t columns = 3;
  for (size_t rows : {0, 1, 63, 64, 65, 128, 1000}) {
    std::vector<float> x = randomValues(rows * columns);
    std::vector<float> sums(columns);
    ASSERT_EQ(mpt_num_column_sums(x.data(), rows, columns, sums.data()), 0);
    for (size_t c = 0; c < columns; ++c) {
      std::vector<float> partials((rows + 63) / 64, 0.0f);
      for (size_t r = 0; r < rows; ++r)
        partials[r / 64] += x[r * columns + c];
      float expected = 0;
      for (float p : partials)
        expected += p;
      EXPECT_EQ(num::bits(sums[c]), num::bits(expected));
    }
  }
}

} // namespace
