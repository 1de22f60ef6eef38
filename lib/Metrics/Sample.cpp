//===- Sample.cpp - which elements of a product are looked at -------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Rows and columns are the first of a random permutation, from Philox under the
// sampling's seed: the names of the draw say everything.
//
//===----------------------------------------------------------------------===//

#include "Sample.h"

#include "mpt/Numerics/Philox.h"

#include <algorithm>
#include <numeric>

namespace mpt::metrics {

static constexpr int64_t kMostElements = 4096; // batch elements in a sample

namespace {

/// Random numbers of one draw.
class Generator {
public:
  Generator(uint64_t seed, const Draw &draw)
      : stream{draw.product, draw.step, static_cast<uint32_t>(seed),
               static_cast<uint32_t>(seed >> 32)},
        group{draw.batch} {}

  /// A number below `bound`.
  int64_t below(int64_t bound) {
    uint64_t words[2];
    for (uint64_t &word : words)
      word = num::draw(index++, group, stream);
    uint64_t random = words[0] << 32 | words[1];
    return static_cast<int64_t>(
        (static_cast<unsigned __int128>(random) * uint64_t(bound)) >> 64);
  }

  /// `count` different numbers below `size`, ascending.
  std::vector<int64_t> choose(int64_t count, int64_t size) {
    std::vector<int64_t> all(static_cast<size_t>(size));
    std::iota(all.begin(), all.end(), int64_t(0));
    if (count < size) {
      for (int64_t i = 0; i < count; ++i)
        std::swap(all[size_t(i)], all[size_t(i + below(size - i))]);
      all.resize(static_cast<size_t>(count));
      std::sort(all.begin(), all.end());
    }
    return all;
  }

private:
  num::Stream<uint32_t> stream;
  uint32_t group, index = 0;
};

/// `wanted` of `size`, or all where that is 0.
int64_t part(int64_t wanted, int64_t size) {
  return wanted == 0 ? size : std::min(wanted, size);
}

} // namespace

Sample drawSample(const mpt_product_view &p, const Sampling &sampling,
                  const Draw &draw) {
  int64_t all = p.batch[0] * p.batch[1], elements = all;
  int64_t rows = part(sampling.rows, p.m);
  int64_t columns = part(sampling.columns, p.n);
  if (elements > 1 && !sampling.isExact()) {
    // As many elements in all: a near-square part of each batch element.
    int64_t budget = (sampling.rows ? sampling.rows : p.m) *
                     (sampling.columns ? sampling.columns : p.n);
    elements = std::min({elements, kMostElements, budget});
    int64_t each = budget / elements, side = 1;
    while ((side + 1) * (side + 1) <= each)
      ++side;
    rows = std::min(side, p.m);
    columns = std::min(each / rows, p.n);
    rows = std::min(each / columns, p.m);
  }
  Generator generator(sampling.seed, draw);
  Sample sample;
  sample.elements = generator.choose(elements, all);
  for (int64_t e = 0; e < elements; ++e) {
    sample.rows.push_back(generator.choose(rows, p.m));
    sample.columns.push_back(generator.choose(columns, p.n));
  }
  return sample;
}

} // namespace mpt::metrics
