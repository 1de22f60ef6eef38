//===- DecisionRecord.cpp - decisions.json --------------------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// See DecisionRecord.h.
//
//===----------------------------------------------------------------------===//

#include "mpt/Precision/DecisionRecord.h"
#include "JsonReader.h"
#include "mpt/Precision/Prediction.h"
#include <map>

using namespace mlir;
using namespace mpt;
using namespace mpt::precision;

namespace {

struct Writer : JsonWriter {
  using JsonWriter::JsonWriter;

  void format(StringRef key, FormatAttr format) {
    json.attributeObject(key, [&] {
      json.attribute("storage", stringifyStorage(format.getStorage()));
      json.attribute("scale", stringifyGranularity(format.getScale()));
      json.attribute("recipe", stringifyRecipe(format.getRecipe()));
      json.attribute("rounding", stringifyRounding(format.getRounding()));
      FormatAttr plain =
          FormatAttr::get(format.getContext(), format.getStorage());
      if (format.getHistory() != plain.getHistory())
        json.attribute("history", format.getHistory());
      if (format.getMargin() != plain.getMargin())
        json.attribute("margin", format.getMargin());
      if (format.getValue() != plain.getValue())
        number("value", format.getValue().convertToDouble());
    });
  }
  void formats(const FormatPair &formats) {
    format("lhs", formats.lhs);
    format("rhs", formats.rhs);
  }
  void error(StringRef median, StringRef p99, const BackwardError &error) {
    number(median, error.median);
    number(p99, error.p99);
  }

  void metrics(DictionaryAttr values);
  void candidate(const Verdict &verdict);
  void product(const Problem &problem, const Product &product,
               const Decision &decision);
  void summary(const Problem &problem, ArrayRef<Decision> decisions);
  void predicted(const Problem &problem, ArrayRef<Decision> decisions);
  void budget(const Outcome &outcome);
};

void Writer::metrics(DictionaryAttr values) {
  for (NamedAttribute value : values) {
    if (auto real = dyn_cast<FloatAttr>(value.getValue()))
      number(value.getName(), real.getValueAsDouble());
    else if (auto integer = dyn_cast<IntegerAttr>(value.getValue()))
      json.attribute(value.getName(), integer.getInt());
  }
}

void Writer::candidate(const Verdict &verdict) {
  json.object([&] {
    formats(verdict.formats);
    json.attributeObject("metrics", [&] { metrics(verdict.metrics); });
    json.attribute("admitted", verdict.admitted);
    json.attribute("undecided", verdict.undecided);
    number("ratio", verdict.ratio);
    json.attribute("why", verdict.why);
    if (verdict.us > 0) {
      number("us", verdict.us);
      number("work_us", verdict.workUs);
    }
  });
}

void Writer::product(const Problem &problem, const Product &product,
                     const Decision &decision) {
  json.attribute("name", product.name);
  json.attribute("role", stringifyRole(product.role));
  for (auto [key, size] : {std::pair("m", product.m),
                           {"n", product.n},
                           {"k", product.k},
                           {"batch", product.batch}})
    json.attribute(key, size);
  number("flops", product.getFlops());
  if (product.metrics)
    json.attributeObject("profiled", [&] {
      json.attribute("m", product.metrics.getM());
      json.attribute("n", product.metrics.getN());
      json.attribute("k", product.metrics.getK());
    });
  if (product.priced)
    json.attributeObject("priced", [&] {
      json.attribute("m", product.priced->m);
      json.attribute("n", product.priced->n);
      json.attribute("k", product.priced->k);
      json.attribute("batch", product.priced->batch);
    });
  json.attributeArray("candidates", [&] {
    for (const Verdict &verdict : decision.candidates)
      candidate(verdict);
  });
  json.attributeObject("bound", [&] {
    number("c", decision.bound.c);
    error("be_median", "be_p99", decision.bound.error);
  });
  json.attributeObject("chosen", [&] { formats(decision.chosen); });
  if (decision.runnerUp)
    json.attributeObject("runner_up", [&] { formats(*decision.runnerUp); });
  else
    json.attribute("runner_up", nullptr);
  if (decision.margin)
    number("margin", *decision.margin);
  else
    json.attribute("margin", nullptr);
  json.attribute("reason", decision.reason);
  if (decision.pin.empty())
    json.attribute("pin", nullptr);
  else
    json.attribute("pin", decision.pin);
  ProductTime time = problem.cost.timeOf(product.getShape(), decision.chosen);
  number("us", time.us);
  json.attribute("measured", time.measured);
}

void Writer::summary(const Problem &problem, ArrayRef<Decision> decisions) {
  struct Share {
    int64_t products = 0;
    double flops = 0;
  };
  std::map<std::string, Share> shares;
  double total = 0;
  for (const auto &[product, decision] :
       llvm::zip(problem.products, decisions)) {
    Share &share = shares[nameOf(decision.chosen)];
    ++share.products;
    share.flops += product.getFlops();
    total += product.getFlops();
  }
  json.attribute("products", static_cast<int64_t>(decisions.size()));
  number("flops", total);
  json.attributeArray("formats", [&] {
    for (const auto &[name, share] : shares)
      json.object([&, &name = name, &share = share] {
        json.attribute("format", name);
        json.attribute("products", share.products);
        number("flops", share.flops);
        number("share", total > 0 ? share.flops / total : 0);
      });
  });
}

/// Time of the products and of the work that they share, as assigned and with
/// all operands in BF16.
void Writer::predicted(const Problem &problem, ArrayRef<Decision> decisions) {
  std::vector<FormatPair> formats;
  for (const Decision &decision : decisions)
    formats.push_back(decision.chosen);
  Prediction assigned = predict(problem, formats);
  formats.assign(formats.size(), pairOf(problem.context, Storage::BF16));
  number("products_us", assigned.products);
  number("work_us", assigned.work);
  number("work_bytes", assigned.workBytes);
  number("total_us", assigned.getTotal());
  number("bf16_us", predict(problem, formats).getTotal());
}

void Writer::budget(const Outcome &outcome) {
  const budget::Solution &solution = *outcome.budget;
  json.attribute("status", nameOf(solution.status));
  number("proven_us", solution.proven);
  number("dual_bound_us", solution.dualBound);
  json.attributeArray("pin_prices_us", [&] {
    for (double price : outcome.pinPrices)
      value(price);
  });
  json.attributeArray("bounds", [&] {
    for (const auto &[bound, sum, multiplier] : llvm::zip(
             outcome.model->bounds, solution.errors, solution.multipliers))
      json.object([&, &bound = bound, &sum = sum, &multiplier = multiplier] {
        json.attribute("name", bound.name);
        number("limit", bound.limit);
        number("sum", sum);
        number("multiplier", multiplier);
      });
  });
}

} // namespace

