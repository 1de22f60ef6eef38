//===- OperandStatistics.cpp - histogram, moments, flushed, saturated -----===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Counting is done on the bits of the magnitude: as unsigned numbers they are
// in the order of the values, infinity and NaN above all. Moments are central
// ones of each block, taken in f64 while it is in the first cache, and merged
// in the order of the blocks (Pebay, "Formulas for robust, one-pass parallel
// computation of covariances and arbitrary-order statistical moments", 2008):
// the result depends neither on the threads nor on the CPU.
//
//===----------------------------------------------------------------------===//

#include "Clones.h"
#include "OperandView.h"
#include "Vectors.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <mutex>

namespace mpt::metrics {

constexpr uint32_t kMagnitude = 0x7fffffffu, kInfinity = 0x7f800000u;

//===----------------------------------------------------------------------===//
// Moments
//===----------------------------------------------------------------------===//

namespace {

/// Count, mean and sums of powers of the distance from it.
struct Moments {
  double n = 0, mean = 0, m2 = 0, m3 = 0, m4 = 0;

  void merge(const Moments &o) {
    if (o.n == 0)
      return;
    double total = n + o.n, delta = o.mean - mean, d = delta / total;
    double product = n * o.n;
    m4 += o.m4 + delta * d * d * d * product * (n * n - product + o.n * o.n) +
          6 * d * d * (n * n * o.m2 + o.n * o.n * m2) +
          4 * d * (n * o.m3 - o.n * m3);
    m3 += o.m3 + delta * d * d * product * (n - o.n) +
          3 * d * (n * o.m2 - o.n * m2);
    m2 += o.m2 + delta * d * product;
    mean += d * o.n;
    n = total;
  }
};

/// Of finite elements, at least one, in eight lanes. (Declared first: clang
/// takes a vector width on a redeclaration only.)
void blockMoments(const float *x, size_t n, Moments &result);

MPT_WIDE_CLONES void blockMoments(const float *x, size_t n, Moments &result) {
  size_t first = std::min<size_t>(n, 64), whole = n / kLanes * kLanes;
  double center = 0, count = double(n);
  for (size_t i = 0; i < first; ++i)
    center += double(x[i]) / double(first);
  // Powers about a point near the mean, moved there; where the point was far
  // off, by more than four standard deviations, once more about the mean.
  for (bool again = false;; again = true) {
    Doubles sums[4] = {}, point = center - Doubles{};
    for (size_t i = 0; i < whole; i += kLanes) {
      Doubles d = widenLanes(x + i) - point, square = d * d;
      sums[0] += d;
      sums[1] += square;
      sums[2] += square * d;
      sums[3] += square * square;
    }
    double s[4];
    for (int power = 0; power < 4; ++power)
      s[power] = sumLanes(sums[power]);
    for (size_t i = whole; i < n; ++i) {
      double d = double(x[i]) - center;
      s[0] += d;
      s[1] += d * d;
      s[2] += d * d * d;
      s[3] += d * d * d * d;
    }
    double delta = s[0] / count, m2 = s[1] - count * delta * delta;
    if (again || count * delta * delta <= 16 * m2) {
      double m3 = s[2] - 3 * delta * s[1] + 2 * count * delta * delta * delta;
      double m4 = s[3] - 4 * delta * s[2] + 6 * delta * delta * s[1] -
                  3 * count * delta * delta * delta * delta;
      result = {count, center + delta, std::max(m2, 0.0), m3,
                std::max(m4, 0.0)};
      return;
    }
    center += delta;
  }
}

Moments finiteMoments(const float *x, size_t n, uint64_t nonfinite) {
  Moments result;
  float finite[Blocks::kElements];
  if (nonfinite != 0) {
    size_t kept = 0;
    for (size_t i = 0; i < n; ++i)
      if ((num::bits(x[i]) & kMagnitude) < kInfinity)
        finite[kept++] = x[i];
    x = finite;
    n = kept;
  }
  if (n != 0)
    blockMoments(x, n, result);
  return result;
}

//===----------------------------------------------------------------------===//
// Scan
//===----------------------------------------------------------------------===//

/// Histograms, for elements by turns: equal exponents in a row would wait for
/// each other in one.
constexpr size_t kTables = 4;

/// Running statistics of one thread, on bits.
struct Scan {
  uint64_t elements = 0, zeros = 0, nans = 0;
  uint32_t minNonzero = ~uint32_t(0); // less one; all ones: none
  uint64_t exponents[kTables][256] = {};

  uint64_t withExponent(int e) const {
    uint64_t count = 0;
    for (const auto &table : exponents)
      count += table[e];
    return count;
  }
  uint64_t nonfinite() const { return withExponent(255); }

