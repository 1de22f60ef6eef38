//===- SampledOperand.h - the vectors of a sample, rounded ------*- C++ -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// One operand of a product that is measured: the vectors along the contraction
// that the sample has, packed in panels, and each format's rounding of them, a
// block of the contraction at a time.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_LIB_METRICS_SAMPLEDOPERAND_H
#define MPT_LIB_METRICS_SAMPLEDOPERAND_H

#include "Rounding.h"
#include "Scales.h"

#include <mutex>

namespace mpt::metrics {

/// Of the contraction: blocks begin where groups of Block128 and Mx do.
constexpr int64_t kBlock = 128;

class SampledOperand {
public:
  explicit SampledOperand(bool isLhs);

  /// Takes an operand; its statistics if `known` has them.
  void open(const OperandView &view, const OperandStatistics *known,
            rt::ThreadPool &pool);
  /// Adds a format, unless it is there; returns its index.
  size_t addFormat(const OperandFormat &format);
  /// Scales of all formats, and the sampled vectors (ascending, by batch
  /// element of `elements`) packed.
  void prepare(const std::vector<int64_t> &elements,
               const std::vector<std::vector<int64_t>> &chosen,
               const std::vector<float> &history, const Draw &draw,
               uint64_t seed, rt::ThreadPool &pool);

  /// Memory for blocks of `elements` batch elements.
  void reserve(int64_t elements);
  /// Rounds panels [begin, end), counted over the batch elements from element
  /// `first` of the sample on, at [from, from + length) of the contraction.
  void fill(int64_t first, int64_t begin, int64_t end, int64_t from,
            int64_t length);

  /// Share lost to each format, once all blocks have been filled.
  Losses losses(size_t format) const;

  int64_t panels() const { return panelCount; } // of a batch element
  size_t formatCount() const { return formats.size(); }

  OperandStatistics statistics;
  // Of the block: [batch element][panel][length][width].
  std::vector<double> wide, magnitudes;
  std::vector<std::vector<float>> rounded; // by format

private:
  struct Format {
    OperandFormat format;
    float scale = 1; // of a whole operand
    num::Stream<uint32_t> stream{};
    bool countsSample = false; // what it loses is counted while rounding
    uint32_t last = 0;         // lastUnsaturated
    Losses losses;             // of all elements
    uint64_t counts[2] = {0, 0};
  };

  void pack(int64_t unit);
  void roundBlock(const Format &f, int64_t element, int64_t panel, int64_t from,
                  int64_t length, const float *in, float *out,
                  uint64_t counts[2]) const;
  void scalesOf(const Format &f, int64_t element, int64_t panel, int64_t from,
                int64_t length, const float *in, float *scales) const;

  bool isLhs;
  int width;
  OperandView view{};
  std::vector<Format> formats;
  std::vector<int64_t> elements;
  std::vector<std::vector<int64_t>> chosen;
  int64_t vectors = 0, panelCount = 0;
  std::vector<float> packed; // [batch element][panel][k][width]
  std::vector<float> amax;   // [batch element][panel][width]
  GroupAmax blocks;          // where a format is Block128
  uint64_t population = 0;   // finite nonzero elements of the sample
  std::mutex mutex;
};

} // namespace mpt::metrics

#endif // MPT_LIB_METRICS_SAMPLEDOPERAND_H
