//===- BudgetPolicy.cpp - the policy that weighs time against error -------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// See BudgetPolicy.h. Errors are the upper ends of their intervals, so that the
// sums hold with what the profile does not know.
//
//===----------------------------------------------------------------------===//

#include "BudgetPolicy.h"
#include "mpt/Precision/Prediction.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/Support/FormatVariadic.h"
#include <cmath>
#include <map>

using namespace mlir;
using namespace mpt;
using namespace mpt::precision;

namespace {

enum BoundIndex { LossMse, NoiseRatio, Persistent };

template <typename... Args> std::string text(const char *format, Args... args) {
  return llvm::formatv(format, args...).str();
}

std::optional<double> valueOf(DictionaryAttr metrics, StringRef name) {
  auto value = metrics.getAs<FloatAttr>(name);
  return value ? std::optional(value.getValueAsDouble()) : std::nullopt;
}

double aloneOf(const budget::Problem &model,
               const budget::Candidate &candidate) {
  double time = candidate.time;
  for (unsigned shared : candidate.shared)
    time += model.shared[shared].time;
  return time;
}

std::string whyNotPaying(const budget::Candidate &low, double lowTime,
                         const budget::Candidate &high, double highTime) {
  return text("{0} does not pay: {1:f1} us with its casts, in {2} {3:f1} us",
              low.name, lowTime, high.name, highTime);
}

struct Driver {
  const Problem &problem;
  ArrayRef<std::optional<size_t>> pins;
  Outcome &outcome;
  budget::Problem model;
  /// The formats of each candidate of the model.
  std::vector<std::vector<FormatPair>> formats;
  llvm::StringMap<unsigned> sharedIndex;
  /// Products by role.
  std::map<Role, int64_t> count;

  std::vector<double> errorsOf(const Product &product,
                               DictionaryAttr metrics) const;
  void add(const Product &product, const FormatPair &pair,
           DictionaryAttr metrics);
  void build();
  llvm::Error explain() const;
  void decide(const budget::Solution &solution);
  std::string reasonOf(size_t p, const budget::Solution &solution,
                       Decision &decision) const;
};

/// What a product adds to each sum. An estimate below 0 counts as 0. What is
/// known about persistent errors of a role is known about all its products
/// together: each takes an equal share.
std::vector<double> Driver::errorsOf(const Product &product,
                                     DictionaryAttr metrics) const {
  std::vector<double> errors(model.bounds.size());
  if (!metrics)
    return errors;
  auto get = [&](StringRef name) {
    return std::max(0.0, valueOf(metrics, name).value_or(0));
  };
  if (product.role == Role::Fprop) {
    errors[LossMse] = get("loss_mse");
    return errors;
  }
  errors[NoiseRatio] = get("noise_ratio");
  errors[Persistent] = valueOf(metrics, "persistent")
                           ? get("persistent")
                           : get("role_persistent") / count.at(product.role);
  return errors;
}

void Driver::add(const Product &product, const FormatPair &pair,
                 DictionaryAttr metrics) {
  budget::Candidate candidate;
  candidate.name = nameOf(pair);
  candidate.time = problem.cost.timeOf(product.getShape(), pair).us;
  candidate.errors = errorsOf(product, metrics);
  for (const Work &work : workOf(problem.cost, product, pair)) {
    auto [it, isNew] = sharedIndex.try_emplace(work.name, model.shared.size());
    if (isNew)
      model.shared.push_back({work.name, work.us});
    candidate.shared.push_back(it->second);
  }
  llvm::sort(candidate.shared);
  model.products.back().candidates.push_back(std::move(candidate));
  formats.back().push_back(pair);
}

void Driver::build() {
  model.bounds = {{"loss_mse", problem.limits.lossMse},
                  {"noise_ratio", problem.limits.noiseRatio},
                  {"persistent", problem.limits.persistent}};
  for (const Product &product : problem.products)
    ++count[product.role];
  for (const auto &[product, decision, pin] :
       llvm::zip(problem.products, outcome.decisions, pins)) {
    model.products.push_back({product.name, {}});
    formats.emplace_back();
    auto metricsOf = [&, &verdicts = decision.candidates](
                         const FormatPair &pair) -> DictionaryAttr {
      for (const Verdict &verdict : verdicts)
        if (verdict.formats == pair)
          return verdict.metrics;
      return {};
    };
    if (pin) {
      const FormatPair &pair = problem.pins[*pin].formats;
      add(product, pair, metricsOf(pair));
      continue;
    }
    add(product, decision.chosen, metricsOf(decision.chosen));
    for (const Verdict &verdict : decision.candidates)
      if (verdict.admitted && verdict.formats != decision.chosen)
        add(product, verdict.formats, verdict.metrics);
  }
}

/// The error of a budget that nothing keeps.
llvm::Error Driver::explain() const {
  const budget::Solution &solution = *outcome.budget;
  if (solution.status == budget::Status::Unknown)
    return llvm::createStringError(
        "no assignment was found that keeps the budget, and none was proven "
        "impossible; raise its bounds");
  std::string sums;
  for (const auto &[bound, smallest] :
       llvm::zip(model.bounds, solution.smallest))
    sums += text("{0}{1} {2:e2} (bound {3:e2})", sums.empty() ? "" : ", ",
                 bound.name, smallest, bound.limit);
  return llvm::createStringError(
      "no assignment keeps the budget; least feasible is " +
      model.bounds[solution.leastFeasible].name +
      "; smallest sums under the other bounds: " + sums);
}

/// Why product `p` got what it got; sets the runner-up.
std::string Driver::reasonOf(size_t p, const budget::Solution &solution,
                             Decision &decision) const {
  const auto &candidates = model.products[p].candidates;
  auto priceOf = [&](size_t c) {
    double price = 0;
    for (const auto &[error, multiplier] :
         llvm::zip(candidates[c].errors, solution.multipliers))
      price += error * multiplier;
    return price;
  };
  auto aloneOf = [&](size_t c) { return ::aloneOf(model, candidates[c]); };
  size_t chosen = solution.chosen[p];
  std::optional<size_t> next;
  for (size_t c = 0; c < candidates.size(); ++c)
    if (c != chosen &&
        (!next || aloneOf(c) + priceOf(c) < aloneOf(*next) + priceOf(*next)))
      next = c;
  if (next)
    decision.runnerUp = formats[p][*next];
  if (chosen != 0)
    return text("{0:f1} us, in {1} {2:f1} us; its errors cost {3:f1} us of the "
                "budget",
                candidates[chosen].time, candidates[0].name, candidates[0].time,
                priceOf(chosen));
  if (!next)
    return "";
  if (aloneOf(*next) >= aloneOf(0))
    return whyNotPaying(candidates[*next], aloneOf(*next), candidates[0],
                        aloneOf(0));
  return text("{0} would save {1:f1} us, its errors would cost {2:f1} us of "
              "the budget",
              candidates[*next].name, aloneOf(0) - aloneOf(*next),
              priceOf(*next) - priceOf(0));
}

void Driver::decide(const budget::Solution &solution) {
  for (size_t p = 0; p < model.products.size(); ++p) {
    if (pins[p])
      continue;
    Decision &decision = outcome.decisions[p];
    std::string reason = reasonOf(p, solution, decision);
    // Where there was nothing to choose from, the reason is there already.
    if (!reason.empty())
      decision.reason = reason;
    decision.chosen = formats[p][solution.chosen[p]];
  }
}

/// Solves once more without each pin.
llvm::Error pricePins(const Problem &problem,
                      ArrayRef<std::optional<size_t>> pins, Outcome &outcome) {
  for (size_t i = 0; i < problem.pins.size(); ++i) {
    std::vector<std::optional<size_t>> others(pins.begin(), pins.end());
    for (std::optional<size_t> &pin : others)
      if (pin == i)
        pin.reset();
    Driver driver{problem, others, outcome, {}, {}, {}, {}};
    driver.build();
    auto free = budget::solve(driver.model);
    if (!free)
      return free.takeError();
    outcome.pinPrices.push_back(free->chosen.empty()
                                    ? std::nan("")
                                    : outcome.budget->time - free->time);
  }
  return llvm::Error::success();
}

} // namespace

