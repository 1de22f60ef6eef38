//===- Kept.cpp - formats of what the backward pass reads again -----------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// See Kept.h. The choice is that of Budget.h, with bytes in the place of time.
//
//===----------------------------------------------------------------------===//

#include "mpt/Precision/Kept.h"
#include "JsonReader.h"
#include "mpt/Precision/Budget.h"
#include "mpt/Support/Json.h"
#include "llvm/Support/MemoryBuffer.h"

using namespace mlir;
using namespace mpt;
using namespace mpt::precision;

//===----------------------------------------------------------------------===//
// The file
//===----------------------------------------------------------------------===//

namespace {

struct KeptReader : JsonReader {
  MLIRContext *context;
  KeptProfile profile;

  KeptReader(MLIRContext *context, StringRef source)
      : JsonReader(source), context(context) {
    profile.source = source.str();
  }

  bool candidate(const llvm::json::Value &value, const std::string &place,
                 std::vector<KeptCandidate> &candidates) {
    const llvm::json::Object *entry = asObject(value, place);
    std::string name;
    KeptCandidate found;
    if (!entry || !string(*entry, place, "format", name) ||
        !number(*entry, place, "noise_ratio", found.noiseRatio) ||
        !number(*entry, place, "noise_ratio_spread", found.spread))
      return false;
    auto pair = parseFormats(context, name);
    if (!pair)
      return fail(place, llvm::toString(pair.takeError()));
    if (pair->lhs != pair->rhs)
      return fail(place, "'format' is '" + name + "', expected one format");
    found.format = pair->lhs;
    for (const KeptCandidate &other : candidates)
      if (other.format == found.format)
        return fail(place, "format '" + name + "' is there twice");
    candidates.push_back(found);
    return true;
  }

  bool tensor(const llvm::json::Value &value, const std::string &place) {
    const llvm::json::Object *entry = asObject(value, place);
    std::string name;
    if (!entry || !string(*entry, place, "name", name))
      return false;
    const llvm::json::Array *list = array(*entry, place, "candidates");
    if (!list)
      return false;
    auto [it, isNew] = profile.tensors.try_emplace(name);
    if (!isNew)
      return fail(place, "tensor '" + name + "' is there twice");
    for (const auto &[i, one] : llvm::enumerate(*list))
      if (!candidate(one, place + ".candidates[" + std::to_string(i) + "]",
                     it->second))
        return false;
    return true;
  }

  bool read(const llvm::json::Value &root) {
    const llvm::json::Object *object = asObject(root, "");
    if (!object || !header(*object, "mpt-kept", 1) ||
        !string(*object, "", "graph_hash", profile.graphHash))
      return false;
    const llvm::json::Array *list = array(*object, "", "tensors");
    if (!list)
      return false;
    for (const auto &[i, one] : llvm::enumerate(*list))
      if (!tensor(one, "tensors[" + std::to_string(i) + "]"))
        return false;
    return true;
  }
};

} // namespace

llvm::Expected<KeptProfile> precision::parseKeptProfile(MLIRContext *context,
                                                        StringRef text,
                                                        StringRef source) {
  KeptReader reader(context, source);
  auto root = parseJson(text);
  if (!root)
    return llvm::createStringError(source + ": " +
                                   llvm::toString(root.takeError()));
  if (!reader.read(*root))
    return llvm::createStringError(reader.error);
  return std::move(reader.profile);
}

llvm::Expected<KeptProfile> precision::readKeptProfile(MLIRContext *context,
                                                       StringRef path) {
  auto buffer = llvm::MemoryBuffer::getFile(path);
  if (!buffer)
    return llvm::createStringError(
        "profile of kept tensors '" + path +
        "' cannot be read: " + buffer.getError().message());
  return parseKeptProfile(context, (*buffer)->getBuffer(), path);
}

//===----------------------------------------------------------------------===//
// The decision
//===----------------------------------------------------------------------===//

namespace {

constexpr double kF32Bytes = 4;
constexpr double kMega = 1e6;

struct Decider {
  const KeptProblem &problem;
  const CostModel &cost;
  FormatAttr f32, bf16;

  Decider(const KeptProblem &problem, const CostModel &cost)
      : problem(problem), cost(cost),
        f32(FormatAttr::get(problem.context, Storage::F32)),
        bf16(FormatAttr::get(problem.context, Storage::BF16)) {}

