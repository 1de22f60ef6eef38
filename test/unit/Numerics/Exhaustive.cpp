//===- Exhaustive.cpp - every float through every encoder -------*- C++ -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Encodes all 2^32 floats to BF16, E4M3, E5M2 and INT8 with the array loops
// that the runtime library ships, and decodes every code. Each result is
// compared with the format's definition (the values written out, the nearest
// one found by walking them beside the ascending floats) and, where the CUDA
// toolkit's headers were there at build time, with its host functions. A NaN
// may have any code that is a NaN. `make exhaustive` runs all, `make check` a
// dense comb.
//
//   mpt-numerics-exhaustive [--stride N]     every Nth float, and all the ties
//
//===----------------------------------------------------------------------===//

#include "mpt/Numerics/Formats.h"
#include "mpt/Numerics/NumericsC.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#if __has_include(<cuda_fp8.h>)
#include <cuda_bf16.h>
#include <cuda_fp8.h>
#define MPT_TEST_CUDA 1
#endif

using namespace mpt;
using num::Format;

namespace {

/// A format by its definition.
struct Definition {
  Format format;
  const char *name;
  /// The values of the codes 0, 1, ... up to the largest finite one; of BF16
  /// also 2^128, which stands for infinity.
  std::vector<double> values;
  uint32_t nanCode;

  int bytes() const { return num::formatBytes(format); }

  /// The code of a negative value whose magnitude has this code.
  uint32_t negative(uint32_t code) const {
    if (format == Format::INT8)
      return (256 - code) & 0xff;
    return code | (format == Format::BF16 ? 0x8000u : 0x80u);
  }

  bool isNaN(uint32_t code) const {
    if (format == Format::INT8)
      return code == 0;
    uint32_t sign = format == Format::BF16 ? 0x8000u : 0x80u;
    return (code & ~sign) >= nanCode;
  }

