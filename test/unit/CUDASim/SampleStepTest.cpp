//===- SampleStepTest.cpp - An emitted-style package in simulation --------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Loads SampleStep.cu, built as a shared library as packages are, and runs it
// under each order of threads.
//
//===----------------------------------------------------------------------===//

#include "mpt/Numerics/Formats.h"

#include "gtest/gtest.h"

#include <cmath>
#include <dlfcn.h>
#include <vector>

using namespace mpt;

namespace {

constexpr int64_t rows = 48, inner = 64, columns = 80, vocabulary = 24;

template <typename Function> Function *symbol(void *library, const char *name) {
  auto *result = reinterpret_cast<Function *>(dlsym(library, name));
  EXPECT_NE(result, nullptr) << name;
  return result;
}

std::vector<uint8_t> codes(int64_t count, uint32_t seed) {
  std::vector<uint8_t> result(static_cast<size_t>(count));
  for (uint8_t &one : result) {
    seed = seed * 1664525u + 1013904223u;
    one = static_cast<uint8_t>(
        num::encodeE4M3(static_cast<float>(seed >> 8) / 8388608.0f - 1.0f));
  }
  return result;
}

TEST(SampleStep, RunsFromASharedLibrary) {
  void *library = dlopen(MPT_SAMPLE_STEP, RTLD_NOW | RTLD_LOCAL);
  ASSERT_NE(library, nullptr) << dlerror();
  auto *error = symbol<const char *()>(library, "sample_error");
  auto *load = symbol<int()>(library, "sample_load");
  auto *close = symbol<int()>(library, "sample_close");
  auto *setOrder = symbol<int(const char *)>(library, "mpt_sim_set_order");
  auto *step =
      symbol<int(const uint8_t *, const uint8_t *, const float *, const float *,
                 const int64_t *, float *, float *, float *)>(library,
                                                              "sample_step");
  ASSERT_EQ(load(), 0) << error();
  std::vector<uint8_t> x = codes(rows * inner, 1),
                       w = codes(columns * inner, 2);
  float scales[2] = {0.5f, 0.25f};
  std::vector<float> bias(columns), y(rows * columns);
  std::vector<float> gradient(vocabulary * columns);
  std::vector<int64_t> ids(rows);
  for (int64_t i = 0; i < columns; ++i)
    bias[i] = static_cast<float>(i % 7) * 0.1f;
  for (int64_t i = 0; i < rows; ++i)
    ids[i] = i * 5 % vocabulary;
  for (const char *order :
       {"forward", "reverse", "random:1", "interleaved:1"}) {
    float amax = -1.0f, expectedAmax = 0.0f;
    ASSERT_EQ(setOrder(order), 0);
    ASSERT_EQ(step(x.data(), w.data(), scales, bias.data(), ids.data(),
                   y.data(), gradient.data(), &amax),
              0)
        << error();
    std::vector<double> sums(vocabulary * columns);
    for (int64_t r = 0; r < rows; ++r) {
      std::vector<double> z(columns);
      double largest = -INFINITY, total = 0;
      for (int64_t c = 0; c < columns; ++c) {
        for (int64_t k = 0; k < inner; ++k)
          z[c] += double(num::decodeE4M3(uint32_t(x[r * inner + k]))) *
                  num::decodeE4M3(uint32_t(w[c * inner + k]));
        z[c] = z[c] * 0.125 * 0.5 + bias[c];
        largest = std::fmax(largest, z[c]);
      }
      for (int64_t c = 0; c < columns; ++c)
        total += z[c] - largest;
      for (int64_t c = 0; c < columns; ++c) {
        double expected = (z[c] - largest) / total;
        ASSERT_NEAR(y[r * columns + c], expected, 1e-6);
        sums[ids[r] * columns + c] += expected;
        expectedAmax = std::fmax(expectedAmax, y[r * columns + c]);
      }
    }
    for (int64_t i = 0; i < vocabulary * columns; ++i)
      ASSERT_NEAR(gradient[i], sums[i], 1e-6);
    EXPECT_EQ(amax, expectedAmax);
  }
  EXPECT_EQ(close(), 0) << error();
  dlclose(library);
}

} // namespace