  void merge(const Scan &o) {
    elements += o.elements;
    zeros += o.zeros;
    nans += o.nans;
    minNonzero = std::min(minNonzero, o.minNonzero);
    for (size_t t = 0; t < kTables; ++t)
      for (int e = 0; e < 256; ++e)
        exponents[t][e] += o.exponents[t][e];
  }
};

/// Adds a block.
MPT_CLONES void scanBlock(const float *x, size_t n, Scan &scan) {
  uint32_t minNonzero = scan.minNonzero;
  uint32_t zeros = 0, nans = 0;
  for (size_t i = 0; i < n; ++i) {
    uint32_t a = num::bits(x[i]) & kMagnitude;
    minNonzero = a - 1 < minNonzero ? a - 1 : minNonzero;
    zeros += a == 0;
    nans += a > kInfinity;
  }
  scan.minNonzero = minNonzero;
  scan.zeros += zeros;
  scan.nans += nans;
  scan.elements += n;
  auto count = [&](size_t table, uint64_t bits) {
    ++scan.exponents[table][(bits >> 23) & 0xffu];
  };
  size_t i = 0;
  for (; i + 4 <= n; i += 4) {
    uint64_t two[2];
    std::memcpy(two, x + i, sizeof two);
    count(0, two[0]);
    count(1, two[0] >> 32);
    count(2, two[1]);
    count(3, two[1] >> 32);
  }
  for (; i < n; ++i)
    count(0, num::bits(x[i]));
}

/// Raises the amax of each line and of each position in a line, finite
/// elements only.
MPT_CLONES void lineAmax(const float *x, int64_t lines, int64_t length,
                         uint32_t *outer, uint32_t *inner) {
  for (int64_t line = 0; line < lines; ++line, x += length) {
    uint32_t amax = outer[line];
    for (int64_t i = 0; i < length; ++i) {
      uint32_t a = num::bits(x[i]) & kMagnitude;
      uint32_t finite = a < kInfinity ? a : 0;
      amax = finite > amax ? finite : amax;
      inner[i] = finite > inner[i] ? finite : inner[i];
    }
    outer[line] = amax;
  }
}

/// What pieces of a scan put together.
struct Scanner {
  explicit Scanner(const OperandView &view)
      : blocks(view), moments(size_t(blocks.size())),
        outer(size_t(blocks.batches() * blocks.outerExtent()), 0),
        inner(size_t(blocks.batches() * blocks.innerExtent()), 0) {}

  void run(int64_t begin, int64_t end);

