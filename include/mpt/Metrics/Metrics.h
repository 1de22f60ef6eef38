//===- Metrics.h - what one product is measured for -------------*- C++ -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Statistics of a tensor, and the error that a pair of formats would cause in a
// product (docs/metrics.md defines each number). Works on live f32 operands of
// any strides and keeps nothing of them.
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

//===----------------------------------------------------------------------===//
// Candidates
//===----------------------------------------------------------------------===//

/// How many elements share a scale. Vectors run along the contraction: the rows
/// of a lhs, the columns of a rhs. Mx: 32 elements along the contraction,
/// scales that are powers of two (for studies; no target runs it).
enum class Granularity { None, PerTensor, PerVector, Block128, Mx };
enum class Rounding { Nearest, Stochastic };
/// Where the amax of a scale comes from: the tensor itself; the largest of the
/// last `history` batches; nowhere, the scale being `fixedScale`.
enum class Recipe { None, Current, Delayed, Fixed };

/// How one operand is held. BF16 and F32 take no scale.
struct OperandFormat {
  num::Format storage = num::Format::BF16;
  Granularity scale = Granularity::None;
  Recipe recipe = Recipe::None;
  Rounding rounding = Rounding::Nearest;
  int history = 0;      // of Delayed
  int margin = 0;       // of Current and Delayed: scale * 2^-margin
  float fixedScale = 1; // of Fixed

  /// Per tensor, current, to nearest; no scale for BF16 and F32.
  static OperandFormat of(num::Format storage);
  bool isScaled() const { return scale != Granularity::None; }
  bool operator==(const OperandFormat &o) const;
};

struct Candidate {
  OperandFormat lhs, rhs;
  bool operator==(const Candidate &o) const {
    return lhs == o.lhs && rhs == o.rhs;
  }
};

/// Which operand of a product is a gradient.
enum class GradientSide { None, Lhs, Rhs };

/// The format's name in files: "bf16", "f8E4M3FN", ...
const char *storageName(num::Format format);

/// A format as candidates are written: "f8E4M3FN", "i8[per_vector,stochastic]",
/// "f8E5M2[fixed=1]", "f8E4M3FN[delayed=16,margin=1]".
std::string formatText(const OperandFormat &format);
/// "lhs*rhs" of the two.
std::string candidateText(const Candidate &candidate);

/// The default candidates (at most 12): BF16, E4M3, E4M3 with E5M2 on the
/// gradient, INT8, each per tensor and per vector, to nearest; and
/// stochastically on the gradient, but for E5M2 per vector.
std::vector<Candidate> defaultCandidates(GradientSide gradient);

/// Candidates from text such as "bf16*bf16,f8E4M3FN*f8E5M2". Of a product with
/// a gradient operand the second format is the gradient's, else the rhs's.
/// Throws rt::Failure naming what it cannot read.
std::vector<Candidate> parseCandidates(std::string_view text,
                                       GradientSide gradient);

//===----------------------------------------------------------------------===//
// Statistics of a tensor
//===----------------------------------------------------------------------===//

/// Smallest, median and largest amax of the vectors that are not all zero;
/// zeros if there is none.
struct Spread {
  float min = 0, median = 0, max = 0;
};

/// Every element of one operand. Moments are of the finite elements.
struct OperandStatistics {
  uint64_t elements = 0, zeros = 0, nans = 0, infinities = 0;
  float amax = 0;       // of the finite ones
  float minNonzero = 0; // magnitude; 0 if all are zero
  /// [e + 127]: elements with 2^e <= |x| < 2^(e+1); [0]: f32 subnormals.
  std::array<uint64_t, 255> exponents{};
  double mean = 0, variance = 0; // population
  /// Central fourth moment over the squared variance (3 for a normal
  /// distribution); NaN if the variance is 0.
  double kurtosis = 0;
  /// Of the vectors along the contraction, and of those across it.
  Spread along, across;

  uint64_t nonfinite() const { return nans + infinities; }
  /// What the scale is made from: infinite if any element is not finite.
  float scaleAmax() const;
};

//===----------------------------------------------------------------------===//
// Metrics of a product
//===----------------------------------------------------------------------===//

/// Which elements of a product's result are looked at: `rows` x `columns` of
/// it (0: all of them), over the whole k; of a batched product as many elements
/// in all, from every batch element, or from 4096 where there are more.
struct Sampling {
  int64_t rows = 256, columns = 256;
  uint64_t seed = 0;
  bool isExact() const { return rows == 0 && columns == 0; }
};

/// Names a draw of rows and columns: another batch or step draws others.
/// Stochastic rounding takes its random numbers from the same names and
/// `round`, which differs from batch to batch even where the sample does not.
struct Draw {
  uint32_t product = 0, step = 0, batch = 0, round = 0;
};

/// NaN where there is no value (nothing to measure, or no error at all).
struct CandidateMetrics {
  double beMedian, beP99, beMax, sqnrDb, cosine;
  double relVar;                   // noise over signal: 10^(-sqnrDb / 10)
  double lossMse, lossShift;       // NaN without a gradient of the result
  double flushed[2], saturated[2]; // lhs, rhs
  /// Coordinates of the error Y' - Y where a sketch was asked for: under the
  /// sampling's seed, of the sample's elements by batch element, row and
  /// column; 0 of those that are excluded.
  std::vector<float> error;
};

struct ProductMetrics {
  OperandStatistics lhs, rhs;
  double excluded = 0; // share of the sample with |L|.|R| = 0 or not finite
  std::vector<CandidateMetrics> candidates;
  /// Coordinates of Y where a sketch was asked for, in the same order.
  std::vector<float> result;
};

/// What is measured of one product. `flushed` and `saturated` are of every
/// element for formats that round to nearest with one scale, else of the
/// vectors along the contraction that the sample has. Stochastic rounding takes
/// the words that roundingStream (lib/Metrics/Rounding.h) names.
struct Request {
  mpt_product_view product;
  Draw draw;
  std::vector<Candidate> candidates;
  /// d loss / d result, element (b0, b1, i, j) as in the product's views, where
  /// the loss metrics are asked for; else `data` is null.
  mpt_matrix_view gradient{};
  /// Statistics that are already known (the operand has been scanned in this
  /// batch), or null.
  const OperandStatistics *lhs = nullptr, *rhs = nullptr;
  /// amax of the batches before, the latest last, for Delayed, which takes the
  /// last finite ones; without one above 0 the operand's own amax is taken.
  std::vector<float> lhsHistory, rhsHistory;
  /// Most coordinates of `error` and `result` (Sketch.h); 0: none.
  size_t sketch = 0;
};

/// Measures products, on threads of its own.
class Measurer {
public:
  Measurer(Sampling sampling, int threads);
  ~Measurer();
  Measurer(const Measurer &) = delete;
  Measurer &operator=(const Measurer &) = delete;

  /// Throws rt::Failure on a view without data or with sizes below 1, and on a
  /// format that an operand cannot take.
  ProductMetrics measure(const Request &request);

  /// Statistics of one operand alone.
  OperandStatistics scan(const mpt_product_view &product, GradientSide operand);

private:
  struct Impl;
  std::unique_ptr<Impl> impl;
};

} // namespace mpt::metrics

#endif // MPT_METRICS_METRICS_H
