//===- MathTest.cpp - accuracy of the elementary functions ------*- C++ -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Sweeps against the C library in double precision. The bounds are those that
// the header states.
//
//===----------------------------------------------------------------------===//

#include "TestValues.h"

#include "mpt/Numerics/Math.h"
#include "mpt/Numerics/NumericsC.h"

#include "gtest/gtest.h"

#include <limits>
#include <vector>

using namespace mpt;

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr uint32_t kStride = (1u << 13) + 1;

/// The spacing of f32 at y.
double ulp(double y) {
  int exponent;
  std::frexp(y, &exponent);
  return std::ldexp(1.0, (exponent < -125 ? -125 : exponent) - 24);
}

double geluReference(double x) { return 0.5 * x * std::erfc(-x * M_SQRT1_2); }
double geluGradReference(double x) {
  return 0.5 * std::erfc(-x * M_SQRT1_2) +
         x * std::exp(-0.5 * x * x) / std::sqrt(2 * M_PI);
}

/// Checks that f is within `bound` (of `unit(y)`) of the reference y on [lo,
/// hi].
template <typename F, typename Reference, typename Unit>
void sweep(F f, Reference reference, Unit unit, double bound,
           float lo = -kInfinity, float hi = kInfinity) {
  double worst = 0;
  float at = 0;
  auto check = [&](float x) {
    if (!(x >= lo && x <= hi))
      return;
    double y = reference(static_cast<double>(x));
    float z = f(x);
    if (std::isnan(y) ||
        std::fabs(y) > std::numeric_limits<float>::max() + ulp(1e38) / 2) {
      EXPECT_TRUE(std::isnan(y) ? std::isnan(z) : z == static_cast<float>(y))
          << x;
      return;
    }
    double error = std::fabs(z - y) / unit(y);
    if (!(error <= worst)) {
      worst = error;
      at = x;
    }
  };
  test::forComb(kStride, check);
  test::forSpecials(check);
  EXPECT_LE(worst, bound) << "at " << at;
}

TEST(Math, Exp) {
  auto f = [](float x) { return num::exp(x); };
  sweep(f, [](double x) { return std::exp(x); }, ulp, 1.02);
  EXPECT_EQ(num::exp(0.0f), 1.0f);
  EXPECT_EQ(num::exp(-kInfinity), 0.0f);
  EXPECT_EQ(num::exp(kInfinity), kInfinity);
  EXPECT_EQ(num::exp(-104.0f), 0.0f);
  EXPECT_EQ(num::exp(-103.9f), 0x1p-149f);
}

TEST(Math, Log) {
  auto f = [](float x) { return num::log(x); };
  sweep(f, [](double x) { return std::log(x); }, ulp, 0.83);
  EXPECT_EQ(num::log(0.0f), -kInfinity);
  EXPECT_EQ(num::log(-0.0f), -kInfinity);
  EXPECT_EQ(num::bits(num::log(1.0f)), 0u);
  EXPECT_TRUE(std::isnan(num::log(-1.0f)));
}

TEST(Math, Tanh) {
  auto f = [](float x) { return num::tanh(x); };
  sweep(f, [](double x) { return std::tanh(x); }, ulp, 1.35);
  EXPECT_EQ(num::bits(num::tanh(-0.0f)), 0x80000000u);
  EXPECT_EQ(num::tanh(-kInfinity), -1.0f);
}

TEST(Math, Erf) {
  auto f = [](float x) { return num::erf(x); };
  sweep(f, [](double x) { return std::erf(x); }, ulp, 1.05);
  EXPECT_EQ(num::bits(num::erf(-0.0f)), 0x80000000u);
  EXPECT_EQ(num::erf(-kInfinity), -1.0f);
}

TEST(Math, Gelu) {
  auto f = [](float x) { return num::gelu(x); };
  sweep(f, geluReference, ulp, 1.5, 0.0f);
  sweep(f, geluReference, ulp, 2.1, -1.0f, 0.0f);
  sweep(f, geluReference, ulp, 5.5, -5.0f, -1.0f);
  sweep(f, geluReference, ulp, 6.7, -std::numeric_limits<float>::max(), -5.0f);
  EXPECT_EQ(num::bits(num::gelu(-kInfinity)), 0x80000000u);
  EXPECT_EQ(num::gelu(kInfinity), kInfinity);
}

TEST(Math, GeluGrad) {
  auto f = [](float x) { return num::geluGrad(x); };
  // It has a root near -0.75: there an absolute bound is all one can ask.
  auto one = [](double) { return 1.0; };
  sweep(f, geluGradReference, one, 1.0e-7, -100.0f, 100.0f);
  sweep(f, geluGradReference, ulp, 1.0, 0.0f, 100.0f);
  sweep(f, geluGradReference, ulp, 5.3, -100.0f, -2.0f);
  EXPECT_EQ(num::geluGrad(kInfinity), 1.0f);
  EXPECT_EQ(num::geluGrad(-kInfinity), 0.0f);
}

TEST(Math, NaNStaysNaN) {
  for (uint32_t u : {0x7fc00000u, 0xffc00000u, 0x7f800001u}) {
    float x = num::asFloat(u);
    for (float y :
         {num::exp(x), num::log(x), num::tanh(x), num::erf(x), num::gelu(x),
          num::geluGrad(x), num::maxOf(x, 1.0f), num::maxOf(1.0f, x)})
      EXPECT_TRUE(std::isnan(y));
  }
}

TEST(Math, NothingIsContracted) {
  // 1 + 2^-11 + 2^-24 keeps its last term only if the product is not rounded.
  volatile float a = 1.0f + 0x1p-12f;
  volatile float c = -(1.0f + 0x1p-11f);
  EXPECT_EQ(a * a + c, 0.0f) << "compile with -ffp-contract=off";
  EXPECT_EQ(num::fma(a, a, c), 0x1p-24f);
}

TEST(Math, ArraysAreTheScalarFunctions) {
  // The C interface is compiled for several processors: the bits must agree.
  std::vector<float> x, y;
  test::forComb(1u << 16 | 1u, [&](float v) { x.push_back(v); });
  y.resize(x.size());
  auto check = [&](int (*array)(const float *, float *, size_t), auto scalar) {
    ASSERT_EQ(array(x.data(), y.data(), x.size()), 0);
    for (size_t i = 0; i < x.size(); ++i) {
      float expected = scalar(x[i]);
      if (std::isnan(expected))
        ASSERT_TRUE(std::isnan(y[i])) << x[i];
      else
        ASSERT_EQ(num::bits(y[i]), num::bits(expected)) << x[i];
    }
  };
  check(mpt_num_exp, [](float v) { return num::exp(v); });
  check(mpt_num_log, [](float v) { return num::log(v); });
  check(mpt_num_tanh, [](float v) { return num::tanh(v); });
  check(mpt_num_erf, [](float v) { return num::erf(v); });
  check(mpt_num_gelu, [](float v) { return num::gelu(v); });
  check(mpt_num_gelu_grad, [](float v) { return num::geluGrad(v); });
}

} // namespace
