//===- SampledOperand.cpp - the vectors of a sample, rounded --------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Vectors are packed once. Every format then rounds from panels whose lanes are
// vectors, so that each lane has its own scale whatever the granularity.
//
//===----------------------------------------------------------------------===//

#include "SampledOperand.h"

#include "Clones.h"
#include "Tiles.h"
#include "Vectors.h"

#include <algorithm>

namespace mpt::metrics {

SampledOperand::SampledOperand(bool isLhs)
    : isLhs(isLhs), width(isLhs ? kTileRows : kTileColumns) {}

void SampledOperand::open(const OperandView &operand,
                          const OperandStatistics *known,
                          rt::ThreadPool &pool) {
  view = operand;
  formats.clear();
  statistics = known ? *known : scanOperand(view, pool);
}

size_t SampledOperand::addFormat(const OperandFormat &format) {
  for (size_t f = 0; f < formats.size(); ++f)
    if (formats[f].format == format)
      return f;
  checkFormat(format);
  formats.emplace_back();
  formats.back().format = format;
  return formats.size() - 1;
}

void SampledOperand::prepare(const std::vector<int64_t> &sampledElements,
                             const std::vector<std::vector<int64_t>> &vectorsOf,
                             const std::vector<float> &history,
                             const Draw &draw, uint64_t seed,
                             rt::ThreadPool &pool) {
  elements = sampledElements;
  chosen = vectorsOf;
  vectors = int64_t(chosen.front().size());
  panelCount = (vectors + width - 1) / width;
  blocks.values.clear();
  std::vector<LossRequest> requests;
  for (Format &f : formats) {
    Granularity granularity = f.format.scale;
    bool isWhole = granularity == Granularity::None ||
                   granularity == Granularity::PerTensor;
    if (isWhole)
      f.scale = tensorScale(f.format, statistics.scaleAmax(), history);
    else if (granularity == Granularity::Block128 && blocks.values.empty())
      blocks = groupAmax(view, kBlock128, kBlock128, pool);
    f.stream = roundingStream(f.format, isLhs, draw, seed);
    f.last = lastUnsaturated(f.format.storage);
    f.countsSample = !isWhole || f.format.rounding == Rounding::Stochastic;
    if (!f.countsSample)
      requests.push_back({f.format.storage, f.scale});
  }
  std::vector<Losses> losses = countLosses(view, statistics, requests, pool);
  size_t counted = 0;
  for (Format &f : formats)
    if (!f.countsSample)
      f.losses = losses[counted++];

  int64_t units = int64_t(elements.size()) * panelCount;
  packed.resize(size_t(units * view.k * width));
  amax.resize(size_t(units * width));
  population = 0;
  pool.forEach(units, 1, 4, [&](int64_t begin, int64_t end) {
    for (int64_t unit = begin; unit < end; ++unit)
      pack(unit);
  });
}

/// Raises the amax of each lane of a panel; returns its finite nonzero
/// elements.
template <int Width>
static MPT_INLINE uint64_t laneAmaxes(const float *panel, int64_t k,
                                      float *amax) {
  uint32_t largest[Width] = {}, counts[Width] = {};
  for (int64_t p = 0; p < k; ++p)
    for (int i = 0; i < Width; ++i) {
      float x = panel[p * Width + i];
      largest[i] = num::amaxBits(largest[i], x);
      counts[i] += (num::bits(x) & 0x7fffffffu) - 1 < 0x7f7fffffu;
    }
  uint64_t count = 0;
  for (int i = 0; i < Width; ++i) {
    amax[i] = num::asFloat(largest[i]);
    count += counts[i];
  }
  return count;
}

MPT_CLONES static uint64_t panelAmaxes(const float *panel, int64_t k, int width,
                                       float *amax) {
  return width == kTileRows ? laneAmaxes<kTileRows>(panel, k, amax)
                            : laneAmaxes<kTileColumns>(panel, k, amax);
}

/// Panel `unit`, counted over all batch elements of the sample.
void SampledOperand::pack(int64_t unit) {
  int64_t element = unit / panelCount, first = unit % panelCount * width;
  float *out = packed.data() + unit * view.k * width;
  packPanels(view.element(elements[size_t(element)]),
             chosen[size_t(element)].data() + first,
             std::min<int64_t>(width, vectors - first), view.stride, view.k,
             view.kStride, width, out);
  uint64_t counted =
      panelAmaxes(out, view.k, width, amax.data() + unit * width);
  std::lock_guard<std::mutex> lock(mutex);
  population += counted;
}

void SampledOperand::reserve(int64_t count) {
  size_t size = size_t(count * panelCount * width * std::min(kBlock, view.k));
  wide.resize(size);
  magnitudes.resize(size);
  rounded.resize(std::max(rounded.size(), formats.size()));
  for (size_t f = 0; f < formats.size(); ++f)
    rounded[f].resize(size);
}

void SampledOperand::fill(int64_t first, int64_t begin, int64_t end,
                          int64_t from, int64_t length) {
  std::vector<std::array<uint64_t, 2>> counts(formats.size());
  for (int64_t unit = begin; unit < end; ++unit) {
    int64_t element = first + unit / panelCount, panel = unit % panelCount;
    size_t at = size_t(unit * length * width), n = size_t(length * width);
    const float *in = packed.data() +
                      ((element * panelCount + panel) * view.k + from) * width;
    widen(in, n, wide.data() + at, magnitudes.data() + at);
    for (size_t f = 0; f < formats.size(); ++f)
      roundBlock(formats[f], element, panel, from, length, in,
                 rounded[f].data() + at, counts[f].data());
  }
  std::lock_guard<std::mutex> lock(mutex);
  for (size_t f = 0; f < formats.size(); ++f)
    for (int c = 0; c < 2; ++c)
      formats[f].counts[c] += counts[f][size_t(c)];
}

void SampledOperand::roundBlock(const Format &f, int64_t element, int64_t panel,
                                int64_t from, int64_t length, const float *in,
                                float *out, uint64_t counts[2]) const {
  uint32_t words[kBlock * kMostWidth];
  bool isStochastic = f.format.rounding == Rounding::Stochastic;
  if (isStochastic) {
    uint64_t bases[kMostWidth] = {};
    const std::vector<int64_t> &index = chosen[size_t(element)];
    for (int64_t i = panel * width; i < std::min((panel + 1) * width, vectors);
         ++i)
      bases[i - panel * width] = uint64_t(
          (elements[size_t(element)] * view.count + index[size_t(i)]) * view.k +
          from);
    // Padding draws like its neighbour, so that all lanes stay aligned.
    for (int64_t i = vectors - panel * width; i < width; ++i)
      bases[i] = bases[0];
    drawPanel(f.stream, bases, length, width, words);
  }
  bool isMx = f.format.scale == Granularity::Mx;
  int64_t run = isMx ? kMxGroup : length;
  float scales[kMostWidth];
  for (int64_t p = 0; p < length; p += run) {
    int64_t lines = std::min(run, length - p);
    const float *x = in + p * width;
    scalesOf(f, element, panel, from + p, lines, x, scales);
    roundPanel(f.format.storage, x, width, lines, width, scales,
               isStochastic ? words + p * width : nullptr, out + p * width,
               width);
    if (f.countsSample)
      countPanelLosses(x, out + p * width, lines, width, scales, f.last,
                       counts);
  }
}

/// Scales of a panel's lanes at `from` along the contraction.
void SampledOperand::scalesOf(const Format &f, int64_t element, int64_t panel,
                              int64_t from, int64_t length, const float *in,
                              float *scales) const {
  const float *vectorAmax =
      amax.data() + (element * panelCount + panel) * width;
  float groupAmax[kMostWidth];
  switch (f.format.scale) {
  case Granularity::None:
  case Granularity::PerTensor:
    std::fill(scales, scales + width, f.scale);
    return;
  case Granularity::PerVector:
    break;
  case Granularity::Block128:
    for (int i = 0; i < width; ++i) {
      int64_t vector = std::min(panel * width + i, vectors - 1);
      groupAmax[i] = blocks.at(elements[size_t(element)],
                               chosen[size_t(element)][size_t(vector)], from);
    }
    vectorAmax = groupAmax;
    break;
  case Granularity::Mx:
    panelAmaxes(in, length, width, groupAmax);
    vectorAmax = groupAmax;
    break;
  }
  for (int i = 0; i < width; ++i)
    scales[i] = scaleOf(f.format, vectorAmax[i]);
}

Losses SampledOperand::losses(size_t format) const {
  const Format &f = formats[format];
  if (!f.countsSample)
    return f.losses;
  if (population == 0)
    return {};
  return {double(f.counts[0]) / double(population),
          double(f.counts[1]) / double(population)};
}

} // namespace mpt::metrics
