//===- NormalBackwardError.h - backward error on N(0,1) ---------*- C++ -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// The backward error that E4M3 has by itself: both operands drawn from N(0,1),
// one scale per tensor, rounded to nearest, products accumulated in f32. It
// falls as 1/sqrt(K), so a bound on a product's backward error is a multiple of
// this table at the product's K (median against median, p99 against p99), never
// one number for all products.
//
// Mean over 8 draws (4 above K = 2048) of 256 x K times K x 256. A test
// (python/tests/test_measure.py) computes entries again, to 5 %.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_PRECISION_NORMALBACKWARDERROR_H
#define MPT_PRECISION_NORMALBACKWARDERROR_H

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>

namespace mpt {
namespace precision {

/// Median and 99th percentile of |Y - Y'| / (|L|.|R|) over a product's
/// elements.
struct BackwardError {
  double median, p99;
};

struct NormalBackwardErrorEntry {
  int64_t k;
  BackwardError error;
};

/// Ascending in k, powers of two.
inline constexpr NormalBackwardErrorEntry kNormalBackwardError[] = {
    {16, {9.375e-3, 3.622e-2}},    {32, {6.818e-3, 2.625e-2}},
    {64, {4.896e-3, 1.878e-2}},    {128, {3.489e-3, 1.331e-2}},
    {256, {2.470e-3, 9.433e-3}},   {512, {1.745e-3, 6.692e-3}},
    {1024, {1.235e-3, 4.719e-3}},  {2048, {8.775e-4, 3.339e-3}},
    {4096, {6.215e-4, 2.363e-3}},  {8192, {4.374e-4, 1.672e-3}},
    {16384, {3.083e-4, 1.184e-3}},
};

/// The table at `k` (at least 1), interpolated between neighbours on log-log
/// axes and continued beyond its ends along the last two entries.
inline BackwardError normalBackwardError(int64_t k) {
  constexpr size_t count =
      sizeof(kNormalBackwardError) / sizeof(kNormalBackwardError[0]);
  double x = std::log2(static_cast<double>(std::max<int64_t>(k, 1)));
  double first = std::log2(static_cast<double>(kNormalBackwardError[0].k));
  double position =
      std::min(std::max(std::floor(x - first), 0.0), double(count - 2));
  const auto &low = kNormalBackwardError[static_cast<size_t>(position)];
  const auto &high = kNormalBackwardError[static_cast<size_t>(position) + 1];
  double t = x - first - position;
  auto between = [t](double a, double b) {
    return std::exp2(std::log2(a) + t * (std::log2(b) - std::log2(a)));
  };
  return {between(low.error.median, high.error.median),
          between(low.error.p99, high.error.p99)};
}

} // namespace precision
} // namespace mpt

#endif // MPT_PRECISION_NORMALBACKWARDERROR_H
