//===- Target.cpp - what a target runs, and how fast ----------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// See Target.h.
//
//===----------------------------------------------------------------------===//

#include "mpt/Precision/Target.h"
#include "JsonReader.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/MemoryBuffer.h"

using namespace mlir;
using namespace mpt;
using namespace mpt::precision;

namespace {

struct BuiltIn {
  StringLiteral name, text;
};
constexpr BuiltIn kBuiltIn[] = {
#include "mpt/Precision/Targets.inc"
};

/// `"key": {"value": ..., "unit": unit, "source": "..."}`, above 0 unless it
/// may be 0.
Figure readFigure(JsonNode parent, StringRef key, StringRef unit,
                  bool mayBeZero = false) {
  JsonNode node = parent.field(key);
  Figure figure;
  figure.value =
      mayBeZero ? node.field("value").number() : node.field("value").positive();
  std::string found = node.field("unit").nonEmpty();
  if (node && found != unit)
    node.field("unit").fail("expected '" + unit + "', found '" + found + "'");
  figure.source = node.field("source").nonEmpty();
  return figure;
}

Figure readShare(JsonNode parent, StringRef key) {
  Figure figure = readFigure(parent, key, "share");
  if (parent && figure.value > 1)
    parent.field(key).fail("a share above 1");
  return figure;
}

void readFigures(JsonNode node, Target &target) {
  target.memoryBandwidth = readFigure(node, "memory_bandwidth", "GB/s");
  target.memoryEfficiency = readShare(node, "memory_efficiency");
  target.launch = readFigure(node, "launch", "us", /*mayBeZero=*/true);
  target.units = readFigure(node, "units", "processors");
  target.resultBytes = readFigure(node, "result_bytes", "bytes");
}

void readTiles(JsonNode node, Target &target) {
  for (JsonNode shape : node.field("shapes").items()) {
    std::vector<JsonNode> sizes = shape.items();
    if (node && sizes.size() != 2)
      shape.fail("expected two integers, found " + Twine(sizes.size()));
    if (node)
      target.tiles.push_back({sizes[0].integer(1), sizes[1].integer(1)});
  }
  for (JsonNode split : node.field("splits").items())
    target.splits.push_back(split.integer(1));
  node.field("source").nonEmpty();
  if (node && target.tiles.empty())
    node.fail("'shapes' is empty");
  if (node && !llvm::is_contained(target.splits, 1))
    node.fail("'splits' must contain 1");
}

void readRates(JsonNode node, Target &target) {
  for (const std::string &name : node.names()) {
    JsonNode entry = node.field(name);
    Rate rate;
    rate.name = name;
    rate.peak = readFigure(entry, "peak", "TFLOP/s");
    rate.efficiency = readShare(entry, "efficiency");
    rate.overheadK = readFigure(entry, "overhead_k", "elements of k",
                                /*mayBeZero=*/true);
    target.rates.push_back(std::move(rate));
  }
}

template <typename Enum>
std::vector<Enum> readList(JsonNode node,
                           std::optional<Enum> (*symbolize)(StringRef)) {
  std::vector<Enum> result;
  for (JsonNode item : node.items())
    result.push_back(item.name(symbolize));
  if (node && result.empty())
    node.fail("is empty");
  return result;
}

Combination readCombination(JsonNode node, const Target &target) {
  Combination combination;
  combination.lhs = readList(node.field("lhs"), symbolizeStorage);
  combination.rhs = readList(node.field("rhs"), symbolizeStorage);
  auto isScaled = [](Storage storage) {
    return storage != Storage::F32 && storage != Storage::BF16;
  };
  if (llvm::any_of(combination.lhs, isScaled) ||
      llvm::any_of(combination.rhs, isScaled)) {
    combination.scales = readList(node.field("scale"), symbolizeGranularity);
    combination.recipes = readList(node.field("recipe"), symbolizeRecipe);
    combination.roundings = readList(node.field("rounding"), symbolizeRounding);
  }
  std::string rate = node.field("rate").nonEmpty();
  auto known = llvm::find_if(target.rates,
                             [&](const Rate &r) { return r.name == rate; });
  if (node && known == target.rates.end())
    node.field("rate").fail("'" + rate + "' is not in 'rates'");
  combination.rate = known - target.rates.begin();
  std::string layout = node.field("layout").nonEmpty();
  if (node && layout != "any" && layout != "k_major")
    node.field("layout").fail("expected 'any' or 'k_major', found '" + layout +
                              "'");
  combination.kMajor = layout == "k_major";
  combination.alignment = node.field("alignment").integer(1);
  node.field("source").nonEmpty();
  return combination;
}

void readProducts(JsonNode node, Target &target) {
  for (JsonNode product : node.items())
    target.combinations.push_back(readCombination(product, target));
  // What a product falls back to must run.
  for (Storage storage : {Storage::F32, Storage::BF16})
    if (node && llvm::none_of(target.combinations, [&](const Combination &c) {
          return llvm::is_contained(c.lhs, storage) &&
                 llvm::is_contained(c.rhs, storage);
        }))
      node.fail("none is " + stringifyStorage(storage) + " x " +
                stringifyStorage(storage));
}

Place readPlace(JsonNode node) {
  std::string where = node.field("where").nonEmpty();
  if (node && where != "producer" && where != "pass")
    node.field("where").fail("expected 'producer' or 'pass', found '" + where +
                             "'");
  node.field("source").nonEmpty();
  return where == "producer" ? Place::Producer : Place::Pass;
}

void readCasts(JsonNode node, Target &target) {
  target.amax = readPlace(node.field("amax"));
  target.amaxLaunches = node.field("amax").field("launches").integer(0);
  for (auto [key, recipe] : {std::pair("bf16", Recipe::None),
                             {"current", Recipe::Current},
                             {"delayed", Recipe::Delayed},
                             {"fixed", Recipe::Fixed}})
    target.casts[static_cast<size_t>(recipe)] = readPlace(node.field(key));
  target.transposed = readPlace(node.field("transposed"));
}

void readTarget(JsonNode root, Target &target) {
  root.header("mpt-target", 1);
  target.name = root.field("name").nonEmpty();
  target.device = root.field("device").nonEmpty();
  readFigures(root.field("figures"), target);
  readTiles(root.field("tiles"), target);
  readRates(root.field("rates"), target);
  readProducts(root.field("products"), target);
  readCasts(root.field("casts"), target);
}

} // namespace