std::string precision::whyUnpriced(const Product &product,
                                   DictionaryAttr metrics) {
  auto lacks = [&](StringRef name) { return !valueOf(metrics, name); };
  if (product.role == Role::Fprop)
    return lacks("loss_mse") ? "its loss_mse was not measured" : "";
  if (lacks("noise_ratio"))
    return "its noise_ratio was not measured";
  if (!lacks("persistent"))
    return "";
  if (product.role == Role::Wgrad)
    return "its persistent error was not measured";
  return lacks("role_persistent")
             ? "the persistent error of dgrad was not measured in it; profile "
               "with a probe of the role"
             : "";
}

llvm::Error precision::chooseByBudget(const Problem &problem,
                                      ArrayRef<std::optional<size_t>> pins,
                                      Outcome &outcome) {
  Driver driver{problem, pins, outcome, {}, {}, {}, {}};
  driver.build();
  if (llvm::Error error = driver.model.check())
    return error;
  auto solution = budget::solve(driver.model);
  if (!solution)
    return solution.takeError();
  if (llvm::Error error = budget::verify(driver.model, *solution))
    return error;
  outcome.budget = *solution;
  outcome.model = driver.model;
  if (solution->chosen.empty() && !driver.model.products.empty())
    return driver.explain();
  // The models start from decisions that are BF16 still.
  if (llvm::Error error = pricePins(problem, pins, outcome))
    return error;
  driver.decide(*solution);
  return llvm::Error::success();
}

llvm::Error precision::keepWherePaying(const Problem &problem,
                                       ArrayRef<std::optional<size_t>> pins,
                                       Outcome &outcome) {
  // No bounds: every candidate here is within the product's own already.
  Driver driver{problem, pins, outcome, {}, {}, {}, {}};
  FormatPair high = pairOf(problem.context, Storage::BF16);
  for (const auto &[product, decision, pin] :
       llvm::zip(problem.products, outcome.decisions, pins)) {
    driver.model.products.push_back({product.name, {}});
    driver.formats.emplace_back();
    driver.add(product, pin ? problem.pins[*pin].formats : high, {});
    if (!pin && decision.chosen != high)
      driver.add(product, decision.chosen, {});
  }
  auto solution = budget::solve(driver.model);
  if (!solution)
    return solution.takeError();
  if (llvm::Error error = budget::verify(driver.model, *solution))
    return error;
  for (size_t p = 0; p < driver.model.products.size(); ++p) {
    const auto &candidates = driver.model.products[p].candidates;
    if (candidates.size() < 2 || solution->chosen[p] == 1)
      continue;
    Decision &decision = outcome.decisions[p];
    decision.reason =
        whyNotPaying(candidates[1], aloneOf(driver.model, candidates[1]),
                     candidates[0], aloneOf(driver.model, candidates[0]));
    decision.runnerUp = decision.chosen;
    decision.chosen = high;
    decision.margin.reset();
  }
  return llvm::Error::success();
}
