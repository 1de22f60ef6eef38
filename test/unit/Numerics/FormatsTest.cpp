//===- FormatsTest.cpp - codes, saturation, scales --------------*- C++ -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Nearest-even codes against two references: the formats' definitions written
// out in double precision here, and NVIDIA's host functions in cuda_fp8.h.
//
//===----------------------------------------------------------------------===//

#include "TestValues.h"

#include "mpt/Numerics/Bulk.h"
#include "mpt/Numerics/NumericsC.h"

#include "gtest/gtest.h"

#include <cstring>
#include <limits>
#include <vector>

#if __has_include(<cuda_fp8.h>)
#include <cuda_fp8.h>
#define MPT_TEST_CUDA_FP8 1
#endif

using namespace mpt;
using num::Format;

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
/// About a million patterns.
constexpr uint32_t kStride = (1u << 12) + 1;

/// An 8-bit floating format by its definition.
struct Definition {
  Format format;
  int manBits, bias;
  uint32_t maxCode;

  /// The value of a magnitude's code (not NaN, not infinity).
  double value(uint32_t code) const {
    int exponent = static_cast<int>(code >> manBits);
    double man = code & ((1u << manBits) - 1);
    double one = 1 << manBits;
    return exponent == 0 ? std::ldexp(man / one, 1 - bias)
                         : std::ldexp(1 + man / one, exponent - bias);
  }

  /// The code of the nearest value, ties to the even code, saturating.
  uint32_t nearest(float x) const {
    if (std::isnan(x))
      return 0x7f;
    double a = std::fabs(static_cast<double>(x));
    uint32_t code = 0;
    for (uint32_t bit = 0x40; bit != 0; bit >>= 1)
      if ((code | bit) <= maxCode && value(code | bit) <= a)
        code |= bit;
    if (code < maxCode) {
      double below = a - value(code), above = value(code + 1) - a;
      code += above < below || (above == below && (code & 1));
    }
    return code | (std::signbit(x) ? 0x80u : 0u);
  }
};

const Definition kE4M3{Format::E4M3, 3, 7, 0x7e};
const Definition kE5M2{Format::E5M2, 2, 15, 0x7b};

/// fn(x) for the comb and for every value and every tie of the format.
template <typename Fn> void forInputs(const Definition &def, Fn fn) {
  test::forComb(kStride, fn);
  test::forSpecials(fn);
  for (uint32_t code = 0; code <= def.maxCode; ++code) {
    double next = code < def.maxCode
                      ? def.value(code + 1)
                      : 2 * def.value(code) - def.value(code - 1);
    test::forNeighbours(static_cast<float>(def.value(code)), 3, fn);
    test::forNeighbours(static_cast<float>((def.value(code) + next) / 2), 3,
                        fn);
  }
}

TEST(Formats, Float8DecodesByDefinition) {
  for (const Definition &def : {kE4M3, kE5M2})
    for (uint32_t code = 0; code < 256; ++code) {
      float x = num::decode(def.format, code);
      uint32_t magnitude = code & 0x7f;
      if (magnitude <= def.maxCode) {
        EXPECT_EQ(std::fabs(x), def.value(magnitude)) << code;
        EXPECT_EQ(std::signbit(x), code >= 128) << code;
      } else if (def.format == Format::E5M2 && magnitude == 0x7c) {
        EXPECT_EQ(x, code < 128 ? kInfinity : -kInfinity);
      } else {
        EXPECT_TRUE(std::isnan(x)) << code;
      }
      EXPECT_EQ(num::bits(num::decode(def.format, code | 0xabcdef00u)),
                num::bits(x))
          << "bits above the code must not matter";
    }
}

TEST(Formats, Float8EncodesByDefinition) {
  for (const Definition &def : {kE4M3, kE5M2}) {
    uint64_t wrong = 0;
    forInputs(def, [&](float x) {
      if (num::encode(def.format, x) != def.nearest(x) && ++wrong < 10)
        ADD_FAILURE() << "format " << static_cast<int>(def.format) << " of "
                      << x << ": found " << num::encode(def.format, x)
                      << ", expected " << def.nearest(x);
    });
    EXPECT_EQ(wrong, 0u);
  }
}

