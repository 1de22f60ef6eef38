//===- ProductsTest.cpp - tests of the product engines --------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Both engines against the definition, over shapes that hit every rim of the
// tiles, all layouts and attention's strides. The reference engine has to give
// the definition's bits, for any number of threads and any vector width.
//
//===----------------------------------------------------------------------===//

#include "Products.h"
#include "CpuFeatures.h"
#include "ReferenceKernel.h"

#include <cmath>
#include <cstring>
#include <gtest/gtest.h>
#include <random>

using namespace mpt::rt;

namespace {

/// A product with its memory; columns or rows of each operand are dense.
struct Case {
  Product product;
  std::vector<float> lhs, rhs, result;

  Case(int64_t m, int64_t n, int64_t k, bool lhsT, bool rhsT, bool resultT,
       int64_t pad = 0) {
    std::mt19937 random(static_cast<unsigned>(m * 7919 + n * 31 + k));
    std::normal_distribution<float> normal;
    auto fill = [&](std::vector<float> &values, auto &operand, int64_t rows,
                    int64_t columns, bool transposed) {
      int64_t ld = (transposed ? rows : columns) + pad;
      values.resize(ld * (transposed ? columns : rows));
      for (float &value : values)
        value = normal(random);
      operand.data = values.data();
      operand.rows = transposed ? 1 : ld;
      operand.columns = transposed ? ld : 1;
    };
    product.m = m;
    product.n = n;
    product.k = k;
    fill(lhs, product.lhs, m, k, lhsT);
    fill(rhs, product.rhs, k, n, rhsT);
    fill(result, product.result, m, n, resultT);
  }
};

/// The definition: one fma per term, k ascending from zero.
float expected(const Product &p, int64_t b0, int64_t b1, int64_t i, int64_t j) {
  const float *lhs = p.lhs.data + b0 * p.lhs.batch[0] + b1 * p.lhs.batch[1];
  const float *rhs = p.rhs.data + b0 * p.rhs.batch[0] + b1 * p.rhs.batch[1];
  float sum = 0;
  for (int64_t k = 0; k < p.k; ++k)
    sum = std::fma(lhs[i * p.lhs.rows + k * p.lhs.columns],
                   rhs[k * p.rhs.rows + j * p.rhs.columns], sum);
  return sum;
}

/// Compares a product with the definition: equal bits, or close.
void check(const Product &p, bool exact) {
  for (int64_t b0 = 0; b0 < p.batch[0]; ++b0)
    for (int64_t b1 = 0; b1 < p.batch[1]; ++b1)
      for (int64_t i = 0; i < p.m; ++i)
        for (int64_t j = 0; j < p.n; ++j) {
          float found =
              p.result.data[b0 * p.result.batch[0] + b1 * p.result.batch[1] +
                            i * p.result.rows + j * p.result.columns];
          float wanted = expected(p, b0, b1, i, j);
          if (exact)
            ASSERT_EQ(std::memcmp(&found, &wanted, 4), 0)
                << found << " and " << wanted << " at " << i << ", " << j;
          else
            ASSERT_NEAR(found, wanted, 2e-6 * std::sqrt(p.k) * 4);
        }
}

const int64_t shapes[][3] = {{1, 1, 1},     {1, 5, 3},     {5, 1, 3},
                             {12, 32, 8},   {13, 33, 9},   {6, 16, 257},
                             {11, 31, 600}, {145, 65, 17}, {30, 3100, 5},
                             {64, 1, 64},   {1, 100, 64},  {2, 2, 1}};

} // namespace

class Engines : public ::testing::TestWithParam<Engine> {
protected:
  Gemm gemm() const {
    return GetParam() == Engine::Blas ? blasGemm() : referenceGemm();
  }
  bool exact() const { return GetParam() == Engine::Reference; }
};
INSTANTIATE_TEST_SUITE_P(, Engines,
                         ::testing::Values(Engine::Blas, Engine::Reference),
                         [](const auto &info) {
                           return std::string(engineName(info.param));
                         });

