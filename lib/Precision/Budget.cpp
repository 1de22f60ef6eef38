//===- Budget.cpp - least time under bounds on errors ---------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// See Budget.h: the checks around the search, and what to say where no choice
// keeps the bounds.
//
//===----------------------------------------------------------------------===//

#include "mpt/Precision/Budget.h"
#include "BudgetSearch.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringSet.h"
#include "llvm/Support/FormatVariadic.h"
#include <cmath>

using namespace llvm;
using namespace mpt::precision;
using namespace mpt::precision::budget;

namespace {

/// Two sums of the same numbers in different orders.
constexpr double kSummation = 1e-9;

template <typename... Args> Error failure(const char *format, Args... args) {
  return createStringError(formatv(format, args...).str());
}

bool isBad(double x) { return !(x >= 0) || !std::isfinite(x); }

Error checkCandidate(const Problem &problem, const Product &product,
                     const Candidate &candidate) {
  std::string who =
      formatv("candidate '{0}' of product '{1}'", candidate.name, product.name);
  if (isBad(candidate.time))
    return failure("{0} has time {1}, expected a number of 0 or more", who,
                   candidate.time);
  if (candidate.errors.size() != problem.bounds.size())
    return failure("{0} has {1} errors, expected one per bound, {2}", who,
                   candidate.errors.size(), problem.bounds.size());
  for (const auto &[bound, error] : zip(problem.bounds, candidate.errors))
    if (isBad(error))
      return failure("{0} has {1} {2}, expected a number of 0 or more", who,
                     bound.name, error);
  for (const auto &[i, shared] : enumerate(candidate.shared)) {
    if (shared >= problem.shared.size())
      return failure("{0} needs shared thing {1} of {2}", who, shared,
                     problem.shared.size());
    if (i > 0 && candidate.shared[i - 1] >= shared)
      return failure("{0} does not name what it shares in ascending order",
                     who);
  }
  return Error::success();
}

Errors limitsOf(const Problem &problem) {
  Errors limits;
  limits.fill(HUGE_VAL);
  for (const auto &[b, bound] : enumerate(problem.bounds))
    limits[b] = bound.limit;
  return limits;
}

/// At least the time of any choice.
double longestOf(const Problem &problem) {
  double time = 0;
  for (const Shared &shared : problem.shared)
    time += shared.time;
  for (const Product &product : problem.products) {
    double longest = 0;
    for (const Candidate &candidate : product.candidates)
      longest = std::max(longest, candidate.time);
    time += longest;
  }
  return time;
}

/// The smallest sum of bound `b` when nothing else counts.
double smallestAlone(const Problem &problem, size_t b) {
  double sum = 0;
  for (const Product &product : problem.products) {
    double least = HUGE_VAL;
    for (const Candidate &candidate : product.candidates)
      least = std::min(least, candidate.errors[b]);
    sum += least;
  }
  return sum;
}

/// Time and errors of a choice, in the order of the products.
void measure(const Problem &problem, Solution &solution) {
  std::vector<bool> needed(problem.shared.size());
  solution.time = 0;
  solution.errors.assign(problem.bounds.size(), 0);
  for (const auto &[product, chosen] : zip(problem.products, solution.chosen)) {
    const Candidate &candidate = product.candidates[chosen];
    solution.time += candidate.time;
    for (size_t b = 0; b < problem.bounds.size(); ++b)
      solution.errors[b] += candidate.errors[b];
    for (unsigned shared : candidate.shared)
      needed[shared] = true;
  }
  for (const auto &[s, shared] : enumerate(problem.shared))
    if (needed[s])
      solution.time += shared.time;
}

/// Takes limits of 0 and limits that nothing can break out of the search: of
/// the former by removing choices. False if a product is left without one.
bool simplify(std::vector<Component> &components, Errors &limits) {
  for (size_t b = 0; b < kMaxBounds; ++b) {
    if (!std::isfinite(limits[b]))
      continue;
    double most = 0;
    for (Component &component : components)
      for (Stage &stage : component.stages) {
        double largest = 0;
        if (limits[b] == 0)
          erase_if(stage.choices,
                   [&](const Choice &c) { return c.errors[b] > 0; });
        if (stage.choices.empty())
          return false;
        for (const Choice &choice : stage.choices)
          largest = std::max(largest, choice.errors[b]);
        most += largest;
      }
    if (most <= limits[b])
      limits[b] = HUGE_VAL;
  }
  return true;
}

/// The problem of the smallest sum of bound `b` under the other bounds.
Problem problemOfSmallest(const Problem &problem, size_t b) {
  Problem result;
  result.bounds = problem.bounds;
  result.bounds.erase(result.bounds.begin() + b);
  result.products = problem.products;
  for (Product &product : result.products)
    for (Candidate &candidate : product.candidates) {
      candidate.time = candidate.errors[b];
      candidate.errors.erase(candidate.errors.begin() + b);
      candidate.shared.clear();
    }
  return result;
}

Error explainInfeasible(const Problem &problem, const Limits &effort,
                        Solution &solution) {
  double worst = -1;
  for (size_t b = 0; b < problem.bounds.size(); ++b) {
    double smallest = smallestAlone(problem, b);
    if (problem.bounds.size() > 1) {
      auto other = solve(problemOfSmallest(problem, b), effort);
      if (!other)
        return other.takeError();
      if (!other->chosen.empty())
        smallest = other->time;
    }
    solution.smallest.push_back(smallest);
    double limit = problem.bounds[b].limit;
    double ratio = limit > 0 ? smallest / limit : smallest > 0 ? HUGE_VAL : 0;
    if (ratio > worst) {
      worst = ratio;
      solution.leastFeasible = b;
    }
  }
  return Error::success();
}

} // namespace

