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
using llvm::json::Array;
using llvm::json::Object;
using Json = llvm::json::Value;

namespace {

struct BuiltIn {
  StringLiteral name, text;
};
constexpr BuiltIn kBuiltIn[] = {
#include "mpt/Precision/Targets.inc"
};

struct Reader : JsonReader {
  Target target;

  using JsonReader::JsonReader;

  /// `"key": {"value": ..., "unit": unit, "source": "..."}`, above 0 unless it
  /// may be 0.
  bool figure(const Object &parent, const std::string &place, StringRef key,
              StringRef unit, Figure &result, bool mayBeZero = false);
  bool share(const Object &parent, const std::string &place, StringRef key,
             Figure &result);
  bool readFigures(const Object &figures);
  bool readTiles(const Object &tiles);
  bool readRates(const Object &rates);
  template <typename Enum>
  bool readList(const Object &parent, const std::string &place, StringRef key,
                std::optional<Enum> (*symbolize)(StringRef),
                std::vector<Enum> &result);
  bool readCombination(const Object &object, const std::string &place);
  bool readProducts(const Array &products);
  bool readPlace(const Object &casts, StringRef key, Place &place);
  bool readCasts(const Object &casts);
  bool read(const Json &root);
};

bool Reader::figure(const Object &parent, const std::string &place,
                    StringRef key, StringRef unit, Figure &result,
                    bool mayBeZero) {
  const Object *entry = object(parent, place, key);
  std::string here = place + "." + key.str(), found;
  if (!entry || !number(*entry, here, "value", result.value) ||
      !string(*entry, here, "unit", found) ||
      !string(*entry, here, "source", result.source))
    return false;
  if (found != unit)
    return fail(here, "'unit' is '" + found + "', expected '" + unit + "'");
  if (result.value == 0 && !mayBeZero)
    return fail(here, "'value' is 0, expected more");
  return true;
}

bool Reader::share(const Object &parent, const std::string &place,
                   StringRef key, Figure &result) {
  if (!figure(parent, place, key, "share", result))
    return false;
  return result.value <= 1 || fail(place + "." + key.str(), "a share above 1");
}

bool Reader::readFigures(const Object &figures) {
  return figure(figures, "figures", "memory_bandwidth", "GB/s",
                target.memoryBandwidth) &&
         share(figures, "figures", "memory_efficiency",
               target.memoryEfficiency) &&
         figure(figures, "figures", "launch", "us", target.launch,
                /*mayBeZero=*/true) &&
         figure(figures, "figures", "units", "processors", target.units) &&
         figure(figures, "figures", "result_bytes", "bytes",
                target.resultBytes);
}

bool Reader::readTiles(const Object &tiles) {
  std::string source;
  const Array *shapes = array(tiles, "tiles", "shapes");
  const Array *splits = shapes ? array(tiles, "tiles", "splits") : nullptr;
  if (!splits || !string(tiles, "tiles", "source", source))
    return false;
  auto positive = [](const Json &value) {
    auto number = value.getAsInteger();
    return number && *number >= 1;
  };
  for (const Json &value : *shapes) {
    const Array *shape = value.getAsArray();
    if (!shape || shape->size() != 2 || !llvm::all_of(*shape, positive))
      return fail("tiles.shapes", "two integers of 1 or more are expected, "
                                  "found " +
                                      describe(value));
    target.tiles.push_back(
        {*(*shape)[0].getAsInteger(), *(*shape)[1].getAsInteger()});
  }
  for (const Json &value : *splits) {
    if (!positive(value))
      return fail("tiles.splits", "integers of 1 or more are expected, found " +
                                      describe(value));
    target.splits.push_back(*value.getAsInteger());
  }
  if (target.tiles.empty())
    return fail("tiles", "'shapes' is empty");
  return llvm::is_contained(target.splits, 1) ||
         fail("tiles", "'splits' must contain 1");
}

bool Reader::readRates(const Object &rates) {
  // The object is a hash table: by name, for the same order everywhere.
  std::vector<std::string> names;
  for (const auto &entry : rates)
    names.push_back(entry.first.str());
  llvm::sort(names);
  for (const std::string &name : names) {
    std::string place = "rates." + name;
    Rate rate;
    rate.name = name;
    const Object *entry = object(rates, "rates", name);
    if (!entry || !figure(*entry, place, "peak", "TFLOP/s", rate.peak) ||
        !share(*entry, place, "efficiency", rate.efficiency) ||
        !figure(*entry, place, "overhead_k", "elements of k", rate.overheadK,
                /*mayBeZero=*/true))
      return false;
    target.rates.push_back(std::move(rate));
  }
  return true;
}

template <typename Enum>
bool Reader::readList(const Object &parent, const std::string &place,
                      StringRef key,
                      std::optional<Enum> (*symbolize)(StringRef),
                      std::vector<Enum> &result) {
  const Array *list = array(parent, place, key);
  if (!list)
    return false;
  for (const Json &value : *list) {
    auto name = value.getAsString();
    auto known = name ? symbolize(*name) : std::nullopt;
    if (!known)
      return fail(place + "." + key.str(), describe(value) + " is unknown");
    result.push_back(*known);
  }
  return !result.empty() || fail(place, "'" + key + "' is empty");
}

bool Reader::readCombination(const Object &object, const std::string &place) {
  Combination combination;
  std::string rate, layout, source;
  if (!readList(object, place, "lhs", symbolizeStorage, combination.lhs) ||
      !readList(object, place, "rhs", symbolizeStorage, combination.rhs) ||
      !string(object, place, "rate", rate) ||
      !string(object, place, "layout", layout) ||
      !count(object, place, "alignment", combination.alignment) ||
      !string(object, place, "source", source))
    return false;
  auto isScaled = [](Storage storage) {
    return storage != Storage::F32 && storage != Storage::BF16;
  };
  if ((llvm::any_of(combination.lhs, isScaled) ||
       llvm::any_of(combination.rhs, isScaled)) &&
      (!readList(object, place, "scale", symbolizeGranularity,
                 combination.scales) ||
       !readList(object, place, "recipe", symbolizeRecipe,
                 combination.recipes) ||
       !readList(object, place, "rounding", symbolizeRounding,
                 combination.roundings)))
    return false;
  auto known = llvm::find_if(target.rates,
                             [&](const Rate &r) { return r.name == rate; });
  if (known == target.rates.end())
    return fail(place, "'rate' is '" + rate + "', which 'rates' does not have");
  combination.rate = known - target.rates.begin();
  if (layout != "any" && layout != "k_major")
    return fail(place,
                "'layout' is '" + layout + "', expected 'any' or 'k_major'");
  combination.kMajor = layout == "k_major";
  target.combinations.push_back(std::move(combination));
  return true;
}

bool Reader::readProducts(const Array &products) {
  for (const auto &[i, value] : llvm::enumerate(products)) {
    std::string place = "products[" + std::to_string(i) + "]";
    const Object *object = asObject(value, place);
    if (!object || !readCombination(*object, place))
      return false;
  }
  // What a product falls back to must run.
  for (Storage storage : {Storage::F32, Storage::BF16})
    if (llvm::none_of(target.combinations, [&](const Combination &c) {
          return llvm::is_contained(c.lhs, storage) &&
                 llvm::is_contained(c.rhs, storage);
        }))
      return fail("products", "none is " + stringifyStorage(storage) + " x " +
                                  stringifyStorage(storage));
  return true;
}

bool Reader::readPlace(const Object &casts, StringRef key, Place &place) {
  std::string where, source, here = "casts." + key.str();
  const Object *entry = object(casts, "casts", key);
  if (!entry || !string(*entry, here, "where", where) ||
      !string(*entry, here, "source", source))
    return false;
  if (where != "producer" && where != "pass")
    return fail(here,
                "'where' is '" + where + "', expected 'producer' or 'pass'");
  place = where == "producer" ? Place::Producer : Place::Pass;
  return true;
}

bool Reader::readCasts(const Object &casts) {
  auto cast = [&](StringRef key, Recipe recipe) {
    return readPlace(casts, key, target.casts[static_cast<size_t>(recipe)]);
  };
  if (!readPlace(casts, "amax", target.amax))
    return false;
  double launches;
  if (!number(*casts.getObject("amax"), "casts.amax", "launches", launches))
    return false;
  target.amaxLaunches = launches;
  return cast("bf16", Recipe::None) && cast("current", Recipe::Current) &&
         cast("delayed", Recipe::Delayed) && cast("fixed", Recipe::Fixed) &&
         readPlace(casts, "transposed", target.transposed);
}

bool Reader::read(const Json &root) {
  const Object *object = asObject(root, "");
  if (!object || !header(*object, "mpt-target", 1) ||
      !string(*object, "", "name", target.name) ||
      !string(*object, "", "device", target.device))
    return false;
  const Object *figures = this->object(*object, "", "figures");
  if (!figures || !readFigures(*figures))
    return false;
  const Object *tiles = this->object(*object, "", "tiles");
  if (!tiles || !readTiles(*tiles))
    return false;
  const Object *rates = this->object(*object, "", "rates");
  if (!rates || !readRates(*rates))
    return false;
  const Array *products = array(*object, "", "products");
  if (!products || !readProducts(*products))
    return false;
  const Object *casts = this->object(*object, "", "casts");
  return casts && readCasts(*casts);
}

} // namespace

bool Combination::contains(const FormatPair &formats) const {
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

std::string Target::whyNotRun(const FormatPair &formats) const {
  if (find(formats))
    return "";
  std::string why = name + " does not run " + nameOf(formats);
  // Would it with the storages' defaults?
  FormatPair plain = pairOf(formats.lhs.getContext(), formats.lhs.getStorage(),
                            formats.rhs.getStorage());
  if (plain != formats && find(plain))
    why += ", only " + nameOf(plain) +
           " with nearest rounding and one current scale per tensor";
  return why;
}

std::vector<std::string> precision::builtInTargets() {
  std::vector<std::string> names;
  for (const BuiltIn &entry : kBuiltIn)
    names.push_back(entry.name.str());
  return names;
}

llvm::Expected<Target> precision::parseTarget(StringRef text,
                                              StringRef source) {
  Reader reader(source);
  llvm::Expected<Json> root = llvm::json::parse(text);
  if (!root)
    return llvm::createStringError(source + ": " +
                                   llvm::toString(root.takeError()));
  if (!reader.read(*root))
    return llvm::createStringError(reader.error);
  return std::move(reader.target);
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
