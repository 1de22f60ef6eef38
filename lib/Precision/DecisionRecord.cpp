//===- DecisionRecord.cpp - decisions.json --------------------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// See DecisionRecord.h.
//
//===----------------------------------------------------------------------===//

#include "mpt/Precision/DecisionRecord.h"
#include "llvm/Support/JSON.h"
#include "llvm/Support/raw_ostream.h"
#include <charconv>
#include <cmath>
#include <map>

using namespace mlir;
using namespace mpt;
using namespace mpt::precision;

namespace {

struct Writer {
  llvm::json::OStream json;

  explicit Writer(llvm::raw_ostream &os) : json(os, /*IndentSize=*/1) {}

  /// The shortest text that reads back as `x`; null if it is not finite.
  void number(StringRef key, double x) {
    if (!std::isfinite(x))
      return json.attribute(key, nullptr);
    char buffer[32];
    auto end = std::to_chars(buffer, buffer + sizeof(buffer), x).ptr;
    json.attributeBegin(key);
    json.rawValue(StringRef(buffer, end - buffer));
    json.attributeEnd();
  }
  void format(StringRef key, FormatAttr format) {
    json.attributeObject(key, [&] {
      json.attribute("storage", stringifyStorage(format.getStorage()));
      json.attribute("scale", stringifyGranularity(format.getScale()));
      json.attribute("recipe", stringifyRecipe(format.getRecipe()));
      json.attribute("rounding", stringifyRounding(format.getRounding()));
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
  void product(const Product &product, const Decision &decision);
  void summary(const Problem &problem, ArrayRef<Decision> decisions);
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
  });
}

void Writer::product(const Product &product, const Decision &decision) {
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

} // namespace

void precision::writeDecisions(llvm::raw_ostream &os, const Problem &problem,
                               ArrayRef<Decision> decisions,
                               StringRef graphHash) {
  Writer writer(os);
  llvm::json::OStream &json = writer.json;
  json.object([&] {
    json.attribute("format", "mpt-decisions");
    json.attribute("version", kDecisionRecordVersion);
    json.attribute("graph_hash", graphHash);
    json.attribute("policy", nameOf(problem.policy));
    json.attribute("alignment", problem.alignment);
    json.attributeArray("pins", [&] {
      for (const Pin &pin : problem.pins)
        json.value(pin.text);
    });
    json.attributeObject("summary",
                         [&] { writer.summary(problem, decisions); });
    json.attributeArray("products", [&] {
      for (const auto &[product, decision] :
           llvm::zip(problem.products, decisions))
        json.object([&, &product = product, &decision = decision] {
          writer.product(product, decision);
        });
    });
  });
  os << "\n";
}

llvm::Error precision::writeDecisionsFile(StringRef path,
                                          const Problem &problem,
                                          ArrayRef<Decision> decisions,
                                          StringRef graphHash) {
  llvm::Error error = llvm::writeToOutput(path, [&](llvm::raw_ostream &os) {
    writeDecisions(os, problem, decisions, graphHash);
    return llvm::Error::success();
  });
  if (error)
    return llvm::createStringError(
        "decision record '" + path +
        "' cannot be written: " + llvm::toString(std::move(error)));
  return llvm::Error::success();
}