TEST(Formats, Float8RoundTrips) {
  for (const Definition &def : {kE4M3, kE5M2})
    for (uint32_t code = 0; code < 256; ++code)
      if ((code & 0x7f) <= def.maxCode) {
        EXPECT_EQ(num::encode(def.format, num::decode(def.format, code)), code);
      }
}

#ifdef MPT_TEST_CUDA_FP8
TEST(Formats, Float8AgreesWithCuda) {
  for (const Definition &def : {kE4M3, kE5M2}) {
    auto kind = def.format == Format::E4M3 ? __NV_E4M3 : __NV_E5M2;
    for (uint32_t code = 0; code < 256; ++code) {
      __half_raw half =
          __nv_cvt_fp8_to_halfraw(static_cast<__nv_fp8_storage_t>(code), kind);
      float cuda = __half2float(__half(half));
      float ours = num::decode(def.format, code);
      if (std::isnan(cuda))
        EXPECT_TRUE(std::isnan(ours)) << code;
      else
        EXPECT_EQ(num::bits(ours), num::bits(cuda)) << code;
    }
    uint64_t wrong = 0;
    forInputs(def, [&](float x) {
      wrong += num::encode(def.format, x) !=
               __nv_cvt_float_to_fp8(x, __NV_SATFINITE, kind);
    });
    EXPECT_EQ(wrong, 0u);
  }
}
#else
TEST(Formats, Float8AgreesWithCuda) {
  GTEST_SKIP() << "cuda_fp8.h is not on the include path";
}
#endif

TEST(Formats, Float8Saturates) {
  for (float x : {449.0f, 464.0f, 465.0f, 1e30f, kInfinity}) {
    EXPECT_EQ(num::encodeE4M3(x), 0x7eu);
    EXPECT_EQ(num::encodeE4M3(-x), 0xfeu);
  }
  for (float x : {57345.0f, 61440.0f, 65536.0f, 1e30f, kInfinity}) {
    EXPECT_EQ(num::encodeE5M2(x), 0x7bu);
    EXPECT_EQ(num::encodeE5M2(-x), 0xfbu);
  }
  EXPECT_EQ(num::encodeE4M3(-0.0f), 0x80u);
  EXPECT_EQ(num::encodeE4M3(kNaN), 0x7fu);
  EXPECT_EQ(num::encodeE5M2(-kNaN), 0x7fu);
}

/// BF16 by its definition: the nearest multiple of the last kept bit.
uint32_t referenceBF16(float x) {
  if (std::isnan(x))
    return 0x7fc0;
  if (std::isinf(x))
    return num::bits(x) >> 16;
  int exponent;
  std::frexp(x, &exponent);
  double step = std::ldexp(1.0, (exponent < -125 ? -125 : exponent) - 8);
  double rounded = std::nearbyint(x / step) * step;
  return num::bits(static_cast<float>(rounded)) >> 16;
}

TEST(Formats, BF16) {
  for (uint32_t code = 0; code < 65536; ++code) {
    float x = num::decodeBF16(code);
    EXPECT_EQ(num::bits(x), code << 16);
    if (std::isnan(x))
      EXPECT_EQ(num::encodeBF16(x), 0x7fc0u);
    else
      EXPECT_EQ(num::encodeBF16(x), code);
  }
  uint64_t wrong = 0;
  auto check = [&](float x) {
    wrong += num::encodeBF16(x) != referenceBF16(x);
  };
  test::forComb(kStride, check);
  test::forSpecials(check);
  for (uint32_t code = 0; code < 32768; ++code)
    test::forNeighbours(num::asFloat((code << 16) | 0x8000u), 1, check);
  EXPECT_EQ(wrong, 0u);
  EXPECT_EQ(num::encodeBF16(0x1.ffp+127f), 0x7f80u) << "overflow is infinite";
}

