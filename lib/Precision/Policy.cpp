//===- Policy.cpp - deciding the formats of products ----------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// The policies. `threshold`: docs/precision.md. `uniform`: Transformer Engine's
// HYBRID recipe with current scales. A policy that weighs time against error is
// one more function from a product and its verdicts to a choice.
//
//===----------------------------------------------------------------------===//

#include "mpt/Precision/Policy.h"
#include "BudgetPolicy.h"
#include "mpt/Precision/Prediction.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringSet.h"
#include "llvm/Support/FormatVariadic.h"

using namespace mlir;
using namespace mpt;
using namespace mpt::precision;

namespace {

/// c of the bound: gradients get twice as much, which admits E5M2.
constexpr double kForwardFactor = 1.5;
constexpr double kGradientFactor = 3.0;
/// Largest part of a gradient's error, of its squared norm, that may persist
/// over batches.
constexpr double kPersistent = 3e-2;
/// How many names an error lists.
constexpr size_t kNamed = 8;

template <typename... Args> std::string text(const char *format, Args... args) {
  return llvm::formatv(format, args...).str();
}
std::string number(double x) { return text("{0:e2}", x); }

/// Why `product` cannot run in `formats`, whatever the error; "" if it can.
std::string whyMisaligned(const Product &product, const FormatPair &formats,
                          int64_t alignment) {
  if (!formats.isEightBit())
    return "";
  for (auto [size, name] :
       {std::pair(product.m, "m"), {product.n, "n"}, {product.k, "k"}})
    if (size % alignment != 0)
      return text("{0} = {1} is not a multiple of {2}, which FP8 needs", name,
                  size, alignment);
  return "";
}

double get(DictionaryAttr values, StringRef name, double missing = 0) {
  auto value = values.getAs<FloatAttr>(name);
  return value ? value.getValueAsDouble() : missing;
}

//===----------------------------------------------------------------------===//
// threshold
//===----------------------------------------------------------------------===//

/// Compares one error with its bound: the upper end of its interval has to stay
/// below; a bound inside the interval leaves the candidate undecided.
void judge(Verdict &verdict, StringRef metric, double bound) {
  double high = get(verdict.metrics, metric);
  double low = high - get(verdict.metrics, (metric + "_spread").str());
  verdict.ratio = std::max(verdict.ratio, high / bound);
  if (high <= bound)
    return;
  verdict.admitted = false;
  bool undecided = low <= bound;
  if (!verdict.why.empty() && (undecided || !verdict.undecided))
    return; // an earlier reason is at least as strong
  verdict.undecided = undecided;
  verdict.why = undecided
                    ? text("undecided: {0} is {1} to {2}, bound {3}", metric,
                           number(low), number(high), number(bound))
                    : text("{0} {1} is above its bound {2}", metric,
                           number(high), number(bound));
}

/// A budget adds errors up instead: all that it bounds must be known.
void judgeForBudget(Verdict &verdict, const Product &product) {
  verdict.why =
      verdict.formats.isEightBit() ? whyUnpriced(product, verdict.metrics) : "";
  verdict.admitted = verdict.why.empty();
  verdict.undecided = false;
}

void price(Verdict &verdict, const CostModel &cost, const Product &product) {
  verdict.us = cost.timeOf(product.getShape(), verdict.formats).us;
  for (const Work &work : workOf(cost, product, verdict.formats))
    verdict.workUs += work.us;
}

/// What a reason ends in where a product in `formats` would be slower than in
/// BF16 if it shared its casts with no other; "" elsewhere.
std::string whySlower(const Problem &problem, const Product &product,
                      const FormatPair &formats) {
  Verdict low, high;
  low.formats = formats;
  high.formats = pairOf(problem.context, Storage::BF16);
  for (Verdict *verdict : {&low, &high})
    price(*verdict, problem.cost, product);
  if (low.us + low.workUs <= high.us + high.workUs)
    return "";
  return text("; alone it does not pay: {0:f1} us with its casts, in {1} "
              "{2:f1} us",
              low.us + low.workUs, nameOf(high.formats), high.us + high.workUs);
}

std::vector<Verdict> judgeAll(const Problem &problem, const Product &product,
                              const Bound &bound) {
  std::vector<Verdict> verdicts;
  if (!product.metrics)
    return verdicts;
  for (CandidateMetricsAttr candidate : product.metrics.getCandidates()) {
    Verdict verdict;
    verdict.formats = {candidate.getLhs(), candidate.getRhs()};
    verdict.metrics = candidate.getValues();
    verdict.admitted = true;
    judge(verdict, "be_median", bound.error.median);
    judge(verdict, "be_p99", bound.error.p99);
    for (StringRef name : {"persistent", "role_persistent"})
      if (product.role != Role::Fprop && verdict.metrics.contains(name))
        judge(verdict, name, kPersistent);
    if (problem.policy == PolicyKind::Budget)
      judgeForBudget(verdict, product);
    std::string why = problem.cost.target.whyNotRun(verdict.formats);
    if (why.empty())
      price(verdict, problem.cost, product);
    if (why.empty())
      why = whyMisaligned(product, verdict.formats, problem.alignment);
    if (why.empty() && verdict.formats.isEightBit())
      why = product.heldHigh;
    if (!why.empty()) {
      verdict.admitted = verdict.undecided = false;
      verdict.barred = true;
      verdict.why = why;
    }
    verdicts.push_back(std::move(verdict));
  }
  return verdicts;
}

/// Cheaper first; among equals the one that stays farthest below its bound.
bool isBetter(const Verdict &a, const Verdict &b) {
  return std::pair(a.formats.getBytes(), a.ratio) <
         std::pair(b.formats.getBytes(), b.ratio);
}

/// Reason, runner-up and margin of the high format: the cheaper candidate that
/// missed its bound by least, or the best one that a rule forbids.
void explainHigh(Decision &decision, const Product &product) {
  unsigned bytes = decision.chosen.getBytes();
  const Verdict *closest = nullptr, *barred = nullptr;
  for (const Verdict &verdict : decision.candidates) {
    if (verdict.formats.getBytes() >= bytes)
      continue;
    if (verdict.barred) {
      if (!barred || isBetter(verdict, *barred))
        barred = &verdict;
    } else if (!closest || verdict.ratio < closest->ratio) {
      closest = &verdict;
    }
  }
  if (closest) {
    decision.runnerUp = closest->formats;
    decision.margin = 1 / closest->ratio;
    decision.reason = nameOf(closest->formats) + ": " + closest->why;
  } else if (barred) {
    decision.runnerUp = barred->formats;
    decision.reason = barred->why;
  } else {
    decision.reason = "no cheaper candidate was measured";
  }
  if (!product.heldHigh.empty())
    decision.reason = product.heldHigh;
}

void chooseByThreshold(Decision &decision, const Problem &problem,
                       const Product &product) {
  const Verdict *best = nullptr, *next = nullptr;
  for (const Verdict &verdict : decision.candidates) {
    if (!verdict.admitted)
      continue;
    if (!best || isBetter(verdict, *best)) {
      next = best;
      best = &verdict;
    } else if (!next || isBetter(verdict, *next)) {
      next = &verdict;
    }
  }
  if (!best || best->formats.getBytes() >= decision.chosen.getBytes())
    return explainHigh(decision, product);
  decision.chosen = best->formats;
  if (best->ratio > 0)
    decision.margin = 1 / best->ratio;
  if (next)
    decision.runnerUp = next->formats;
  decision.reason =
      text(
          "cheapest within its bounds: be_median {0} of {1}, be_p99 {2} of {3}",
          number(get(best->metrics, "be_median")),
          number(decision.bound.error.median),
          number(get(best->metrics, "be_p99")),
          number(decision.bound.error.p99)) +
      whySlower(problem, product, decision.chosen);
}

//===----------------------------------------------------------------------===//
// uniform
//===----------------------------------------------------------------------===//

/// Every linear layer but the head: forward E4M3, gradients E5M2 and what they
/// are multiplied with E4M3.
void chooseUniform(Decision &decision, const Problem &problem,
                   const Product &product) {
  auto storage = [&](Side side) {
    return product.gradient == side ? Storage::E5M2 : Storage::E4M3;
  };
  FormatPair hybrid =
      pairOf(problem.context, storage(Side::Lhs), storage(Side::Rhs));
  std::string misaligned = whyMisaligned(product, hybrid, problem.alignment);
  if (!product.linear)
    decision.reason = "policy uniform: attention's products stay BF16";
  else if (product.head)
    decision.reason = "policy uniform: the loss head stays BF16";
  else if (!product.heldHigh.empty() || !misaligned.empty())
    decision.reason = product.heldHigh.empty() ? misaligned : product.heldHigh;
  else {
    decision.chosen = hybrid;
    decision.reason =
        "policy uniform: a linear layer" + whySlower(problem, product, hybrid);
  }
}

void choose(Decision &decision, const Problem &problem,
            const Product &product) {
  decision.chosen = pairOf(problem.context, Storage::BF16);
  switch (problem.policy) {
  case PolicyKind::Threshold:
    return chooseByThreshold(decision, problem, product);
  case PolicyKind::Budget:
    // All products together, in chooseByBudget: this is what is left if none
    // has anything to choose from.
    return explainHigh(decision, product);
  case PolicyKind::Uniform:
    return chooseUniform(decision, problem, product);
  case PolicyKind::BF16:
    decision.reason = "policy bf16";
    return;
  case PolicyKind::FP32:
    decision.chosen = pairOf(problem.context, Storage::F32);
    decision.reason = "policy fp32";
    return;
  }
}

bool isAdmitted(const Decision &decision) {
  return llvm::any_of(decision.candidates, [&](const Verdict &verdict) {
    return verdict.admitted && verdict.formats == decision.chosen;
  });
}

std::vector<StringRef> namesOf(ArrayRef<Product> products) {
  std::vector<StringRef> names;
  for (const Product &product : products)
    names.push_back(product.name);
  return names;
}

/// `'a', 'b' and 3 more`.
std::string list(ArrayRef<StringRef> names) {
  std::string text;
  for (StringRef name : names.take_front(kNamed))
    text += (text.empty() ? "'" : ", '") + name.str() + "'";
  if (names.size() > kNamed)
    text += " and " + std::to_string(names.size() - kNamed) + " more";
  return text;
}

} // namespace

