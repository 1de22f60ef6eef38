//===- RoundedProduct.h - a product with rounded operands -------*- C++ -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// What a probe runs in the place of a product: both operands are rounded to a
// candidate's formats, whole, and multiplied by the package's engine.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_METRICS_ROUNDEDPRODUCT_H
#define MPT_METRICS_ROUNDEDPRODUCT_H

#include "mpt/Metrics/Metrics.h"

#include <functional>

namespace mpt::metrics {

/// Runs a product on operands that the caller gives: f32 views of any strides.
using Multiply = std::function<void(const mpt_product_view &)>;

/// Rounds the operands of `product` to the candidate's formats and writes its
/// result through `multiply`. Scales are of the whole operand at hand. Keeps at
/// most about `workspace` bytes: a large result is computed in parts, each over
/// the whole contraction. Throws rt::Failure as Measurer does.
class RoundedProduct {
public:
  RoundedProduct(int threads, size_t workspace = size_t(64) << 20);
  ~RoundedProduct();

  void run(const mpt_product_view &product, const Candidate &candidate,
           Draw draw, const std::vector<float> &lhsHistory,
           const std::vector<float> &rhsHistory, const Multiply &multiply);

private:
  struct Impl;
  std::unique_ptr<Impl> impl;
};

} // namespace mpt::metrics

#endif // MPT_METRICS_ROUNDEDPRODUCT_H
