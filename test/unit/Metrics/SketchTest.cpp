//===- SketchTest.cpp - sketches and the Gram matrix of batches -----------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// A sketch keeps inner products in expectation and is linear; a Gram matrix
// says of vectors what their coordinates would say.
//
//===----------------------------------------------------------------------===//

#include "mpt/Metrics/Sketch.h"

#include <cmath>
#include <gtest/gtest.h>
#include <random>

using namespace mpt::metrics;

static std::vector<float> normal(size_t n, uint32_t seed, float mean = 0) {
  std::mt19937 random(seed);
  std::normal_distribution<float> distribution(mean, 1);
  std::vector<float> x(n);
  for (float &value : x)
    value = distribution(random);
  return x;
}

static double inner(const std::vector<float> &a, const std::vector<float> &b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i)
    sum += double(a[i]) * double(b[i]);
  return sum;
}

TEST(Sketch, IsTheIdentityWhereItHasRoom) {
  std::vector<float> x = normal(1000, 1);
  EXPECT_EQ(sketch(x.data(), x.size(), 1000, 7), x);
  EXPECT_EQ(sketch(x.data(), x.size(), 5000, 7), x);
  EXPECT_EQ(sketch(x.data(), x.size(), 999, 7).size(), 999u);
  EXPECT_TRUE(sketch(x.data(), x.size(), 0, 7).empty());
  EXPECT_TRUE(sketch(nullptr, 0, 10, 7).empty());
}

TEST(Sketch, IsLinear) {
  constexpr size_t n = 100003, d = 512;
  std::vector<float> x = normal(n, 1), y = normal(n, 2), sum(n);
  for (size_t i = 0; i < n; ++i)
    sum[i] = x[i] - 3 * y[i];
  auto a = sketch(x.data(), n, d, 5), b = sketch(y.data(), n, d, 5),
       c = sketch(sum.data(), n, d, 5);
  for (size_t i = 0; i < d; ++i)
    EXPECT_NEAR(c[i], a[i] - 3 * b[i], 1e-2);
}

TEST(Sketch, KeepsInnerProducts) {
  constexpr size_t n = 50000, d = 1000, seeds = 60;
  std::vector<float> x = normal(n, 1, 0.5f), y = normal(n, 2, -0.3f);
  double xx = inner(x, x), yy = inner(y, y), xy = inner(x, y);
  double bias = 0, square = 0;
  for (uint64_t seed = 0; seed < seeds; ++seed) {
    auto a = sketch(x.data(), n, d, seed), b = sketch(y.data(), n, d, seed);
    double deviation = inner(a, b) - xy;
    bias += deviation / seeds;
    square += deviation * deviation / seeds;
  }
  // One sketch is off by sqrt((|x|^2 |y|^2 + (x.y)^2) / d) on average.
  double expected = std::sqrt((xx * yy + xy * xy) / d);
  EXPECT_LT(std::fabs(bias), 4 * expected / std::sqrt(double(seeds)));
  EXPECT_NEAR(std::sqrt(square), expected, 0.35 * expected);
}

TEST(Gram, SaysWhatTheVectorsSay) {
  constexpr size_t batches = 5, n = 37;
  std::vector<std::vector<float>> x;
  std::vector<const std::vector<float> *> pointers;
  for (uint32_t b = 0; b < batches; ++b)
    x.push_back(normal(n, b, 0.2f));
  for (auto &vector : x)
    pointers.push_back(&vector);
  double squaredMean = 0, variance = 0;
  for (size_t i = 0; i < n; ++i) {
    double mean = 0;
    for (size_t b = 0; b < batches; ++b)
      mean += double(x[b][i]) / batches;
    squaredMean += mean * mean;
    for (size_t b = 0; b < batches; ++b)
      variance += (x[b][i] - mean) * (x[b][i] - mean) / batches;
  }
  Gram gram(pointers);
  EXPECT_NEAR(gram.squaredMean(), squaredMean, 1e-9);
  EXPECT_NEAR(gram.variance(), variance, 1e-9);
  EXPECT_NEAR(gram.meanSquare(), squaredMean + variance, 1e-9);
  double unbiased = variance * batches / (batches - 1);
  EXPECT_NEAR(gram.persistent(), squaredMean - unbiased / batches, 1e-9);
  EXPECT_DOUBLE_EQ(gram.at(1, 3), gram.at(3, 1));
}

TEST(Gram, OneBatchSaysNothingOfWhatPersists) {
  std::vector<float> x = normal(10, 1);
  Gram gram({&x});
  EXPECT_TRUE(std::isnan(gram.persistent()));
  EXPECT_EQ(gram.variance(), 0);
}

TEST(Gram, ResamplesBatches) {
  std::vector<float> a{1, 0}, b{1, 1}, c{0, 3};
  Gram gram({&a, &b, &c});
  Gram drawn = gram.resample({0, 2, 2});
  // Pairs of different batches: (a, c) only, which are orthogonal.
  EXPECT_DOUBLE_EQ(drawn.persistent(), 0);
  EXPECT_DOUBLE_EQ(drawn.meanSquare(), (1.0 + 9 + 9) / 3);
  EXPECT_DOUBLE_EQ(drawn.squaredMean(), (1.0 + 4 * 9) / 9);
  EXPECT_DOUBLE_EQ(gram.resample({2, 1, 0}).persistent(), gram.persistent());
  EXPECT_TRUE(std::isnan(gram.resample({1, 1, 1}).persistent()));
  // A drawn one remembers where its batches came from.
  EXPECT_TRUE(std::isnan(drawn.resample({1, 2}).persistent()));
}
