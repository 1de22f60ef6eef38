//===- Metrics.h - what one product is measured for -------------*- C++ -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Statistics of a product's operands, and the error that a pair of formats
// would cause in it (docs/metrics.md defines each number). Works on live f32
// operands of any strides and keeps nothing of them.
//
// Formats are per tensor, to nearest, with the scale of the tensor's own amax.
// What further granularities, stochastic rounding, and metrics that need the
// loss or the whole gradient will change: OperandFormat, and a sibling of
// Measurer.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_METRICS_METRICS_H
#define MPT_METRICS_METRICS_H

#include "mpt/Numerics/Formats.h"
#include "mpt/Runtime/mpt.h"

#include <array>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace mpt::metrics {

/// How one operand is held. BF16 takes no scale; the others take one a tensor.
struct OperandFormat {
  num::Format storage = num::Format::BF16;

  bool isScaled() const {
    return storage != num::Format::F32 && storage != num::Format::BF16;
  }
  bool operator==(const OperandFormat &o) const { return storage == o.storage; }
};

struct Candidate {
  OperandFormat lhs, rhs;
};

/// The format's name in files: "bf16", "f8E4M3FN", ...
const char *storageName(num::Format format);

/// The default candidates of a role: BF16 x BF16 and E4M3 x E4M3; where one
/// operand is a gradient also E4M3 with E5M2, both ways round, since a product
/// does not say which of its operands that is.
std::vector<Candidate> defaultCandidates(std::string_view role);

/// Candidates from "bf16*bf16,f8E4M3FN*f8E5M2". Throws Failure.
std::vector<Candidate> parseCandidates(std::string_view text);

/// Which elements of a product's result are looked at: `rows` x `columns` of
/// it, over the whole k; of a batched product as many elements in all, from
/// every batch element. 0 takes all.
struct Sampling {
  int64_t rows = 256, columns = 256;
  uint64_t seed = 0;
};

/// Names a draw of rows and columns: another batch or step draws others.
struct Draw {
  uint32_t product = 0, step = 0, batch = 0;
};

/// Every element of one operand.
struct OperandStatistics {
  uint64_t elements = 0, zeros = 0, nans = 0, infinities = 0;
  float amax = 0;       // of the finite ones
  float minNonzero = 0; // magnitude; 0 if all are zero
  /// [e + 127]: elements with 2^e <= |x| < 2^(e+1); [0]: f32 subnormals.
  std::array<uint64_t, 255> exponents{};

  uint64_t nonfinite() const { return nans + infinities; }
  /// What the scale is made from: infinite if any element is not finite.
  float scaleAmax() const;
};

/// NaN where there is no value (nothing to measure, or no error at all).
struct CandidateMetrics {
  double beMedian, beP99, beMax, sqnrDb, cosine;
  double flushed[2], saturated[2]; // lhs, rhs
};

struct ProductMetrics {
  OperandStatistics lhs, rhs;
  double excluded = 0; // share of the sample with |L|.|R| = 0 or not finite
  std::vector<CandidateMetrics> candidates;
};

/// Measures products, on threads of its own.
class Measurer {
public:
  Measurer(Sampling sampling, int threads);
  ~Measurer();
  Measurer(const Measurer &) = delete;
  Measurer &operator=(const Measurer &) = delete;

  /// Throws rt::Failure on a view without data or with sizes below 1.
  ProductMetrics measure(const mpt_product_view &product,
                         const std::vector<Candidate> &candidates, Draw draw);

private:
  struct Impl;
  std::unique_ptr<Impl> impl;
};

} // namespace mpt::metrics

#endif // MPT_METRICS_METRICS_H
