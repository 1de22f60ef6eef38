//===- GemmSupport.h - What a product must give -----------------*- C++ -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Operands as codes, and two definitions of their product: the exact sum, and
// the order of mpt/CUDA/Gemm.h with the simulator's rounding, bit by bit.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_TEST_UNIT_CUDASIM_GEMMSUPPORT_H
#define MPT_TEST_UNIT_CUDASIM_GEMMSUPPORT_H

#include "TestSupport.h"

#include "mpt/CUDA/Gemm.h"

namespace mpt::test {

inline double decode(num::Format format, uint32_t code) {
  return format == num::Format::E4M3   ? num::decodeE4M3(code)
         : format == num::Format::E5M2 ? num::decodeE5M2(code)
                                       : num::decodeBF16(code);
}

/// A matrix of codes, row-major, and what they stand for.
struct Codes {
  num::Format format;
  int rows, columns;
  std::vector<uint8_t> bytes;
  std::vector<double> values;

  Codes(num::Format format, int rows, int columns, uint64_t seed)
      : format(format), rows(rows), columns(columns) {
    for (float x : randomFloats(size_t(rows) * columns, seed)) {
      x *= format == num::Format::E5M2 ? 0.01f : 4.0f;
      uint32_t code = format == num::Format::E4M3   ? num::encodeE4M3(x)
                      : format == num::Format::E5M2 ? num::encodeE5M2(x)
                                                    : num::encodeBF16(x);
      bytes.push_back(static_cast<uint8_t>(code));
      if (format == num::Format::BF16)
        bytes.push_back(static_cast<uint8_t>(code >> 8));
      values.push_back(decode(format, code));
    }
  }
};

/// One element of A * B^T.
struct Dot {
  /// The sum in the kernel's order.
  float value;
  /// The exact sum (products of codes are exact in double precision, and so,
  /// nearly, are their sums), and the sum of magnitudes.
  double exact = 0, magnitude = 0;
};

inline Dot dot(const Codes &a, const Codes &b, int row, int column,
               bool promote) {
  const double *x = a.values.data() + size_t(row) * a.columns;
  const double *y = b.values.data() + size_t(column) * b.columns;
  int bytes = num::formatBytes(a.format), stage = 128 / bytes,
      step = 32 / bytes;
  Dot result;
  float sum = 0.0f, part = 0.0f;
  for (int k = 0; k < a.columns; k += step) {
    double products = 0;
    for (int i = k; i < std::min(k + step, a.columns); ++i) {
      products += x[i] * y[i];
      result.exact += x[i] * y[i];
      result.magnitude += std::fabs(x[i] * y[i]);
    }
    bool first = promote ? k % stage == 0 : k == 0;
    part = static_cast<float>(first ? products : part + products);
    bool last = k % stage == stage - step || k + step >= a.columns;
    if (promote && last)
      sum = sum + part;
  }
  result.value = promote ? sum : part;
  return result;
}

/// How far the kernel's order may be from the exact sum: one rounding of half
/// an ulp for each wgmma and each promotion, of partial sums that are at most
/// the sum of magnitudes.
inline double tolerance(const Dot &dot, int k, num::Format format) {
  int perRow = 32 / num::formatBytes(format);
  int roundings = (k + perRow - 1) / perRow + k / (4 * perRow) + 2;
  return roundings * 0x1p-24 * dot.magnitude * (1 + 1e-5);
}

} // namespace mpt::test

#endif // MPT_TEST_UNIT_CUDASIM_GEMMSUPPORT_H