  KeptDecision decision(const KeptItem &item, FormatAttr format,
                        std::string reason) const;
  llvm::Error checkProfile() const;
  const std::vector<KeptCandidate> *measured(const KeptItem &item) const;
  llvm::Expected<KeptOutcome> solve() const;
  llvm::Expected<KeptOutcome> run() const;
};

/// What f32 would take: a write, unless a product wrote it anyway, and a read.
KeptDecision Decider::decision(const KeptItem &item, FormatAttr format,
                               std::string reason) const {
  KeptDecision result;
  result.format = format;
  result.reason = std::move(reason);
  if (format.getStorage() != Storage::F32) {
    double narrow = format.getBytes();
    result.savedBytes = (kF32Bytes - narrow) * item.elements;
    Tensor tensor{item.name, item.elements, /*hasProducer=*/true};
    double us = 0;
    for (const Work &work : cost.workOf(tensor, format, /*turned=*/false))
      us += work.us;
    double bytesPerUs = cost.target.getBytesPerUs();
    double writes = item.isProduct ? 0 : kF32Bytes * item.elements;
    result.savedUs =
        (writes + (kF32Bytes - narrow) * item.elements) / bytesPerUs - us;
    if (const auto *candidates = measured(item))
      for (const KeptCandidate &candidate : *candidates)
        if (candidate.format == format)
          result.noiseRatio = candidate.getUpper();
  }
  return result;
}

const std::vector<KeptCandidate> *
Decider::measured(const KeptItem &item) const {
  if (!problem.profile)
    return nullptr;
  auto it = problem.profile->tensors.find(item.name);
  return it == problem.profile->tensors.end() ? nullptr : &it->second;
}

llvm::Error Decider::checkProfile() const {
  if (!problem.profile)
    return problem.policy == KeptPolicy::Auto
               ? llvm::createStringError(
                     "kept=auto needs kept-profile=<kept.json>, which mptc "
                     "kept measures")
               : llvm::Error::success();
  if (problem.profile->graphHash != problem.graphHash)
    return llvm::createStringError(
        problem.profile->source +
        ": measured on another graph: expected graph_hash '" +
        problem.graphHash + "', found '" + problem.profile->graphHash + "'");
  for (const KeptItem &item : problem.items)
    if (item.heldHigh.empty() && !measured(item))
      return llvm::createStringError(problem.profile->source +
                                     ": nothing was measured of '" + item.name +
                                     "', which the backward pass reads");
  return llvm::Error::success();
}

/// The least bytes under the bound. What saves bytes and takes longer is no
/// candidate.
llvm::Expected<KeptOutcome> Decider::solve() const {
  budget::Problem model;
  model.bounds.push_back({"noise_ratio", problem.limit});
  std::vector<std::vector<KeptDecision>> choices;
  for (const KeptItem &item : problem.items) {
    std::vector<KeptDecision> all{
        decision(item, f32,
                 item.heldHigh.empty() ? "no candidate of fewer bytes fits "
                                         "the bound on the noise ratio"
                                       : item.heldHigh)};
    if (item.heldHigh.empty())
      for (const KeptCandidate &candidate : *measured(item))
        if (candidate.format != f32) {
          KeptDecision low =
              decision(item, candidate.format,
                       "least bytes under the bound on the noise ratio");
          if (low.savedUs >= 0)
            all.push_back(std::move(low));
          else
            all[0].reason = "rounding it takes longer than it saves";
        }
    budget::Product product{item.name, {}};
    for (const KeptDecision &one : all)
      product.candidates.push_back(
          {nameOf(one.format),
           (kF32Bytes * item.elements - one.savedBytes) / kMega,
           {one.noiseRatio.value_or(0)},
           {}});
    model.products.push_back(std::move(product));
    choices.push_back(std::move(all));
  }
  if (llvm::Error error = model.check())
    return std::move(error);
  auto solution = budget::solve(model);
  if (!solution)
    return solution.takeError();
  if (llvm::Error error = budget::verify(model, *solution))
    return std::move(error);
  KeptOutcome outcome;
  for (const auto &[i, all] : llvm::enumerate(choices))
    outcome.decisions.push_back(all[solution->chosen[i]]);
  return outcome;
}

llvm::Expected<KeptOutcome> Decider::run() const {
  if (llvm::Error error = checkProfile())
    return std::move(error);
  KeptOutcome outcome;
  if (problem.policy == KeptPolicy::Auto && !problem.items.empty()) {
    auto solved = solve();
    if (!solved)
      return solved.takeError();
    outcome = std::move(*solved);
  } else {
    for (const KeptItem &item : problem.items) {
      bool low = problem.policy == KeptPolicy::BF16 && item.heldHigh.empty();
      outcome.decisions.push_back(
          decision(item, low ? bf16 : f32,
                   item.heldHigh.empty()
                       ? std::string("policy ") + nameOf(problem.policy)
                       : item.heldHigh));
    }
  }
  for (const auto &[item, decision] :
       llvm::zip(problem.items, outcome.decisions)) {
    outcome.f32Bytes += kF32Bytes * item.elements;
    outcome.bytes += kF32Bytes * item.elements - decision.savedBytes;
    outcome.noiseRatio += decision.noiseRatio.value_or(0);
  }
  return outcome;
}

} // namespace

llvm::Expected<KeptOutcome> precision::decideKept(const KeptProblem &problem,
                                                  const CostModel &cost) {
  return Decider(problem, cost).run();
}