  Blocks blocks;
  std::vector<Moments> moments;       // by block
  std::vector<uint32_t> outer, inner; // amax of lines, and across them
  Scan total;
  std::mutex mutex;
};

/// Blocks [begin, end). Amaxes are gathered for one batch element at a time.
void Scanner::run(int64_t begin, int64_t end) {
  Scan scan;
  float copy[Blocks::kElements];
  std::vector<uint32_t> lines(size_t(blocks.outerExtent()), 0),
      across(size_t(blocks.innerExtent()), 0);
  for (int64_t i = begin; i < end; ++i) {
    Blocks::Block block = blocks.at(i);
    const float *x = blocks.dense(block, copy);
    uint64_t before = scan.nonfinite();
    scanBlock(x, block.elements(), scan);
    moments[size_t(i)] =
        finiteMoments(x, block.elements(), scan.nonfinite() - before);
    lineAmax(x, block.lines, block.length, lines.data() + block.outer,
             across.data() + block.inner);
    if (i + 1 < end && blocks.at(i + 1).batch == block.batch)
      continue;
    std::lock_guard<std::mutex> lock(mutex);
    auto raise = [&](std::vector<uint32_t> &local, std::vector<uint32_t> &all) {
      uint32_t *to = all.data() + size_t(block.batch) * local.size();
      for (size_t j = 0; j < local.size(); ++j)
        to[j] = std::max(to[j], local[j]);
      std::fill(local.begin(), local.end(), 0);
    };
    raise(lines, outer);
    raise(across, inner);
  }
  std::lock_guard<std::mutex> lock(mutex);
  total.merge(scan);
}

/// Of amaxes as bits; reorders them.
Spread spreadOf(std::vector<uint32_t> &amaxes) {
  auto end = std::remove(amaxes.begin(), amaxes.end(), 0u);
  size_t n = size_t(end - amaxes.begin());
  if (n == 0)
    return {};
  auto middle = amaxes.begin() + std::ptrdiff_t(n / 2);
  std::nth_element(amaxes.begin(), middle, end);
  double high = num::asFloat(*middle);
  double low =
      n % 2 ? high : num::asFloat(*std::max_element(amaxes.begin(), middle));
  return {num::asFloat(*std::min_element(amaxes.begin(), end)),
          float((low + high) / 2),
          num::asFloat(*std::max_element(amaxes.begin(), end))};
}

} // namespace

float OperandStatistics::scaleAmax() const {
  return nonfinite() ? std::numeric_limits<float>::infinity() : amax;
}

OperandStatistics scanOperand(const OperandView &view, rt::ThreadPool &pool) {
  Scanner scanner(view);
  pool.forEach(scanner.blocks.size(), 8, 4,
               [&](int64_t begin, int64_t end) { scanner.run(begin, end); });
  const Scan &total = scanner.total;
  OperandStatistics result;
  result.elements = total.elements;
  result.zeros = total.zeros;
  result.nans = total.nans;
  for (int e = 0; e < 255; ++e)
    result.exponents[e] = total.withExponent(e);
  result.exponents[0] -= total.zeros;
  result.infinities = total.nonfinite() - total.nans;
  if (total.minNonzero < kInfinity - 1)
    result.minNonzero = num::asFloat(total.minNonzero + 1);
  Moments moments;
  for (const Moments &block : scanner.moments)
    moments.merge(block);
  result.mean = moments.mean;
  result.variance = moments.n > 0 ? moments.m2 / moments.n : 0;
  result.kurtosis = moments.m2 > 0
                        ? moments.n * moments.m4 / (moments.m2 * moments.m2)
                        : std::numeric_limits<double>::quiet_NaN();
  result.along =
      spreadOf(scanner.blocks.innerIsK() ? scanner.outer : scanner.inner);
  result.across =
      spreadOf(scanner.blocks.innerIsK() ? scanner.inner : scanner.outer);
  result.amax = result.along.max;
  return result;
}

//===----------------------------------------------------------------------===//
// Losses
//===----------------------------------------------------------------------===//

namespace {

/// How many magnitudes are at most `low`, and above `high`.
MPT_CLONES void countBlock(const float *x, size_t n, uint32_t low,
                           uint32_t high, uint64_t counts[2]) {
  uint32_t below = 0, above = 0;
  for (size_t i = 0; i < n; ++i) {
    uint32_t a = num::bits(x[i]) & kMagnitude;
    below += a <= low;
    above += a > high;
  }
  counts[0] += below;
  counts[1] += above;
}

/// The largest finite magnitude (as bits) for which `holds` is true; `holds` is
/// true of 0 and monotone.
template <typename Predicate> uint32_t lastBits(const Predicate &holds) {
  uint32_t low = 0, high = kInfinity;
  while (high - low > 1) {
    uint32_t middle = low + (high - low) / 2;
    (holds(num::asFloat(middle)) ? low : high) = middle;
  }
  return low;
}

/// The elements that one request loses: magnitudes, as bits, at most `low` and
/// above `high`.
struct Threshold {
  size_t request;
  uint32_t low, high;
  uint64_t counts[2];
};

} // namespace

uint32_t lastUnsaturated(num::Format format) {
  switch (format) {
  case num::Format::E4M3:
    return num::bits(464.0f); // half a step above 448; the tie goes to 448
  case num::Format::E5M2:
    return num::bits(61440.0f) - 1; // the tie goes up
  case num::Format::INT8:
    return num::bits(127.5f) - 1;
  case num::Format::BF16:
    return 0x7f7f7fffu;
  case num::Format::F32:
    return kMagnitude;
  }
  return kMagnitude;
}

std::vector<Losses> countLosses(const OperandView &view,
                                const OperandStatistics &statistics,
                                const std::vector<LossRequest> &requests,
                                rt::ThreadPool &pool) {
  std::vector<Losses> result(requests.size());
  uint64_t population =
      statistics.elements - statistics.zeros - statistics.nonfinite();
  std::vector<Threshold> thresholds;
  for (size_t r = 0; r < requests.size() && population != 0; ++r) {
    auto [format, scale] = requests[r];
    uint32_t last = lastUnsaturated(format);
    uint32_t low = lastBits([format = format, scale = scale](float x) {
      return (num::encode(format, x * scale) & 0x7fffffffu) == 0;
    });
    uint32_t high = lastBits([last, scale = scale](float x) {
      return num::bits(x * scale) <= last;
    });
    if (num::bits(statistics.minNonzero) <= low ||
        num::bits(statistics.amax) > high)
      thresholds.push_back({r, low, high, {0, 0}});
  }
  if (thresholds.empty())
    return result;
  Blocks blocks(view);
  std::mutex mutex;
  pool.forEach(blocks.size(), 8, 4, [&](int64_t begin, int64_t end) {
    std::vector<Threshold> mine = thresholds;
    for (Threshold &t : mine)
      t.counts[0] = t.counts[1] = 0;
    float copy[Blocks::kElements];
    for (int64_t i = begin; i < end; ++i) {
      Blocks::Block block = blocks.at(i);
      const float *x = blocks.dense(block, copy);
      for (Threshold &t : mine)
        countBlock(x, block.elements(), t.low, t.high, t.counts);
    }
    std::lock_guard<std::mutex> lock(mutex);
    for (size_t t = 0; t < mine.size(); ++t)
      for (int c = 0; c < 2; ++c)
        thresholds[t].counts[c] += mine[t].counts[c];
  });
  for (const Threshold &t : thresholds)
    result[t.request] = {
        double(t.counts[0] - statistics.zeros) / double(population),
        double(t.counts[1] - statistics.nonfinite()) / double(population)};
  return result;
}

} // namespace mpt::metrics
