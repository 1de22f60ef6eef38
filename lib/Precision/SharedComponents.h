//===- SharedComponents.h - products that share costs -----------*- C++ -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// A budget problem falls into components of products that share something; once
// the bounds are priced by multipliers, each component is minimised on its own.
// The products of a component are taken one after the other, in stages; what
// has been paid for and is needed again is a mask of slots.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_LIB_PRECISION_SHAREDCOMPONENTS_H
#define MPT_LIB_PRECISION_SHAREDCOMPONENTS_H

#include "mpt/Precision/Budget.h"
#include "llvm/ADT/ArrayRef.h"
#include <array>
#include <optional>

namespace mpt {
namespace precision {
namespace budget {

inline constexpr size_t kMaxBounds = 8;
using Errors = std::array<double, kMaxBounds>;
using Multipliers = Errors;

/// A candidate as a stage sees it.
struct Choice {
  unsigned candidate;
  /// What only this product would use is in it.
  double time;
  Errors errors;
  /// Slots that it needs.
  uint64_t needs;
};

/// One product of a component.
struct Stage {
  unsigned product;
  std::vector<Choice> choices;
  /// Slots that nobody needs behind this stage.
  uint64_t dies = 0;
  /// What a slot costs; only of slots that are alive in this stage.
  std::vector<double> slotTime;
};

struct Component {
  std::vector<Stage> stages;
};

/// A choice for every stage of a component.
struct Point {
  double time = 0;
  /// time + multipliers * errors, less the least of the component.
  double penalty = 0;
  Errors errors{};
  /// The candidate of each stage's product.
  std::vector<unsigned> choices;
};

/// The components of `problem`, in the order of their first products. Drops
/// candidates that another one of the product is no worse than in time, in
/// every error and in what it needs. Fails where more than 64 slots are alive.
llvm::Expected<std::vector<Component>> componentsOf(const Problem &problem);

/// The point of least time + multipliers * errors; the first of equals. Its
/// penalty is that sum. A component none of whose stages is without choices is
/// expected.
Point minimise(const Component &component, const Multipliers &multipliers);

/// All points whose penalty is at most `window` and that no other one is no
/// worse than in time and in every error; by time. Empty optional: more than
/// `most` partial choices side by side.
std::optional<std::vector<Point>> pointsWithin(const Component &component,
                                               const Multipliers &multipliers,
                                               double window, int64_t most);

/// Whether `a` is at most `b` in every error.
inline bool within(const Errors &a, const Errors &b) {
  for (size_t i = 0; i < kMaxBounds; ++i)
    if (a[i] > b[i])
      return false;
  return true;
}
inline double dot(const Multipliers &a, const Errors &b) {
  double sum = 0;
  for (size_t i = 0; i < kMaxBounds; ++i)
    sum += a[i] * b[i];
  return sum;
}

} // namespace budget
} // namespace precision
} // namespace mpt

#endif // MPT_LIB_PRECISION_SHAREDCOMPONENTS_H