void precision::writeDecisions(llvm::raw_ostream &os, const Problem &problem,
                               const Outcome &outcome, StringRef graphHash) {
  ArrayRef<Decision> decisions = outcome.decisions;
  Writer writer(os);
  llvm::json::OStream &json = writer.json;
  json.object([&] {
    json.attribute("format", "mpt-decisions");
    json.attribute("version", kDecisionRecordVersion);
    json.attribute("graph_hash", graphHash);
    json.attribute("policy", nameOf(problem.policy));
    if (problem.whereItPays)
      json.attribute("where_it_pays", true);
    json.attribute("target", problem.cost.target.name);
    json.attribute("alignment", problem.alignment);
    json.attributeArray("pins", [&] {
      for (const Pin &pin : problem.pins)
        json.value(pin.text);
    });
    json.attributeObject("summary",
                         [&] { writer.summary(problem, decisions); });
    json.attributeObject("predicted",
                         [&] { writer.predicted(problem, decisions); });
    if (outcome.budget)
      json.attributeObject("budget", [&] { writer.budget(outcome); });
    json.attributeArray("products", [&] {
      for (const auto &[product, decision] :
           llvm::zip(problem.products, decisions))
        json.object([&, &product = product, &decision = decision] {
          writer.product(problem, product, decision);
        });
    });
  });
  os << "\n";
}

llvm::Error precision::writeDecisionsFile(StringRef path,
                                          const Problem &problem,
                                          const Outcome &outcome,
                                          StringRef graphHash) {
  llvm::Error error = llvm::writeToOutput(path, [&](llvm::raw_ostream &os) {
    writeDecisions(os, problem, outcome, graphHash);
    return llvm::Error::success();
  });
  if (error)
    return llvm::createStringError(
        "decision record '" + path +
        "' cannot be written: " + llvm::toString(std::move(error)));
  return llvm::Error::success();
}