TEST_P(Engines, allLayouts) {
  ThreadPool pool(2);
  for (auto [m, n, k] : shapes)
    for (int layout = 0; layout < 8; ++layout)
      for (int64_t pad : {0, 3}) {
        Case c(m, n, k, layout & 1, layout & 2, layout & 4, pad);
        runProduct(c.product, gemm(), pool);
        check(c.product, exact());
      }
}

TEST_P(Engines, attentionHeads) {
  // Heads lie side by side in [tokens, heads * width]: scores, then context.
  constexpr int64_t batch = 3, tokens = 20, heads = 4, width = 16, hidden = 64;
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  std::vector<float> q(batch * tokens * hidden), k(q.size()), v(q.size());
  for (auto *values : {&q, &k, &v})
    for (float &value : *values)
      value = normal(random);
  std::vector<float> scores(batch * heads * tokens * tokens), context(q.size());
  ThreadPool pool(2);
  Product p;
  p.batch[0] = batch;
  p.batch[1] = heads;
  p.m = p.n = tokens;
  p.k = width;
  p.lhs = {q.data(), hidden, 1, {tokens * hidden, width}};
  p.rhs = {k.data(), 1, hidden, {tokens * hidden, width}};
  p.result = {
      scores.data(), tokens, 1, {heads * tokens * tokens, tokens * tokens}};
  runProduct(p, gemm(), pool);
  check(p, exact());
  p.n = width;
  p.k = tokens;
  p.lhs = {
      scores.data(), tokens, 1, {heads * tokens * tokens, tokens * tokens}};
  p.rhs = {v.data(), hidden, 1, {tokens * hidden, width}};
  p.result = {context.data(), hidden, 1, {tokens * hidden, width}};
  runProduct(p, gemm(), pool);
  check(p, exact());
}

TEST_P(Engines, broadcastBatch) {
  Case c(9, 10, 11, false, false, false);
  std::vector<float> result(6 * 90);
  c.product.batch[0] = 2;
  c.product.batch[1] = 3;
  c.product.result = {result.data(), 10, 1, {270, 90}};
  ThreadPool pool(2);
  runProduct(c.product, gemm(), pool);
  check(c.product, exact());
}

TEST(ReferenceEngine, bitsDoNotDependOnThreads) {
  for (auto [m, n, k] : shapes) {
    std::vector<float> first;
    for (int threads : {1, 2, 3, 8}) {
      Case c(m, n, k, true, false, false);
      ThreadPool pool(threads);
      runProduct(c.product, referenceGemm(), pool);
      if (first.empty())
        first = c.result;
      ASSERT_EQ(std::memcmp(first.data(), c.result.data(), first.size() * 4),
                0);
    }
  }
}

TEST(ReferenceEngine, bitsDoNotDependOnTheVectorWidth) {
  std::vector<const ReferenceKernel *> kernels = {&referenceKernelAny};
#if defined(__x86_64__)
  if (cpuHas("avx2") && cpuHas("fma"))
    kernels.push_back(&referenceKernelAvx2);
  if (cpuHas("avx512f"))
    kernels.push_back(&referenceKernelAvx512);
#endif
  for (auto [m, n, k] : shapes)
    for (const ReferenceKernel *kernel : kernels) {
      Case c(m, n, k, false, true, false);
      runReference(c.product, *kernel);
      check(c.product, true);
    }
}

TEST(ReferenceEngine, infinitiesAndNaNsPass) {
  Case c(3, 3, 4, false, false, false);
  c.lhs[5] = INFINITY;
  c.rhs[10] = NAN;
  ThreadPool pool(1);
  runProduct(c.product, referenceGemm(), pool);
  for (int i = 0; i < 3; ++i)
    for (int j = 0; j < 3; ++j) {
      float wanted = expected(c.product, 0, 0, i, j);
      float found = c.result[i * 3 + j];
      EXPECT_TRUE(found == wanted || (std::isnan(found) && std::isnan(wanted)));
    }
}