  /// Halfway between a code's value and the next one's.
  double tie(uint32_t code) const {
    return (values[code] + values[code + 1]) / 2;
  }
};

Definition floating(Format format, const char *name, int manBits, int bias,
                    uint32_t maxCode, uint32_t nanCode) {
  Definition definition{format, name, {}, nanCode};
  for (uint32_t code = 0; code <= maxCode; ++code) {
    int exponent = static_cast<int>(code >> manBits);
    double man = std::ldexp(code & ((1u << manBits) - 1), -manBits);
    definition.values.push_back(exponent == 0
                                    ? std::ldexp(man, 1 - bias)
                                    : std::ldexp(1 + man, exponent - bias));
  }
  return definition;
}

Definition integer() {
  Definition definition{Format::INT8, "INT8", {}, 0};
  for (int value = 0; value <= 127; ++value)
    definition.values.push_back(value);
  return definition;
}

/// CUDA's code, or `otherwise` where there is none.
uint32_t cudaCode(Format format, float x, uint32_t otherwise) {
#ifdef MPT_TEST_CUDA
  if (format == Format::E4M3 || format == Format::E5M2)
    return __nv_cvt_float_to_fp8(
        x, __NV_SATFINITE, format == Format::E4M3 ? __NV_E4M3 : __NV_E5M2);
  if (format == Format::BF16)
    return static_cast<__nv_bfloat16_raw>(__float2bfloat16_rn(x)).x;
#endif
  return otherwise;
}

/// Counts what was compared and prints the first few differences.
class Report {
public:
  void compare(const Definition &definition, float x, uint32_t found,
               uint32_t expected, const char *by) {
    bool same = std::isnan(x)
                    ? definition.isNaN(found) && definition.isNaN(expected)
                    : found == expected;
    if (same || ++wrong > 10)
      return;
    std::printf("%s of %a: found 0x%x, expected 0x%x by %s\n", definition.name,
                x, found, expected, by);
  }
  std::atomic<uint64_t> wrong{0};
};

/// The codes of x, widened.
void encodeAll(const Definition &definition, const std::vector<float> &x,
               std::vector<uint32_t> &codes) {
  std::vector<uint16_t> held(x.size());
  mpt_num_encode(static_cast<int>(definition.format), x.data(), x.size(), 1.0f,
                 held.data());
  const auto *bytes = reinterpret_cast<const uint8_t *>(held.data());
  codes.resize(x.size());
  for (size_t i = 0; i < x.size(); ++i)
    codes[i] = definition.bytes() == 2 ? held[i] : bytes[i];
}

/// Compares the codes of these magnitudes, which ascend, and of their
/// negatives.
void checkAscending(const Definition &definition,
                    const std::vector<float> &magnitudes, Report &report) {
  std::vector<float> negatives(magnitudes.size());
  std::transform(magnitudes.begin(), magnitudes.end(), negatives.begin(),
                 [](float x) { return num::asFloat(num::bits(x) | 1u << 31); });
  std::vector<uint32_t> plus, minus;
  encodeAll(definition, magnitudes, plus);
  encodeAll(definition, negatives, minus);
  uint32_t code = 0, last = static_cast<uint32_t>(definition.values.size()) - 1;
  for (size_t i = 0; i < magnitudes.size(); ++i) {
    float x = magnitudes[i];
    uint32_t down = definition.nanCode, up = down;
    if (!std::isnan(x)) {
      // The nearest, of two the even one.
      while (code < last && (x > definition.tie(code) ||
                             (x == definition.tie(code) && (code & 1))))
        ++code;
      up = code;
      down = definition.negative(code);
    }
    report.compare(definition, x, plus[i], up, "the definition");
    report.compare(definition, negatives[i], minus[i], down, "the definition");
    report.compare(definition, x, plus[i],
                   cudaCode(definition.format, x, plus[i]), "CUDA");
    report.compare(definition, negatives[i], minus[i],
                   cudaCode(definition.format, negatives[i], minus[i]), "CUDA");
  }
}

/// All floats `stride` apart, on all processors.
uint64_t checkFloats(const Definition &definition, uint32_t stride,
                     Report &report) {
  constexpr uint64_t kBlock = 1 << 16, kEnd = 1ull << 31;
  std::atomic<uint64_t> next{0}, done{0};
  auto work = [&] {
    std::vector<float> x;
    for (;;) {
      uint64_t begin = next.fetch_add(kBlock * stride);
      if (begin >= kEnd)
        return;
      x.clear();
      for (uint64_t u = begin; u < kEnd && x.size() < kBlock; u += stride)
        x.push_back(num::asFloat(static_cast<uint32_t>(u)));
      checkAscending(definition, x, report);
      done += 2 * x.size();
    }
  };
  std::vector<std::thread> threads;
  for (unsigned i = 1; i < std::thread::hardware_concurrency(); ++i)
    threads.emplace_back(work);
  work();
  for (std::thread &thread : threads)
    thread.join();
  return done;
}

/// The floats around each code's value and each tie.
void checkTies(const Definition &definition, Report &report) {
  std::vector<float> x;
  for (uint32_t code = 0; code + 1 < definition.values.size(); ++code)
    for (double at : {definition.values[code], definition.tie(code)}) {
      auto near = static_cast<float>(at);
      for (int d = -2; d <= 2; ++d)
        if (int64_t(num::bits(near)) + d >= 0)
          x.push_back(num::asFloat(num::bits(near) + static_cast<uint32_t>(d)));
    }
  std::sort(x.begin(), x.end());
  checkAscending(definition, x, report);
}

/// Every code, decoded.
void checkCodes(const Definition &definition, Report &report) {
  size_t count = definition.bytes() == 2 ? 65536 : 256;
  std::vector<uint16_t> wide(count);
  std::vector<uint8_t> narrow(count);
  for (size_t code = 0; code < count; ++code) {
    wide[code] = static_cast<uint16_t>(code);
    narrow[code] = static_cast<uint8_t>(code);
  }
  std::vector<float> found(count);
  const void *codes = definition.bytes() == 2
                          ? static_cast<const void *>(wide.data())
                          : narrow.data();
  mpt_num_decode(static_cast<int>(definition.format), codes, count, 1.0f,
                 found.data());
  size_t half = count / 2, finite = definition.values.size();
  for (uint32_t code = 0; code < count; ++code) {
    bool negative = code >= half;
    uint32_t magnitude = code % half;
    double expected;
    if (definition.format == Format::INT8)
      expected = static_cast<int8_t>(code);
    else if (magnitude < finite &&
             !(definition.format == Format::BF16 && magnitude + 1 == finite))
      expected = definition.values[magnitude] * (negative ? -1 : 1);
    else if (definition.isNaN(code))
      expected = NAN;
    else
      expected = negative ? -HUGE_VAL : HUGE_VAL;
    bool same = std::isnan(expected)
                    ? std::isnan(found[code])
                    : found[code] == expected &&
                          (definition.format == Format::INT8 ||
                           std::signbit(found[code]) == negative);
#ifdef MPT_TEST_CUDA
    if (definition.format == Format::E4M3 ||
        definition.format == Format::E5M2) {
      float cuda = __half2float(__half(__nv_cvt_fp8_to_halfraw(
          narrow[code],
          definition.format == Format::E4M3 ? __NV_E4M3 : __NV_E5M2)));
      same &= std::isnan(cuda) ? std::isnan(found[code])
                               : num::bits(cuda) == num::bits(found[code]);
    }
#endif
    if (!same && ++report.wrong <= 10)
      std::printf("%s code 0x%x: decodes to %a, expected %a\n", definition.name,
                  code, found[code], expected);
  }
}

} // namespace

int main(int argc, char **argv) {
  uint32_t stride = 1;
  if (argc == 3 && std::string(argv[1]) == "--stride")
    stride = static_cast<uint32_t>(std::strtoul(argv[2], nullptr, 10));
  else if (argc != 1)
    stride = 0;
  if (stride == 0) {
    std::fprintf(stderr, "usage: %s [--stride N]    N: 1 or more\n", argv[0]);
    return 2;
  }
#ifndef MPT_TEST_CUDA
  std::printf("CUDA's host functions are not compared: no nvcc was on the path "
              "when this was configured\n");
#endif
  Report report;
  Definition bf16 = floating(Format::BF16, "BF16", 7, 127, 0x7f80, 0x7f81);
  for (const Definition &definition :
       {bf16, floating(Format::E4M3, "E4M3", 3, 7, 0x7e, 0x7f),
        floating(Format::E5M2, "E5M2", 2, 15, 0x7b, 0x7d), integer()}) {
    auto start = std::chrono::steady_clock::now();
    checkCodes(definition, report);
    checkTies(definition, report);
    uint64_t count = checkFloats(definition, stride, report);
    std::chrono::duration<double> taken =
        std::chrono::steady_clock::now() - start;
    std::printf("%-5s %10llu floats, all codes: %llu wrong so far, %.1f s\n",
                definition.name, static_cast<unsigned long long>(count),
                static_cast<unsigned long long>(report.wrong), taken.count());
    std::fflush(stdout);
  }
  return report.wrong ? 1 : 0;
}