TEST(Formats, Int8) {
  for (uint32_t code = 0; code < 256; ++code)
    EXPECT_EQ(num::decodeInt8(code), static_cast<int8_t>(code));
  auto reference = [](float x) -> uint32_t {
    if (std::isnan(x))
      return 0;
    double r = std::nearbyint(std::fmax(-127.0, std::fmin(127.0, x)));
    return static_cast<uint8_t>(static_cast<int>(r));
  };
  uint64_t wrong = 0;
  auto check = [&](float x) { wrong += num::encodeInt8(x) != reference(x); };
  test::forComb(kStride, check);
  test::forSpecials(check);
  for (int twice = -260; twice <= 260; ++twice)
    test::forNeighbours(static_cast<float>(twice) / 2, 3, check);
  EXPECT_EQ(wrong, 0u);
}

TEST(Formats, ScaleContract) {
  EXPECT_EQ(num::computeScale(1.0f, num::formatMax(Format::E4M3)), 448.0f);
  EXPECT_EQ(num::computeScale(2.0f, num::formatMax(Format::E5M2)), 28672.0f);
  EXPECT_EQ(num::computeScale(254.0f, num::formatMax(Format::INT8)), 0.5f);
  for (float amax : {0.0f, -0.0f, kInfinity, kNaN, -1.0f})
    EXPECT_EQ(num::computeScale(amax, 448.0f), 1.0f) << amax;
  float largest = std::numeric_limits<float>::max();
  EXPECT_EQ(num::computeScale(1e-45f, 448.0f), largest) << "clamped";
  EXPECT_GT(num::inverseScale(largest), 0.0f);
  EXPECT_GT(num::computeScale(largest, 127.0f), 0.0f);
}

TEST(Formats, AmaxKeepsNaNAndInfinity) {
  std::vector<float> x{1.0f, -3.0f, 2.0f};
  EXPECT_EQ(num::amaxArray(x.data(), x.size()), 3.0f);
  EXPECT_EQ(num::amaxArray(x.data(), 0), 0.0f);
  x.push_back(-kInfinity);
  EXPECT_EQ(num::amaxArray(x.data(), x.size()), kInfinity);
  x.insert(x.begin(), kNaN);
  EXPECT_TRUE(std::isnan(num::amaxArray(x.data(), x.size())));
}

TEST(Formats, BulkLoopsAreTheScalarFunctions) {
  std::vector<float> x;
  test::forComb(1u << 20 | 1u, [&](float v) { x.push_back(v); });
  const float scale = 3.0f;
  for (int f = MPT_NUM_F32; f <= MPT_NUM_INT8; ++f) {
    auto format = static_cast<Format>(f);
    std::vector<uint8_t> codes(4 * x.size());
    std::vector<float> back(x.size());
    ASSERT_EQ(mpt_num_encode(f, x.data(), x.size(), scale, codes.data()), 0);
    ASSERT_EQ(mpt_num_decode(f, codes.data(), x.size(), scale, back.data()), 0);
    for (size_t i = 0; i < x.size(); ++i) {
      uint32_t code = num::encode(format, x[i] * scale);
      float value = num::decode(format, code) * num::inverseScale(scale);
      ASSERT_EQ(0, std::memcmp(&code, &codes[i * num::formatBytes(format)],
                               num::formatBytes(format)));
      if (!std::isnan(value)) {
        ASSERT_EQ(num::bits(back[i]), num::bits(value));
      }
    }
  }
}

TEST(Formats, CInterfaceRefuses) {
  float x = 1;
  uint8_t code = 77;
  EXPECT_EQ(mpt_num_encode(5, &x, 1, 1.0f, &code), -1);
  EXPECT_EQ(mpt_num_encode(-1, &x, 1, 1.0f, &code), -1);
  EXPECT_EQ(mpt_num_encode(MPT_NUM_E4M3, nullptr, 1, 1.0f, &code), -1);
  EXPECT_EQ(mpt_num_decode(MPT_NUM_E4M3, nullptr, 1, 1.0f, &x), -1);
  EXPECT_EQ(mpt_num_encode(MPT_NUM_E4M3, nullptr, 0, 1.0f, nullptr), 0);
  EXPECT_EQ(code, 77);
  EXPECT_EQ(mpt_num_scale(MPT_NUM_BF16, 2.0f), 1.0f);
}

} // namespace
