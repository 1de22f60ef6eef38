//===- Prediction.cpp - predicted time of an assignment -------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// See Prediction.h.
//
//===----------------------------------------------------------------------===//

#include "mpt/Precision/Prediction.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringSet.h"

using namespace mpt;
using namespace mpt::precision;

std::vector<Work> precision::workOf(const CostModel &cost,
                                    const Product &product,
                                    const FormatPair &formats) {
  const Combination *combination = cost.target.find(formats);
  bool kMajor = combination && combination->kMajor;
  std::vector<Work> result;
  llvm::StringSet<> seen;
  for (auto [operand, format] : {std::pair(&product.lhs, formats.lhs),
                                 std::pair(&product.rhs, formats.rhs)})
    for (Work &work :
         cost.workOf(operand->tensor, format, kMajor && operand->turned))
      if (seen.insert(work.name).second)
        result.push_back(std::move(work));
  return result;
}

Prediction precision::predict(const Problem &problem,
                              llvm::ArrayRef<FormatPair> formats) {
  Prediction prediction;
  llvm::StringSet<> seen;
  for (const auto &[product, pair] : llvm::zip(problem.products, formats)) {
    prediction.products += problem.cost.timeOf(product.getShape(), pair).us;
    for (const Work &work : workOf(problem.cost, product, pair)) {
      if (!seen.insert(work.name).second)
        continue;
      prediction.work += work.us;
      prediction.workBytes += work.bytes;
    }
  }
  return prediction;
}
