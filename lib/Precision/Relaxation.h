//===- Relaxation.h - the best multipliers of a budget ----------*- C++ -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// The Lagrangian dual of a budget problem, solved by column generation: a
// linear program mixes whole choices so that the bounds hold, its prices go to
// the components, and what they answer is the next column (Dantzig and Wolfe,
// "Decomposition Principle for Linear Programs", 1960).
//
//===----------------------------------------------------------------------===//

#ifndef MPT_LIB_PRECISION_RELAXATION_H
#define MPT_LIB_PRECISION_RELAXATION_H

#include "SharedComponents.h"

namespace mpt {
namespace precision {
namespace budget {

/// A candidate for every stage of every component.
struct Assignment {
  double time = 0;
  Errors errors{};
  /// By component, by stage: the candidate of the stage's product.
  std::vector<std::vector<unsigned>> choices;
};

struct Relaxation {
  Multipliers multipliers{};
  /// No choice within the limits takes less time.
  double bound = 0;
  /// The mix that the linear program ended with: assignments and their weights.
  std::vector<std::pair<Assignment, double>> mix;
  /// The fastest assignment within the limits that came by.
  std::optional<Assignment> incumbent;
};

/// What is fastest at these multipliers, and the bound that follows from it.
Assignment respond(const std::vector<Component> &components,
                   const Multipliers &multipliers, const Errors &limits,
                   double &bound);

/// Whether every error of `errors` is at most its limit, up to `kTolerance`.
bool keeps(const Errors &errors, const Errors &limits);

/// The relaxation of the problem that `components` and positive or infinite
/// `limits` make up. `longest` is at least the time of any assignment.
Relaxation relax(const std::vector<Component> &components, const Errors &limits,
                 double longest);

} // namespace budget
} // namespace precision
} // namespace mpt

#endif // MPT_LIB_PRECISION_RELAXATION_H