//===----------------------------------------------------------------------===//
// Interface
//===----------------------------------------------------------------------===//

Bound precision::boundOf(Role role, int64_t k) {
  double c = role == Role::Fprop ? kForwardFactor : kGradientFactor;
  BackwardError normal = normalBackwardError(k);
  return {c, {c * normal.median, c * normal.p99}};
}

llvm::Error Problem::check() const {
  llvm::StringSet<> seen;
  for (const Product &product : products)
    if (!seen.insert(product.name).second)
      return llvm::createStringError("two products are named '" + product.name +
                                     "'");
  if (alignment < 1)
    return llvm::createStringError("alignment must be 1 or more, found " +
                                   Twine(alignment));
  if (policy == PolicyKind::Budget && !(limits.lossMse >= 0))
    return llvm::createStringError("policy budget needs loss-mse, the largest "
                                   "sum of forward errors: (1e-3 "
                                   "of the loss) squared is a start");
  if (whereItPays && policy != PolicyKind::Threshold)
    return llvm::createStringError(
        Twine("where-it-pays is of policy threshold, found ") + nameOf(policy) +
        ": budget weighs time by itself, the others never");
  auto matches = matchPins(pins, namesOf(products));
  if (!matches)
    return matches.takeError();
  bool usesMetrics =
      policy == PolicyKind::Threshold || policy == PolicyKind::Budget;
  std::vector<StringRef> missing;
  for (const auto &[product, pin] : llvm::zip(products, *matches)) {
    if (pin) {
      std::string why = whyMisaligned(product, pins[*pin].formats, alignment);
      if (!why.empty())
        return llvm::createStringError("pin '" + pins[*pin].text + "' on '" +
                                       product.name + "': " + why);
    } else if (usesMetrics && !product.metrics) {
      missing.push_back(product.name);
    }
    if (!product.metrics)
      continue;
    for (CandidateMetricsAttr candidate : product.metrics.getCandidates()) {
      DictionaryAttr values = candidate.getValues();
      FormatPair formats{candidate.getLhs(), candidate.getRhs()};
      for (StringRef name : {"be_median", "be_p99"})
        if (!(get(values, name, -1) >= 0))
          return llvm::createStringError("metrics of '" + product.name + "', " +
                                         nameOf(formats) + ": '" + name +
                                         "' is missing or not a number of 0 or "
                                         "more");
      if (product.metrics.getK() != product.k && !values.get("rescaled"))
        return llvm::createStringError(
            "metrics of '" + product.name +
            "' were taken at k = " + Twine(product.metrics.getK()) +
            ", the product has k = " + Twine(product.k) +
            ": attach them again");
    }
  }
  if (!missing.empty())
    return llvm::createStringError(
        Twine("policy ") + nameOf(policy) +
        " decides by metrics, which these products lack: " + list(missing) +
        "; run --mpt-attach-metrics first");
  return llvm::Error::success();
}

