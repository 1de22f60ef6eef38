//===- BudgetSearch.h - the fastest choice, proven --------------*- C++ -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Branch and bound over components of shared costs. In each node the relaxation
// bounds the time from below; choices that cost at most `window` more than
// their component's best are combined, and if the best combination lies inside
// the window nothing else can be faster.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_LIB_PRECISION_BUDGETSEARCH_H
#define MPT_LIB_PRECISION_BUDGETSEARCH_H

#include "Relaxation.h"

namespace mpt {
namespace precision {
namespace budget {

struct SearchResult {
  /// The fastest assignment found.
  std::optional<Assignment> best;
  /// The relaxation of the whole problem.
  Multipliers multipliers{};
  double dualBound = 0;
  /// Nothing is faster than this; the time of `best` if that is optimal.
  double proven = 0;
  /// Nothing was left out.
  bool complete = false;
  int64_t nodes = 0;
};

/// Searches the problem that `components` and positive or infinite `limits`
/// make up. `longest` is at least the time of any assignment.
SearchResult search(std::vector<Component> components, const Errors &limits,
                    double longest, const Limits &effort);

} // namespace budget
} // namespace precision
} // namespace mpt

#endif // MPT_LIB_PRECISION_BUDGETSEARCH_H