/// Why no target can run `formats`, or "".
static std::string whyImpossible(const FormatPair &formats) {
  for (auto [format, side, along] :
       {std::tuple(formats.lhs, "lhs", Granularity::PerRow),
        {formats.rhs, "rhs", Granularity::PerColumn}}) {
    if (format.getScale() != Granularity::PerRow &&
        format.getScale() != Granularity::PerColumn)
      continue;
    if (format.getScale() != along)
      return ("scale " + stringifyGranularity(format.getScale()) + " of the " +
              side + " varies along the contraction, expected " +
              stringifyGranularity(along))
          .str();
    if (format.getRecipe() != Recipe::Current)
      return ("recipe " + stringifyRecipe(format.getRecipe()) +
              " keeps one scale per tensor, found " +
              stringifyGranularity(format.getScale()))
          .str();
  }
  return "";
}

bool Combination::contains(const FormatPair &formats) const {
  if (!whyImpossible(formats).empty())
    return false;
  auto fits = [&](FormatAttr format, ArrayRef<Storage> storages) {
    if (!llvm::is_contained(storages, format.getStorage()))
      return false;
    return !format.isScaled() ||
           (llvm::is_contained(scales, format.getScale()) &&
            llvm::is_contained(recipes, format.getRecipe()) &&
            llvm::is_contained(roundings, format.getRounding()));
  };
  return fits(formats.lhs, lhs) && fits(formats.rhs, rhs);
}

const Combination *Target::find(const FormatPair &formats) const {
  for (const Combination &combination : combinations)
    if (combination.contains(formats))
      return &combination;
  return nullptr;
}

/// "a, b or c".
template <typename Enum>
static std::string alternatives(const std::vector<Enum> &values,
                                StringRef (*stringify)(Enum)) {
  std::string text;
  for (const auto &[i, value] : llvm::enumerate(values))
    text += (i == 0                   ? ""
             : i + 1 == values.size() ? " or "
                                      : ", ") +
            stringify(value).str();
  return text;
}

std::string Target::whyNotRun(const FormatPair &formats) const {
  if (find(formats))
    return "";
  std::string why = name + " does not run " + nameOf(formats);
  if (std::string never = whyImpossible(formats); !never.empty())
    return why + ": " + never;
  // Would it with the storages' defaults?
  FormatPair plain = pairOf(formats.lhs.getContext(), formats.lhs.getStorage(),
                            formats.rhs.getStorage());
  const Combination *combination = find(plain);
  if (plain == formats || !combination)
    return why;
  return why + ", only " + nameOf(plain) + " with scale " +
         alternatives(combination->scales, stringifyGranularity) + ", recipe " +
         alternatives(combination->recipes, stringifyRecipe) +
         " and rounding " +
         alternatives(combination->roundings, stringifyRounding);
}

std::vector<std::string> precision::builtInTargets() {
  std::vector<std::string> names;
  for (const BuiltIn &entry : kBuiltIn)
    names.push_back(entry.name.str());
  return names;
}

llvm::Expected<Target> precision::parseTarget(StringRef text,
                                              StringRef source) {
  Target target;
  if (llvm::Error error = readDocument(
          text, source, [&](JsonNode root) { readTarget(root, target); }))
    return std::move(error);
  return target;
}

llvm::Expected<Target> precision::getTarget(StringRef nameOrPath) {
  if (!nameOrPath.contains('/') && !nameOrPath.ends_with(".json")) {
    for (const BuiltIn &entry : kBuiltIn)
      if (entry.name == nameOrPath)
        return parseTarget(entry.text, nameOrPath);
    return llvm::createStringError(
        "unknown target '" + nameOrPath + "', expected " +
        llvm::join(builtInTargets(), ", ") + " or the path of a .json file");
  }
  auto buffer = llvm::MemoryBuffer::getFile(nameOrPath);
  if (!buffer)
    return llvm::createStringError(
        "target '" + nameOrPath +
        "' cannot be read: " + buffer.getError().message());
  return parseTarget((*buffer)->getBuffer(), nameOrPath);
}
