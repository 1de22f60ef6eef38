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

/// Where the things that candidates share are, by name.
using SharedIndex = StringMap<unsigned>;

SharedIndex readShared(JsonNode list, Problem &problem) {
  SharedIndex index;
  for (JsonNode node : list.items()) {
    Shared shared{node.field("name").nonEmpty(), node.field("time").number()};
    if (node && !index.try_emplace(shared.name, problem.shared.size()).second)
      node.fail("'" + shared.name + "' is there twice");
    problem.shared.push_back(std::move(shared));
  }
  return index;
}

Candidate readCandidate(JsonNode node, const Problem &problem,
                        const SharedIndex &index) {
  Candidate candidate;
  candidate.name = node.field("name").nonEmpty();
  candidate.time = node.field("time").number();
  JsonNode errors = node.field("errors");
  for (const Bound &bound : problem.bounds)
    candidate.errors.push_back(errors.field(bound.name).number());
  for (JsonNode entry : node.field("shared").items()) {
    std::string name = entry.nonEmpty();
    auto it = index.find(name);
    if (entry && it == index.end())
      entry.fail("expected a name of 'shared', found '" + name + "'");
    else if (entry)
      candidate.shared.push_back(it->second);
  }
  llvm::sort(candidate.shared);
  return candidate;
}

void readProblem(JsonNode root, Problem &problem) {
  root.header("mpt-budget", kBudgetFileVersion);
  for (JsonNode node : root.field("bounds").items())
    problem.bounds.push_back(
        {node.field("name").nonEmpty(), node.field("limit").number()});
  SharedIndex index = readShared(root.field("shared"), problem);
  for (JsonNode node : root.field("products").items()) {
    Product product;
    product.name = node.field("name").nonEmpty();
    for (JsonNode candidate : node.field("candidates").items())
      product.candidates.push_back(readCandidate(candidate, problem, index));
    problem.products.push_back(std::move(product));
  }
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
  Problem problem;
  if (Error error = readDocument(
          text, source, [&](JsonNode root) { readProblem(root, problem); }))
    return std::move(error);
  if (Error error = problem.check())
    return createStringError(source + ": " + toString(std::move(error)));
  return problem;
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
