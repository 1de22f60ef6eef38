//===- BudgetPolicy.h - the policy that weighs time against error -*- C++ -*-=//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Makes a budget problem of products, their verdicts and the cost model, and
// decisions of its solution; and, without bounds, one of what another policy
// chose.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_LIB_PRECISION_BUDGETPOLICY_H
#define MPT_LIB_PRECISION_BUDGETPOLICY_H

#include "mpt/Precision/Policy.h"

namespace mpt {
namespace precision {

/// Why a candidate's errors cannot be added up, or "".
std::string whyUnpriced(const Product &product, mlir::DictionaryAttr metrics);

/// Chooses by the least predicted time within `problem.limits`. The decisions
/// have their verdicts, what they choose is BF16, and `pins` names the pin of
/// each product that has one. Fails, with the least feasible bound, where
/// nothing keeps the bounds.
llvm::Error chooseByBudget(const Problem &problem,
                           llvm::ArrayRef<std::optional<size_t>> pins,
                           Outcome &outcome);

/// Of what policy `threshold` chose for each product, and BF16, takes what
/// makes the step fastest, shared casts counted once.
llvm::Error keepWherePaying(const Problem &problem,
                            llvm::ArrayRef<std::optional<size_t>> pins,
                            Outcome &outcome);

} // namespace precision
} // namespace mpt

#endif // MPT_LIB_PRECISION_BUDGETPOLICY_H
