//===- MeasurerTest.cpp - one measurer, many products ---------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// A measurer keeps its memory between products: what it says must not depend on
// what it measured before, nor on who scanned the operands. The numbers
// themselves are tested from Python.
//
//===----------------------------------------------------------------------===//

#include "Failure.h"
#include "mpt/Metrics/Metrics.h"
#include "mpt/Metrics/RoundedProduct.h"

#include <gtest/gtest.h>
#include <random>

using namespace mpt;
using namespace mpt::metrics;

namespace {

/// A product with its operands.
struct Sample {
  Sample(int64_t m, int64_t n, int64_t k, uint32_t seed)
      : lhs(size_t(m * k)), rhs(size_t(k * n)), result(size_t(m * n)) {
    std::mt19937 random(seed);
    std::normal_distribution<float> distribution;
    for (float &x : lhs)
      x = distribution(random);
    for (float &x : rhs)
      x = distribution(random);
    request.product.m = m;
    request.product.n = n;
    request.product.k = k;
    request.product.batch[0] = request.product.batch[1] = 1;
    request.product.lhs = {lhs.data(), k, 1, {0, 0}};
    request.product.rhs = {rhs.data(), n, 1, {0, 0}};
    request.product.result = {result.data(), n, 1, {0, 0}};
    request.gradient = {result.data(), n, 1, {0, 0}};
    request.candidates = defaultCandidates(GradientSide::Rhs);
    request.sketch = 50;
  }

  std::vector<float> lhs, rhs, result;
  Request request{};
};

} // namespace

static void expectEqual(const ProductMetrics &a, const ProductMetrics &b) {
  ASSERT_EQ(a.candidates.size(), b.candidates.size());
  EXPECT_EQ(a.result, b.result);
  EXPECT_EQ(a.lhs.variance, b.lhs.variance);
  EXPECT_EQ(a.rhs.along.median, b.rhs.along.median);
  for (size_t c = 0; c < a.candidates.size(); ++c) {
    EXPECT_EQ(a.candidates[c].beMedian, b.candidates[c].beMedian);
    EXPECT_EQ(a.candidates[c].sqnrDb, b.candidates[c].sqnrDb);
    EXPECT_EQ(a.candidates[c].lossMse, b.candidates[c].lossMse);
    EXPECT_EQ(a.candidates[c].error, b.candidates[c].error);
    EXPECT_EQ(a.candidates[c].flushed[1], b.candidates[c].flushed[1]);
  }
}

TEST(Measurer, ForgetsTheProductBefore) {
  Sample small(20, 30, 70, 1), large(90, 100, 300, 2);
  Measurer used({64, 48, 3}, 2);
  ProductMetrics first = used.measure(small.request);
  ProductMetrics between = used.measure(large.request);
  expectEqual(used.measure(small.request), first);
  Measurer fresh({64, 48, 3}, 3);
  expectEqual(fresh.measure(large.request), between);
  large.request.candidates.resize(1);
  ProductMetrics one = used.measure(large.request);
  ASSERT_EQ(one.candidates.size(), 1u);
  EXPECT_EQ(one.candidates[0].beP99, between.candidates[0].beP99);
}

TEST(Measurer, TakesStatisticsThatAreKnown) {
  Sample sample(40, 50, 60, 1);
  Measurer measurer({16, 16, 0}, 2);
  ProductMetrics scanned = measurer.measure(sample.request);
  OperandStatistics lhs =
      measurer.scan(sample.request.product, GradientSide::Lhs);
  OperandStatistics rhs =
      measurer.scan(sample.request.product, GradientSide::Rhs);
  sample.request.lhs = &lhs;
  sample.request.rhs = &rhs;
  expectEqual(measurer.measure(sample.request), scanned);
  // They are believed: with another amax the scale is another one.
  rhs.amax *= 100;
  EXPECT_GT(measurer.measure(sample.request).candidates[5].relVar,
            10 * scanned.candidates[5].relVar);
}

TEST(Measurer, RefusesWhatItCannotMeasure) {
  Sample sample(4, 5, 6, 1);
  Measurer measurer({0, 0, 0}, 1);
  EXPECT_THROW(measurer.scan(sample.request.product, GradientSide::None),
               rt::Failure);
  Request request = sample.request;
  request.candidates[0].lhs.scale = Granularity::PerTensor; // of BF16
  EXPECT_THROW(measurer.measure(request), rt::Failure);
  request = sample.request;
  request.product.rhs.data = nullptr;
  EXPECT_THROW(measurer.measure(request), rt::Failure);
  request = sample.request;
  request.gradient.rows = -1;
  EXPECT_THROW(measurer.measure(request), rt::Failure);
  RoundedProduct rounded(1);
  Candidate noScale;
  noScale.rhs.storage = num::Format::INT8;
  EXPECT_THROW(rounded.run(request.product, noScale, {}, {}, {},
                           [](const mpt_product_view &) {}),
               rt::Failure);
}

TEST(RoundedProduct, KeepsToItsWorkspace) {
  Sample sample(300, 200, 64, 1);
  size_t workspace = 40 << 10;
  RoundedProduct rounded(2, workspace);
  int64_t elements = 0;
  rounded.run(sample.request.product, sample.request.candidates[5], {}, {}, {},
              [&](const mpt_product_view &part) {
                elements += part.m * part.n;
                EXPECT_EQ(part.k, 64);
                EXPECT_LE(size_t((part.m + part.n) * part.k) * sizeof(float),
                          workspace);
                EXPECT_GE(part.result.data, sample.result.data());
              });
  EXPECT_EQ(elements, 300 * 200);
}