const char *budget::nameOf(Status status) {
  switch (status) {
  case Status::Optimal:
    return "optimal";
  case Status::Feasible:
    return "feasible";
  case Status::Infeasible:
    return "infeasible";
  case Status::Unknown:
    return "unknown";
  }
  return "";
}

Error Problem::check() const {
  if (bounds.size() > kMaxBounds)
    return failure("{0} bounds, at most {1} are expected", bounds.size(),
                   kMaxBounds);
  StringSet<> names;
  for (const Bound &bound : bounds) {
    if (!names.insert(bound.name).second)
      return failure("two bounds are named '{0}'", bound.name);
    if (isBad(bound.limit))
      return failure("bound '{0}' has limit {1}, expected a number of 0 or "
                     "more",
                     bound.name, bound.limit);
  }
  for (const Shared &thing : shared)
    if (isBad(thing.time))
      return failure("'{0}' has time {1}, expected a number of 0 or more",
                     thing.name, thing.time);
  names.clear();
  for (const Product &product : products) {
    if (!names.insert(product.name).second)
      return failure("two products are named '{0}'", product.name);
    if (product.candidates.empty())
      return failure("product '{0}' has no candidate", product.name);
    StringSet<> candidates;
    for (const Candidate &candidate : product.candidates)
      if (!candidates.insert(candidate.name).second)
        return failure("product '{0}' has two candidates '{1}'", product.name,
                       candidate.name);
    for (const Candidate &candidate : product.candidates)
      if (Error error = checkCandidate(*this, product, candidate))
        return error;
  }
  return Error::success();
}

Expected<Solution> budget::solve(const Problem &problem, const Limits &effort) {
  Expected<std::vector<Component>> components = componentsOf(problem);
  if (!components)
    return components.takeError();
  Solution solution;
  solution.multipliers.assign(problem.bounds.size(), 0);
  Errors limits = limitsOf(problem);
  bool reachable = all_of(enumerate(problem.bounds), [&](auto bound) {
    return smallestAlone(problem, bound.index()) <=
           bound.value().limit * (1 + kTolerance);
  });
  SearchResult found;
  found.complete = true;
  if (reachable && simplify(*components, limits)) {
    found = search(*components, limits, longestOf(problem), effort);
    std::copy_n(found.multipliers.begin(), problem.bounds.size(),
                solution.multipliers.begin());
  }
  solution.nodes = found.nodes;
  if (!found.best) {
    solution.status = found.complete ? Status::Infeasible : Status::Unknown;
    if (found.complete)
      if (Error error = explainInfeasible(problem, effort, solution))
        return std::move(error);
    return solution;
  }
  solution.status = found.complete ? Status::Optimal : Status::Feasible;
  solution.chosen.resize(problem.products.size());
  for (const auto &[component, choices] : zip(*components, found.best->choices))
    for (const auto &[stage, candidate] : zip(component.stages, choices))
      solution.chosen[stage.product] = candidate;
  measure(problem, solution);
  solution.proven = found.complete ? solution.time : found.proven;
  // What the multipliers prove about the problem as it was given.
  Expected<std::vector<Component>> all = componentsOf(problem);
  if (!all)
    return all.takeError();
  respond(*all, found.multipliers, limitsOf(problem), solution.dualBound);
  return solution;
}

Error budget::verify(const Problem &problem, const Solution &solution) {
  if (solution.chosen.empty() && !problem.products.empty())
    return Error::success();
  if (solution.chosen.size() != problem.products.size())
    return failure("{0} choices for {1} products", solution.chosen.size(),
                   problem.products.size());
  for (const auto &[product, chosen] : zip(problem.products, solution.chosen))
    if (chosen >= product.candidates.size())
      return failure("product '{0}' has no candidate {1}", product.name,
                     chosen);
  Solution again;
  again.chosen = solution.chosen;
  measure(problem, again);
  auto differs = [](double a, double b) {
    return std::abs(a - b) > kSummation * (std::abs(a) + std::abs(b));
  };
  if (differs(again.time, solution.time))
    return failure("the choice takes {0} us, not {1}", again.time,
                   solution.time);
  Multipliers multipliers{};
  for (const auto &[b, bound] : enumerate(problem.bounds)) {
    if (again.errors[b] > bound.limit * (1 + kTolerance))
      return failure("the sum of {0} is {1:e3}, its bound {2:e3}", bound.name,
                     again.errors[b], bound.limit);
    if (!(solution.multipliers[b] >= 0))
      return failure("the multiplier of {0} is {1}", bound.name,
                     solution.multipliers[b]);
    multipliers[b] = solution.multipliers[b];
  }
  auto components = componentsOf(problem);
  if (!components)
    return components.takeError();
  double bound;
  respond(*components, multipliers, limitsOf(problem), bound);
  double longest = longestOf(problem);
  if (std::abs(bound - solution.dualBound) > kSummation * longest)
    return failure("the multipliers prove {0} us, not {1}", bound,
                   solution.dualBound);
  if (solution.dualBound > solution.time + kSummation * longest ||
      solution.proven > solution.time + kSummation * longest)
    return failure("a time of {0} us is below what was proven, {1} and {2}",
                   solution.time, solution.dualBound, solution.proven);
  return Error::success();
}
