//===- BudgetFile.cpp - budget problems and solutions as JSON -------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// See BudgetFile.h.
//
//===----------------------------------------------------------------------===//

#include "mpt/Precision/BudgetFile.h"
#include "JsonReader.h"
#include "llvm/ADT/StringMap.h"

using namespace llvm;
using namespace mpt::precision;
using namespace mpt::precision::budget;

namespace {

struct Reader : JsonReader {
  Problem problem;
  StringMap<unsigned> sharedIndex;

  using JsonReader::JsonReader;

  bool readBounds(const json::Array &list);
  bool readShared(const json::Array &list);
  bool readCandidate(const json::Value &value, const std::string &place,
                     Candidate &candidate);
  bool readProducts(const json::Array &list);
  bool read(const json::Value &root);
};

bool Reader::readBounds(const json::Array &list) {
  for (const auto &[i, value] : enumerate(list)) {
    std::string place = "bounds[" + std::to_string(i) + "]";
    Bound bound;
    const json::Object *object = asObject(value, place);
    if (!object || !string(*object, place, "name", bound.name) ||
        !number(*object, place, "limit", bound.limit))
      return false;
    problem.bounds.push_back(std::move(bound));
  }
  return true;
}

bool Reader::readShared(const json::Array &list) {
  for (const auto &[i, value] : enumerate(list)) {
    std::string place = "shared[" + std::to_string(i) + "]";
    Shared shared;
    const json::Object *object = asObject(value, place);
    if (!object || !string(*object, place, "name", shared.name) ||
        !number(*object, place, "time", shared.time))
      return false;
    if (!sharedIndex.try_emplace(shared.name, i).second)
      return fail(place, "'" + shared.name + "' is there twice");
    problem.shared.push_back(std::move(shared));
  }
  return true;
}

bool Reader::readCandidate(const json::Value &value, const std::string &place,
                           Candidate &candidate) {
  const json::Object *object = asObject(value, place);
  if (!object || !string(*object, place, "name", candidate.name) ||
      !number(*object, place, "time", candidate.time))
    return false;
  const json::Object *errors = this->object(*object, place, "errors");
  if (!errors)
    return false;
  for (const Bound &bound : problem.bounds) {
    double error;
    if (!number(*errors, place + ".errors", bound.name, error))
      return false;
    candidate.errors.push_back(error);
  }
  const json::Array *shared = array(*object, place, "shared");
  if (!shared)
    return false;
  for (const json::Value &entry : *shared) {
    auto name = entry.getAsString();
    auto it = name ? sharedIndex.find(*name) : sharedIndex.end();
    if (it == sharedIndex.end())
      return fail(place + ".shared",
                  "names of 'shared' are expected, found " + describe(entry));
    candidate.shared.push_back(it->second);
  }
  llvm::sort(candidate.shared);
  return true;
}

bool Reader::readProducts(const json::Array &list) {
  for (const auto &[i, value] : enumerate(list)) {
    std::string place = "products[" + std::to_string(i) + "]";
    Product product;
    const json::Object *object = asObject(value, place);
    if (!object || !string(*object, place, "name", product.name))
      return false;
    const json::Array *candidates = array(*object, place, "candidates");
    if (!candidates)
      return false;
    for (const auto &[c, candidate] : enumerate(*candidates)) {
      product.candidates.emplace_back();
      if (!readCandidate(candidate,
                         place + ".candidates[" + std::to_string(c) + "]",
                         product.candidates.back()))
        return false;
    }
    problem.products.push_back(std::move(product));
  }
  return true;
}

bool Reader::read(const json::Value &root) {
  const json::Object *object = asObject(root, "");
  if (!object || !header(*object, "mpt-budget", kBudgetFileVersion))
    return false;
  const json::Array *bounds = array(*object, "", "bounds");
  const json::Array *shared = bounds ? array(*object, "", "shared") : nullptr;
  const json::Array *products =
      shared ? array(*object, "", "products") : nullptr;
  return products && readBounds(*bounds) && readShared(*shared) &&
         readProducts(*products);
}

/// An object with one number per bound.
void perBound(JsonWriter &writer, const Problem &problem, StringRef key,
              ArrayRef<double> values) {
  writer.json.attributeObject(key, [&] {
    for (const auto &[bound, value] : zip(problem.bounds, values))
      writer.number(bound.name, value);
  });
}

} // namespace

Expected<Problem> budget::parseProblem(StringRef text, StringRef source) {
  Reader reader(source);
  Expected<json::Value> root = json::parse(text);
  if (!root)
    return createStringError(source + ": " + toString(root.takeError()));
  if (!reader.read(*root))
    return createStringError(reader.error);
  if (Error error = reader.problem.check())
    return createStringError(source + ": " + toString(std::move(error)));
  return std::move(reader.problem);
}

void budget::writeProblem(raw_ostream &os, const Problem &problem) {
  JsonWriter writer(os);
  json::OStream &json = writer.json;
  auto candidate = [&](const Candidate &candidate) {
    json.attribute("name", candidate.name);
    writer.number("time", candidate.time);
    perBound(writer, problem, "errors", candidate.errors);
    json.attributeArray("shared", [&] {
      for (unsigned shared : candidate.shared)
        json.value(problem.shared[shared].name);
    });
  };
  json.object([&] {
    json.attribute("format", "mpt-budget");
    json.attribute("version", kBudgetFileVersion);
    json.attributeArray("bounds", [&] {
      for (const Bound &bound : problem.bounds)
        json.object([&] {
          json.attribute("name", bound.name);
          writer.number("limit", bound.limit);
        });
    });
    json.attributeArray("shared", [&] {
      for (const Shared &shared : problem.shared)
        json.object([&] {
          json.attribute("name", shared.name);
          writer.number("time", shared.time);
        });
    });
    json.attributeArray("products", [&] {
      for (const Product &product : problem.products)
        json.object([&] {
          json.attribute("name", product.name);
          json.attributeArray("candidates", [&] {
            for (const Candidate &entry : product.candidates)
              json.object([&] { candidate(entry); });
          });
        });
    });
  });
  json.flush();
  os << "\n";
}

void budget::writeSolution(raw_ostream &os, const Problem &problem,
                           const Solution &solution) {
  JsonWriter writer(os);
  json::OStream &json = writer.json;
  json.object([&] {
    json.attribute("format", "mpt-budget-solution");
    json.attribute("version", kBudgetFileVersion);
    json.attribute("status", nameOf(solution.status));
    json.attribute("nodes", solution.nodes);
    if (solution.status == Status::Infeasible) {
      perBound(writer, problem, "smallest", solution.smallest);
      if (!problem.bounds.empty())
        json.attribute("least_feasible",
                       problem.bounds[solution.leastFeasible].name);
    }
    if (solution.chosen.empty())
      return;
    writer.number("time", solution.time);
    writer.number("proven", solution.proven);
    writer.number("dual_bound", solution.dualBound);
    perBound(writer, problem, "multipliers", solution.multipliers);
    perBound(writer, problem, "errors", solution.errors);
    json.attributeObject("chosen", [&] {
      for (const auto &[product, chosen] :
           zip(problem.products, solution.chosen))
        json.attribute(product.name, product.candidates[chosen].name);
    });
  });
  json.flush();
  os << "\n";
}
