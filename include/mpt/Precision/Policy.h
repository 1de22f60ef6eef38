//===- Policy.h - deciding the formats of products --------------*- C++ -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// The model that `--assign-precision` fills from a graph, and the policies that
// solve it. Nothing here knows the graph; `check` runs before, `verify` after.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_PRECISION_POLICY_H
#define MPT_PRECISION_POLICY_H

#include "mpt/Precision/Budget.h"
#include "mpt/Precision/CostModel.h"
#include "mpt/Precision/NormalBackwardError.h"
#include "mpt/Precision/Pins.h"
#include "mpt/Precision/PolicyKind.h"

namespace mpt {
namespace precision {

enum class Side { None, Lhs, Rhs };

/// What a product reads.
struct Operand {
  /// What a cast would go behind.
  Tensor tensor;
  /// The product reads it other than contiguous along k.
  bool turned = false;
};

/// A product of the training step, as far as a policy needs to know it.
struct Product {
  std::string name;
  Role role = Role::Fprop;
  int64_t m = 0, n = 0, k = 0, batch = 1;
  /// Null where none were attached.
  MetricsAttr metrics;
  /// Why its operands stay high whatever the metrics say, or "".
  std::string heldHigh;
  /// One of the products of a linear layer: its weight is a parameter.
  bool linear = false;
  /// A linear layer whose result goes into the loss.
  bool head = false;
  /// The operand that is a gradient.
  Side gradient = Side::None;
  Operand lhs, rhs;
  /// The size to predict times for, where that is not its own.
  std::optional<ProductShape> priced;

  ProductShape getShape() const {
    return priced.value_or(ProductShape{m, n, k, batch});
  }
  double getFlops() const { return getShape().getFlops(); }
};

/// Largest sums of errors under the policy `budget` (docs/metrics.md).
struct BudgetLimits {
  /// Of forward products; has no default.
  double lossMse = -1;
  /// Of the gradients' products.
  double noiseRatio = 5e-2, persistent = 3e-2;
};

struct Problem {
  mlir::MLIRContext *context = nullptr;
  PolicyKind policy = PolicyKind::Threshold;
  CostModel cost;
  BudgetLimits limits;
  std::vector<Pin> pins;
  /// Policy `threshold` takes 8 bits only where that makes the step faster.
  bool whereItPays = false;
  /// m, n and k of a product in FP8 are multiples of this.
  int64_t alignment = 16;
  /// In program order.
  std::vector<Product> products;

  /// Fails where a product has no unique name, where `threshold` lacks metrics
  /// or has some of another K, where a pin does not fit (see `matchPins`) or
  /// gives a misaligned product FP8, and where `whereItPays` is asked of
  /// another policy.
  llvm::Error check() const;
};

/// The bound on a product's backward error: c times what E4M3 does on normal
/// data at the same K.
struct Bound {
  double c;
  BackwardError error;
};
Bound boundOf(Role role, int64_t k);

/// What became of one measured candidate.
struct Verdict {
  FormatPair formats;
  mlir::DictionaryAttr metrics;
  bool admitted = false;
  /// A rule forbids it, whatever its error.
  bool barred = false;
  /// The bound lies inside the interval of an error.
  bool undecided = false;
  /// Why it was not admitted.
  std::string why;
  /// Predicted microseconds of the product, and of the casts that it would need
  /// if no other product shared them; 0 where the target does not run it.
  double us = 0, workUs = 0;
  /// Largest of error / bound, over median and p99.
  double ratio = 0;
};

struct Decision {
  FormatPair chosen;
  Bound bound;
  /// One per candidate of the product's metrics.
  std::vector<Verdict> candidates;
  /// What came closest to being chosen: the next admitted candidate, or the
  /// cheaper one that missed its bound by least.
  std::optional<FormatPair> runnerUp;
  /// bound / error of the candidate that decided: of the chosen one, 1 or more;
  /// where the high format was left, below 1, of the runner-up.
  std::optional<double> margin;
  std::string reason;
  /// The pin that decided, or "".
  std::string pin;
};

struct Outcome {
  /// One per product.
  std::vector<Decision> decisions;
  /// Of the policy `budget`: what was solved, and how.
  std::optional<budget::Problem> model;
  std::optional<budget::Solution> budget;
  /// Of the policy `budget`, one per pin: predicted microseconds that the step
  /// would take less without it; NaN where that is not known.
  std::vector<double> pinPrices;
};

/// Decides. Expects that `problem.check()` succeeds. Fails where no assignment
/// keeps a budget.
llvm::Expected<Outcome> solve(const Problem &problem);

/// Fails, naming the product, where a decision breaks a rule of `problem`.
llvm::Error verify(const Problem &problem, llvm::ArrayRef<Decision> decisions);

} // namespace precision
} // namespace mpt

#endif // MPT_PRECISION_POLICY_H
