//===- Scales.cpp - which scale an operand's elements take ----------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Recipes and granularities. Groups are walked in the order of memory: where
// vectors lie side by side, a strip of them is taken at a time.
//
//===----------------------------------------------------------------------===//

#include "Scales.h"

#include "Clones.h"
#include "Failure.h"
#include "mpt/Numerics/Scales.h"

#include <algorithm>
#include <cmath>

namespace mpt::metrics {

static constexpr int kMostHistory = 1 << 20, kMostMargin = 60;

void checkFormat(const OperandFormat &f) {
  auto refuse = [&](const auto &...why) {
    rt::fail(MPT_ERROR_ARGUMENT, "candidates: '", formatText(f), "': ", why...);
  };
  bool takesScale =
      f.storage != num::Format::BF16 && f.storage != num::Format::F32;
  if (f.isScaled() != takesScale || (f.recipe != Recipe::None) != takesScale)
    refuse(storageName(f.storage),
           takesScale ? " needs a scale" : " takes no scale");
  if (f.storage == num::Format::F32 && f.rounding != Rounding::Nearest)
    refuse("f32 is not rounded");
  if (f.recipe != Recipe::Current && takesScale &&
      f.scale != Granularity::PerTensor)
    refuse("delayed and fixed scales are per tensor");
  if (f.recipe == Recipe::Delayed &&
      (f.history < 1 || f.history > kMostHistory))
    refuse("history is ", f.history, ", expected 1 to ", kMostHistory);
  // Below, the inverse may be infinite.
  if (f.recipe == Recipe::Fixed &&
      !(f.fixedScale >= 0x1p-126f && std::isfinite(f.fixedScale)))
    refuse("the scale is ", f.fixedScale,
           ", expected a finite number of at least 2^-126");
  bool hasMargin =
      takesScale && f.recipe != Recipe::Fixed && f.scale != Granularity::Mx;
  if (f.margin < 0 || f.margin > (hasMargin ? kMostMargin : 0))
    refuse("margin is ", f.margin, ", expected 0",
           hasMargin ? " to " + std::to_string(kMostMargin) : std::string());
}

float scaleOf(const OperandFormat &format, float amax) {
  if (!format.isScaled())
    return 1.0f;
  if (format.scale == Granularity::Mx)
    return num::mxScale(num::mxSharedCode(amax, num::mxEmax(format.storage)));
  return num::scaleOr(
      amax, num::formatMax(format.storage) * num::marginFactor(format.margin),
      1.0f);
}

float tensorScale(const OperandFormat &format, float amax,
                  const std::vector<float> &history) {
  if (format.recipe == Recipe::Fixed)
    return format.fixedScale;
  if (format.recipe == Recipe::Delayed) {
    // As num::updateDelayed: what is not finite takes no place in the history.
    float largest = 0;
    int room = format.history;
    for (size_t i = history.size(); i-- > 0 && room > 0;)
      if (num::isFiniteAmax(history[i])) {
        largest = std::max(largest, history[i]);
        --room;
      }
    if (largest > 0)
      amax = largest;
  }
  return scaleOf(format, amax);
}

//===----------------------------------------------------------------------===//
// Groups
//===----------------------------------------------------------------------===//

namespace {

constexpr int64_t kStrip = 128; // vectors side by side

MPT_CLONES uint32_t runAmax(const float *x, int64_t n) {
  uint32_t amax = 0;
  for (int64_t i = 0; i < n; ++i)
    amax = num::amaxBits(amax, x[i]);
  return amax;
}

/// lanes[i] = amax of x[p * kStride + i] over p < k, i < n.
MPT_CLONES void stripAmax(const float *x, int64_t n, int64_t k, int64_t kStride,
                          uint32_t *lanes) {
  std::fill(lanes, lanes + n, 0);
  for (int64_t p = 0; p < k; ++p)
    for (int64_t i = 0; i < n; ++i)
      lanes[i] = num::amaxBits(lanes[i], x[p * kStride + i]);
}

/// lanes[i] = amax of vector i of the strip from x, over p < k.
void anyAmax(const OperandView &v, const float *x, int64_t n, int64_t k,
             uint32_t *lanes) {
  if (v.stride == 1)
    return stripAmax(x, n, k, v.kStride, lanes);
  for (int64_t i = 0; i < n; ++i) {
    const float *vector = x + i * v.stride;
    if (v.kStride == 1) {
      lanes[i] = runAmax(vector, k);
      continue;
    }
    lanes[i] = 0;
    for (int64_t p = 0; p < k; ++p)
      lanes[i] = num::amaxBits(lanes[i], vector[p * v.kStride]);
  }
}

} // namespace

GroupAmax groupAmax(const OperandView &v, int64_t rows, int64_t along,
                    rt::ThreadPool &pool) {
  GroupAmax result;
  result.rows = rows;
  result.along = along;
  result.rowGroups = (v.count + rows - 1) / rows;
  result.alongGroups = (v.k + along - 1) / along;
  int64_t elements = v.batch[0] * v.batch[1];
  result.values.assign(size_t(elements * result.rowGroups * result.alongGroups),
                       0.0f);
  // A unit is a strip that ends where a group of rows ends: rows is 1 or the
  // strip's length. So no two threads write one amax.
  static_assert(kStrip == kBlock128, "a strip is one row of blocks");
  int64_t strips = (v.count + kStrip - 1) / kStrip;
  pool.forEach(elements * strips, 1, 8, [&](int64_t begin, int64_t end) {
    uint32_t lanes[kStrip];
    for (int64_t unit = begin; unit < end; ++unit) {
      int64_t element = unit / strips, first = unit % strips * kStrip;
      int64_t n = std::min(kStrip, v.count - first);
      const float *data = v.element(element) + first * v.stride;
      for (int64_t p = 0; p < v.k; p += along) {
        anyAmax(v, data + p * v.kStride, n, std::min(along, v.k - p), lanes);
        for (int64_t i = 0; i < n; ++i) {
          float &slot = result.values[size_t(
              (element * result.rowGroups + (first + i) / rows) *
                  result.alongGroups +
              p / along)];
          slot = num::asFloat(std::max(num::bits(slot), lanes[i]));
        }
      }
    }
  });
  return result;
}

} // namespace mpt::metrics