llvm::Expected<Outcome> precision::solve(const Problem &problem) {
  auto pins =
      llvm::cantFail(matchPins(problem.pins, namesOf(problem.products)));
  Outcome outcome;
  for (const Product &product : problem.products) {
    Decision decision;
    decision.bound = boundOf(product.role, product.k);
    decision.candidates = judgeAll(problem, product, decision.bound);
    choose(decision, problem, product);
    outcome.decisions.push_back(std::move(decision));
  }
  if (problem.policy == PolicyKind::Budget)
    if (llvm::Error error = chooseByBudget(problem, pins, outcome))
      return std::move(error);
  if (problem.whereItPays)
    if (llvm::Error error = keepWherePaying(problem, pins, outcome))
      return std::move(error);
  for (auto [decision, pin] : llvm::zip(outcome.decisions, pins)) {
    if (!pin)
      continue;
    decision.pin = problem.pins[*pin].text;
    if (decision.chosen != problem.pins[*pin].formats)
      decision.runnerUp = decision.chosen;
    decision.chosen = problem.pins[*pin].formats;
    decision.margin.reset();
    decision.reason = "pinned by '" + decision.pin + "'";
  }
  return outcome;
}

llvm::Error precision::verify(const Problem &problem,
                              ArrayRef<Decision> decisions) {
  if (decisions.size() != problem.products.size())
    return llvm::createStringError("one decision per product is expected");
  for (const auto &[product, decision] :
       llvm::zip(problem.products, decisions)) {
    std::string why = problem.cost.target.whyNotRun(decision.chosen);
    if (why.empty())
      why = whyMisaligned(product, decision.chosen, problem.alignment);
    if (why.empty() && decision.chosen.isEightBit() && decision.pin.empty()) {
      if (!product.heldHigh.empty())
        why = product.heldHigh;
      else if (problem.policy != PolicyKind::Uniform && !isAdmitted(decision))
        why = nameOf(decision.chosen) + " was not admitted";
    }
    if (!why.empty())
      return llvm::createStringError("the decision on '" + product.name +
                                     "' breaks a rule: " + why);
  }
  return llvm::Error::success();
}
