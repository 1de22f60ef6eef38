//===- Budget.h - least time under bounds on errors -------------*- C++ -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// A model without graph, formats or target: every product takes one of its
// candidates; candidates need things that are paid for once, whoever else needs
// them (a cast, an amax, a transposed copy); sums of errors are bounded.
// `check` runs before `solve`, `verify` after. docs/budget.md has the method.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_PRECISION_BUDGET_H
#define MPT_PRECISION_BUDGET_H

#include "llvm/Support/Error.h"
#include <cstdint>
#include <string>
#include <vector>

namespace mpt {
namespace precision {
namespace budget {

/// Sums of errors may exceed their limit by this share of it: they are sums of
/// doubles in whatever order.
inline constexpr double kTolerance = 1e-9;

/// The sum of one error over all products stays at or below `limit`.
struct Bound {
  std::string name;
  double limit = 0;
};

/// Paid for once, if any chosen candidate needs it.
struct Shared {
  std::string name;
  /// In microseconds.
  double time = 0;
};

struct Candidate {
  std::string name;
  /// In microseconds, without what is shared.
  double time = 0;
  /// One per bound; 0 where the bound does not concern the product.
  std::vector<double> errors;
  /// Indices into the problem's `shared`, ascending.
  std::vector<unsigned> shared;
};

struct Product {
  std::string name;
  std::vector<Candidate> candidates;
};

struct Problem {
  std::vector<Bound> bounds;
  std::vector<Shared> shared;
  std::vector<Product> products;

  /// Fails where a name is taken twice, a product has no candidate, a number is
  /// negative or not finite, or an index or a count does not fit.
  llvm::Error check() const;
};

enum class Status {
  /// Nothing is faster.
  Optimal,
  /// The search gave up: nothing is faster than `Solution::proven`.
  Feasible,
  /// No choice keeps all bounds.
  Infeasible,
  /// The search gave up before it found a choice that keeps all bounds.
  Unknown
};

/// The name as it stands in files: `optimal`, `feasible`, ...
const char *nameOf(Status status);

struct Solution {
  Status status = Status::Unknown;
  /// The candidate of each product; empty unless optimal or feasible.
  std::vector<unsigned> chosen;
  /// Of `chosen`, shared things included, in microseconds.
  double time = 0;
  /// Of `chosen`, one per bound.
  std::vector<double> errors;
  /// The certificate: one per bound, 0 or more, in microseconds per unit of
  /// error. From them anyone can compute `dualBound` anew.
  std::vector<double> multipliers;
  /// min over all choices of time + sum of multiplier * (error - limit): no
  /// choice that keeps the bounds takes less.
  double dualBound = 0;
  /// What the search has proven in the end: `time` if optimal.
  double proven = 0;
  /// Of an infeasible problem, one per bound: the smallest sum that any choice
  /// reaches which keeps the bounds that can be kept together with this one.
  std::vector<double> smallest;
  /// Of an infeasible problem: the bound with the largest smallest / limit.
  unsigned leastFeasible = 0;
  /// Subproblems that the search looked at.
  int64_t nodes = 0;
};

/// How much work the search may do. Counts, not seconds: the same input gives
/// the same solution on every machine.
struct Limits {
  /// Partial choices that are kept side by side.
  int64_t labels = 2000;
  int64_t nodes = 16;
};

/// The fastest choice. Expects that `problem.check()` succeeds. Fails where
/// more than 64 shared things are alive at once in whatever order products that
/// share are taken.
llvm::Expected<Solution> solve(const Problem &problem,
                               const Limits &limits = {});

/// Fails where `solution` does not fit `problem`: a bound that is not kept, a
/// time, an error or a dual bound that is not what it is said to be.
llvm::Error verify(const Problem &problem, const Solution &solution);

} // namespace budget
} // namespace precision
} // namespace mpt

#endif // MPT_PRECISION_BUDGET_H
