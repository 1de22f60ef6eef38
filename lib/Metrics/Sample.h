//===- Sample.h - which elements of a product are looked at -----*- C++ -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// The draw of batch elements, rows and columns.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_LIB_METRICS_SAMPLE_H
#define MPT_LIB_METRICS_SAMPLE_H

#include "mpt/Metrics/Metrics.h"

namespace mpt::metrics {

/// Batch elements, and of each as many rows and as many columns; ascending.
struct Sample {
  std::vector<int64_t> elements;
  std::vector<std::vector<int64_t>> rows, columns; // by batch element

  int64_t rowCount() const { return int64_t(rows.front().size()); }
  int64_t columnCount() const { return int64_t(columns.front().size()); }
  int64_t size() const {
    return int64_t(elements.size()) * rowCount() * columnCount();
  }
};

Sample drawSample(const mpt_product_view &product, const Sampling &sampling,
                  const Draw &draw);

} // namespace mpt::metrics

#endif // MPT_LIB_METRICS_SAMPLE_H
