//===- OperandStatistics.cpp - amax, histogram, flushed, saturated --------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Everything is counted on the bits of the magnitude: as unsigned numbers they
// are in the order of the values, infinity and NaN above all.
//
//===----------------------------------------------------------------------===//

#include "Clones.h"
#include "OperandView.h"

#include <algorithm>
#include <limits>
#include <mutex>

namespace mpt::metrics {

constexpr uint32_t kMagnitude = 0x7fffffffu, kInfinity = 0x7f800000u;

//===----------------------------------------------------------------------===//
// Chunks
//===----------------------------------------------------------------------===//

Chunks::Chunks(const OperandView &view) : data(view.data) {
  struct Dim {
    int64_t extent, stride;
  } dims[4] = {{view.batch[0], view.batchStride[0]},
               {view.batch[1], view.batchStride[1]},
               {view.count, view.stride},
               {view.k, view.kStride}};
  for (Dim &dim : dims)
    if (dim.extent == 1 || dim.stride == 0)
      dim = {1, std::numeric_limits<int64_t>::max()};
  std::sort(std::begin(dims), std::end(dims),
            [](const Dim &a, const Dim &b) { return a.stride < b.stride; });
  int next = 0;
  if (dims[0].extent != 1) {
    length = dims[0].extent;
    stride = dims[0].stride;
    next = 1;
  }
  while (next < 4 && dims[next].stride == length * stride)
    length *= dims[next++].extent;
  for (int outer = 0; next < 4 && dims[next].extent != 1; ++next, ++outer) {
    extents[outer] = dims[next].extent;
    strides[outer] = dims[next].stride;
    lines *= extents[outer];
  }
  perLine = (length + kChunk - 1) / kChunk;
}

const float *Chunks::line(int64_t index) const {
  const float *at = data;
  for (int d = 0; d < 3; ++d) {
    at += index % extents[d] * strides[d];
    index /= extents[d];
  }
  return at;
}

//===----------------------------------------------------------------------===//
// Scan
//===----------------------------------------------------------------------===//

namespace {

/// Running statistics of one thread, on bits.
struct Scan {
  uint64_t elements = 0, zeros = 0, nans = 0;
  uint32_t amax = 0;                  // finite
  uint32_t minNonzero = ~uint32_t(0); // less one; all ones: none
  uint64_t exponents[2][256] = {};

  void merge(const Scan &o) {
    elements += o.elements;
    zeros += o.zeros;
    nans += o.nans;
    amax = std::max(amax, o.amax);
    minNonzero = std::min(minNonzero, o.minNonzero);
    for (int h = 0; h < 2; ++h)
      for (int e = 0; e < 256; ++e)
        exponents[h][e] += o.exponents[h][e];
  }
};

/// Adds a chunk of at most Chunks::kChunk elements.
MPT_CLONES void scanChunk(const float *x, size_t n, Scan &scan) {
  uint32_t amax = scan.amax, minNonzero = scan.minNonzero;
  uint32_t zeros = 0, nans = 0;
  for (size_t i = 0; i < n; ++i) {
    uint32_t a = num::bits(x[i]) & kMagnitude;
    uint32_t finite = a < kInfinity ? a : 0;
    amax = finite > amax ? finite : amax;
    minNonzero = a - 1 < minNonzero ? a - 1 : minNonzero;
    zeros += a == 0;
    nans += a > kInfinity;
  }
  scan.amax = amax;
  scan.minNonzero = minNonzero;
  scan.zeros += zeros;
  scan.nans += nans;
  scan.elements += n;
  // Two tables: equal exponents in a row would wait for each other.
  size_t i = 0;
  for (; i + 2 <= n; i += 2) {
    ++scan.exponents[0][(num::bits(x[i]) >> 23) & 0xffu];
    ++scan.exponents[1][(num::bits(x[i + 1]) >> 23) & 0xffu];
  }
  if (i < n)
    ++scan.exponents[0][(num::bits(x[i]) >> 23) & 0xffu];
}

/// How many magnitudes are at most `low`, and above `high`.
MPT_CLONES void countChunk(const float *x, size_t n, uint32_t low,
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

/// Calls body(begin, end) for all chunks, on the pool.
template <typename Body>
void forEachPiece(const Chunks &chunks, rt::ThreadPool &pool,
                  const Body &body) {
  pool.forEach(chunks.size(), 8, 4, body);
}

/// Whether x * scale rounds to more than the format's largest value.
bool exceeds(num::Format format, float y) {
  switch (format) {
  case num::Format::E4M3:
    return y > 464.0f; // half a step above; the tie goes to 448
  case num::Format::E5M2:
    return y >= 61440.0f;
  case num::Format::INT8:
    return y >= 127.5f;
  case num::Format::BF16:
    return num::encodeBF16(y) == 0x7f80u;
  case num::Format::F32:
    return false;
  }
  return false;
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

} // namespace

float OperandStatistics::scaleAmax() const {
  return nonfinite() ? std::numeric_limits<float>::infinity() : amax;
}

OperandStatistics scanOperand(const Chunks &chunks, rt::ThreadPool &pool) {
  Scan total;
  std::mutex mutex;
  forEachPiece(chunks, pool, [&](int64_t begin, int64_t end) {
    Scan scan;
    chunks.visit(begin, end,
                 [&](const float *x, size_t n) { scanChunk(x, n, scan); });
    std::lock_guard<std::mutex> lock(mutex);
    total.merge(scan);
  });
  OperandStatistics result;
  result.elements = total.elements;
  result.zeros = total.zeros;
  result.nans = total.nans;
  for (int e = 0; e < 255; ++e)
    result.exponents[e] = total.exponents[0][e] + total.exponents[1][e];
  result.exponents[0] -= total.zeros;
  result.infinities =
      total.exponents[0][255] + total.exponents[1][255] - total.nans;
  result.amax = num::asFloat(total.amax);
  if (total.amax != 0)
    result.minNonzero = num::asFloat(total.minNonzero + 1);
  return result;
}

Losses countLosses(const Chunks &chunks, const OperandStatistics &statistics,
                   num::Format format, float scale, rt::ThreadPool &pool) {
  uint64_t population =
      statistics.elements - statistics.zeros - statistics.nonfinite();
  if (population == 0)
    return {};
  uint32_t low = lastBits(
      [=](float x) { return (num::encode(format, x * scale) & 0x7fffu) == 0; });
  uint32_t high =
      lastBits([=](float x) { return !exceeds(format, x * scale); });
  if (num::bits(statistics.minNonzero) > low &&
      num::bits(statistics.amax) <= high)
    return {};
  uint64_t counts[2] = {};
  std::mutex mutex;
  forEachPiece(chunks, pool, [&](int64_t begin, int64_t end) {
    uint64_t mine[2] = {};
    chunks.visit(begin, end, [&](const float *x, size_t n) {
      countChunk(x, n, low, high, mine);
    });
    std::lock_guard<std::mutex> lock(mutex);
    counts[0] += mine[0];
    counts[1] += mine[1];
  });
  return {double(counts[0] - statistics.zeros) / double(population),
          double(counts[1] - statistics.nonfinite()) / double(population)};
}

} // namespace mpt::metrics
