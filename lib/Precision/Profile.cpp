//===- Profile.cpp - reading metrics.json ---------------------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// A reader whose first error sticks, so that the code below reads as the schema
// does, and the merging of points of training into the worst one.
//
//===----------------------------------------------------------------------===//

#include "mpt/Precision/Profile.h"
#include "mpt/Precision/Formats.h"
#include "llvm/ADT/MapVector.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/JSON.h"
#include "llvm/Support/MemoryBuffer.h"
#include <cmath>
#include <map>

using namespace mlir;
using namespace mpt;
using namespace mpt::precision;

namespace {

//===----------------------------------------------------------------------===//
// Reading
//===----------------------------------------------------------------------===//

/// The first thing that was wrong.
struct Problem {
  std::string text;
  void report(const Twine &what) {
    if (text.empty())
      text = what.str();
  }
};

/// A place in the document. After a problem every place is empty, and reading
/// an empty place gives a default.
class Node {
public:
  Node(const llvm::json::Value *value, std::string where, Problem &problem)
      : value(value), where(std::move(where)), problem(&problem) {}

  explicit operator bool() const { return value && problem->text.empty(); }
  StringRef place() const { return where; }
  void fail(const Twine &what) const { problem->report(where + ": " + what); }

  bool has(StringRef key) const {
    const llvm::json::Object *object = value ? value->getAsObject() : nullptr;
    return object && object->get(key);
  }
  /// The member `key`, which has to be there.
  Node field(StringRef key) const {
    if (!*this)
      return empty();
    const llvm::json::Object *object = value->getAsObject();
    if (!object) {
      fail("expected an object, found " + found());
      return empty();
    }
    const llvm::json::Value *member = object->get(key);
    if (!member) {
      fail("'" + key + "' is missing");
      return empty();
    }
    return Node(member, where + ", " + key.str(), *problem);
  }
  std::vector<Node> items(StringRef what) const {
    std::vector<Node> nodes;
    if (!*this)
      return nodes;
    const llvm::json::Array *array = value->getAsArray();
    if (!array)
      fail("expected an array, found " + found());
    else
      for (const auto &[i, item] : llvm::enumerate(*array))
        nodes.push_back(
            Node(&item, where + ", " + what.str() + " " + std::to_string(i),
                 *problem));
    return nodes;
  }
  std::string text() const {
    if (!*this)
      return "";
    std::optional<StringRef> string = value->getAsString();
    if (!string)
      fail("expected a string, found " + found());
    return string.value_or("").str();
  }
  bool boolean() const {
    std::optional<bool> boolean = *this ? value->getAsBoolean() : true;
    if (!boolean)
      fail("expected true or false, found " + found());
    return boolean.value_or(true);
  }
  /// Whether the member `key` is null: measured, but without a value.
  bool isNull(StringRef key) const {
    const llvm::json::Object *object = value ? value->getAsObject() : nullptr;
    const llvm::json::Value *member = object ? object->get(key) : nullptr;
    return member && member->getAsNull();
  }
  /// A finite number in [low, high].
  double number(double low, double high) const {
    if (!*this)
      return low;
    std::optional<double> number = value->getAsNumber();
    if (!number || !std::isfinite(*number))
      fail("expected a finite number, found " + found());
    else if (*number < low || *number > high)
      fail("expected a number in [" + Twine(llvm::formatv("{0}", low).str()) +
           ", " + llvm::formatv("{0}", high).str() + "], found " + found());
    else
      return *number;
    return low;
  }
  int64_t integer(int64_t low) const {
    if (!*this)
      return low;
    std::optional<int64_t> integer = value->getAsInteger();
    if (integer && *integer >= low)
      return *integer;
    fail("expected an integer of " + Twine(low) + " or more, found " + found());
    return low;
  }
  /// The same place under another name.
  Node named(const Twine &name) const {
    return Node(value, name.str(), *problem);
  }

private:
  Node empty() const { return Node(nullptr, where, *problem); }
  std::string found() const {
    if (value->getAsObject())
      return "an object";
    if (value->getAsArray())
      return "an array";
    std::string text;
    llvm::raw_string_ostream(text) << *value;
    return text.size() > 40 ? text.substr(0, 40) + "..." : text;
  }

  const llvm::json::Value *value;
  std::string where;
  Problem *problem;
};

/// Whether brackets nest deeper than any metrics file does: the parser
/// recurses.
bool nestsTooDeep(StringRef text) {
  constexpr int limit = 64;
  int depth = 0;
  bool inString = false;
  for (size_t i = 0; i < text.size(); ++i) {
    char c = text[i];
    if (inString) {
      i += c == '\\';
      inString = c != '"';
    } else if (c == '"') {
      inString = true;
    } else if (c == '[' || c == '{') {
      if (++depth > limit)
        return true;
    } else if (c == ']' || c == '}') {
      --depth;
    }
  }
  return false;
}

//===----------------------------------------------------------------------===//
// The schema
//===----------------------------------------------------------------------===//

/// A metric with an interval, which of its ends is the bad one, whether a
/// decision needs it, and the values that make sense.
struct MetricKind {
  StringLiteral name;
  bool worstIsHigh;
  bool required;
  double low, high;
};
// Those that decide nothing may lack a value (the SQNR of an exact product is
// infinite); they are left out then.
constexpr double kHuge = std::numeric_limits<double>::max();
constexpr MetricKind kMetrics[] = {
    {"be_median", true, true, 0, kHuge},
    {"be_p99", true, true, 0, kHuge},
    {"be_max", true, false, 0, kHuge},
    {"sqnr_db", false, false, -kHuge, kHuge},
    {"cosine", false, false, -1.001, 1.001},
};
/// Shares per operand.
constexpr StringLiteral kShares[] = {"flushed", "saturated"};

/// The worst that was seen of one metric.
struct Worst {
  double value, spread;
  int64_t step;
  unsigned points = 0;
};

/// One candidate over all points.
struct Accumulator {
  std::map<std::string, Worst> metrics;
  std::map<std::string, double> shares;
  unsigned points = 0;
};
/// FormatPair as the key of a map.
using FormatKey = std::pair<FormatAttr, FormatAttr>;

std::string nameOf(FormatKey formats) {
  return precision::nameOf(FormatPair{formats.first, formats.second});
}

template <typename Enum>
Enum readEnum(Node node, std::optional<Enum> (*symbolize)(StringRef)) {
  std::string text = node.text();
  std::optional<Enum> value = symbolize(text);
  if (node && !value)
    node.fail("'" + text + "' is unknown");
  return value.value_or(Enum());
}

FormatAttr readFormat(MLIRContext *context, Node node) {
  Storage storage = readEnum<Storage>(node.field("storage"), symbolizeStorage);
  FormatAttr format = FormatAttr::get(context, storage);
  Granularity scale = format.getScale();
  Recipe recipe = format.getRecipe();
  Rounding rounding = format.getRounding();
  if (node.has("scale"))
    scale = readEnum<Granularity>(node.field("scale"), symbolizeGranularity);
  if (node.has("recipe"))
    recipe = readEnum<Recipe>(node.field("recipe"), symbolizeRecipe);
  if (node.has("rounding"))
    rounding = readEnum<Rounding>(node.field("rounding"), symbolizeRounding);
  if (!node)
    return format;
  if ((scale != Granularity::None) != format.isScaled() ||
      (recipe != Recipe::None) != format.isScaled()) {
    node.fail("storage " + stringifyStorage(storage) +
              (format.isScaled() ? " needs" : " takes no") +
              " scale and recipe, found " + stringifyGranularity(scale) +
              " and " + stringifyRecipe(recipe));
    return format;
  }
  return FormatAttr::get(context, storage, scale, recipe, rounding);
}

void merge(Accumulator &into, const MetricKind &kind, Node node, int64_t step) {
  double low = node.field("low").number(kind.low, kind.high);
  double high = node.field("high").number(kind.low, kind.high);
  node.field("mean").number(kind.low, kind.high);
  node.field("std").number(0, kHuge);
  if (node && low > high)
    node.fail("low is above high");
  auto [it, isNew] = into.metrics.try_emplace(
      kind.name.str(),
      Worst{kind.worstIsHigh ? high : low, high - low, step, 0});
  Worst &worst = it->second;
  ++worst.points;
  if (!isNew && (kind.worstIsHigh ? high > worst.value : low < worst.value))
    worst =
        Worst{kind.worstIsHigh ? high : low, high - low, step, worst.points};
}

void mergeShare(Accumulator &into, const Twine &name, double share) {
  double &worst = into.shares[name.str()];
  worst = std::max(worst, share);
}

void readCandidate(Accumulator &into, Node node, int64_t step) {
  ++into.points;
  for (const MetricKind &kind : kMetrics)
    if (kind.required ||
        (node.has(kind.name) && !node.field(kind.name).isNull("mean")))
      merge(into, kind, node.field(kind.name), step);
  for (StringRef name : kShares) {
    if (!node.has(name))
      continue;
    std::vector<Node> sides = node.field(name).items("operand");
    if (node && sides.size() != 2)
      node.field(name).fail("expected one share per operand, found " +
                            Twine(sides.size()));
    if (!node)
      return;
    mergeShare(into, name + "_lhs", sides[0].number(0, 1));
    mergeShare(into, name + "_rhs", sides[1].number(0, 1));
  }
}

/// The candidate's values; a metric that some point lacks is left out.
CandidateMetricsAttr finish(MLIRContext *context, FormatKey formats,
                            const Accumulator &candidate) {
  Builder builder(context);
  NamedAttrList values;
  for (const auto &[name, worst] : candidate.metrics) {
    if (worst.points != candidate.points)
      continue;
    values.append(name, builder.getF64FloatAttr(worst.value));
    values.append(name + "_spread", builder.getF64FloatAttr(worst.spread));
    values.append(name + "_step", builder.getI64IntegerAttr(worst.step));
  }
  for (const auto &[name, share] : candidate.shares)
    values.append(name, builder.getF64FloatAttr(share));
  return CandidateMetricsAttr::get(context, formats.first, formats.second,
                                   values.getDictionary(context));
}

/// Raises `amax` to that of the point's operands; false if it has none, or one
/// that is not finite.
bool raiseAmax(std::array<float, 2> &amax, Node point) {
  for (auto [side, name] : {std::pair(0, "lhs"), std::pair(1, "rhs")}) {
    if (!point.has(name) || !point.field(name).has("amax"))
      return false;
    Node operand = point.field(name);
    if (operand.field("amax").isNull("max"))
      return false;
    double largest = operand.field("amax").field("max").number(
        0, std::numeric_limits<float>::max());
    amax[side] = std::max(amax[side], static_cast<float>(largest));
  }
  return true;
}

ProductProfile readProduct(MLIRContext *context, Node node) {
  ProductProfile product;
  product.name = node.field("name").text();
  node = node.named("product '" + product.name + "'");
  product.role = readEnum<Role>(node.field("role"), symbolizeRole);
  int64_t m = node.field("m").integer(1), n = node.field("n").integer(1);
  int64_t k = node.field("k").integer(1);
  product.batch = node.field("batch").integer(1);
  std::vector<Node> points = node.field("points").items("point");
  if (node && points.empty())
    node.fail("no point of training was profiled");
  llvm::MapVector<FormatKey, Accumulator> candidates;
  product.amax.emplace();
  for (Node point : points) {
    int64_t step = point.field("step").integer(0);
    point = point.named(node.place() + ", step " + Twine(step));
    if (product.amax && !raiseAmax(*product.amax, point))
      product.amax.reset();
    for (Node item : point.field("candidates").items("candidate")) {
      FormatKey formats(readFormat(context, item.field("lhs")),
                        readFormat(context, item.field("rhs")));
      Accumulator &candidate = candidates[formats];
      readCandidate(
          candidate,
          item.named(point.place() + ", candidate " + nameOf(formats)), step);
      if (point.has("excluded"))
        mergeShare(candidate, "excluded", point.field("excluded").number(0, 1));
    }
  }
  if (!node)
    return product;
  SmallVector<CandidateMetricsAttr> attrs;
  for (auto &[formats, candidate] : candidates) {
    if (candidate.points != points.size())
      node.fail("candidate " + nameOf(formats) + " is listed " +
                Twine(candidate.points) + " times at " + Twine(points.size()) +
                " points of training, expected once at each");
    attrs.push_back(finish(context, formats, candidate));
  }
  product.metrics = MetricsAttr::get(context, m, n, k, attrs);
  return product;
}

llvm::Error errorIn(StringRef source, const Twine &what) {
  return llvm::createStringError(source + ": " + what);
}

} // namespace

//===----------------------------------------------------------------------===//
// Interface
//===----------------------------------------------------------------------===//

const ProductProfile *Profile::find(StringRef name) const {
  auto it = index.find(name);
  return it == index.end() ? nullptr : &products[it->second];
}

llvm::Expected<Profile> precision::parseProfile(MLIRContext *context,
                                                StringRef text,
                                                StringRef source) {
  if (nestsTooDeep(text))
    return errorIn(source, "not a metrics file: nested too deep");
  llvm::Expected<llvm::json::Value> document = llvm::json::parse(text);
  if (!document)
    return errorIn(source,
                   "not valid JSON: " + llvm::toString(document.takeError()));
  Problem problem;
  Node root(&*document, "metrics file", problem);
  std::string format = root.field("format").text();
  if (root && format != "mpt-metrics")
    root.fail("expected format 'mpt-metrics', found '" + format + "'");
  int64_t version = root.field("version").integer(0);
  if (root && version != kProfileVersion)
    root.fail("expected version " + Twine(kProfileVersion) + ", found " +
              Twine(version));
  if (root.has("complete") && !root.field("complete").boolean())
    root.fail("the profile was not taken to its end");
  Profile profile;
  profile.graphHash = root.field("graph_hash").text();
  for (Node node : root.field("products").items("product")) {
    ProductProfile product = readProduct(context, node);
    if (!root)
      break;
    if (!profile.index.try_emplace(product.name, profile.products.size())
             .second)
      root.fail("product '" + product.name + "' is listed twice");
    profile.products.push_back(std::move(product));
  }
  if (!problem.text.empty())
    return errorIn(source, problem.text);
  return profile;
}

llvm::Expected<Profile> precision::readProfile(MLIRContext *context,
                                               StringRef path) {
  auto buffer = llvm::MemoryBuffer::getFile(path, /*IsText=*/false,
                                            /*RequiresNullTerminator=*/false);
  if (!buffer)
    return errorIn(path, "cannot be read: " + buffer.getError().message());
  return parseProfile(context, (*buffer)->getBuffer(), path);
}

MetricsAttr precision::rescale(MetricsAttr metrics, int64_t k) {
  double factor = std::sqrt(static_cast<double>(metrics.getK()) / k);
  Builder builder(metrics.getContext());
  SmallVector<CandidateMetricsAttr> candidates;
  for (CandidateMetricsAttr candidate : metrics.getCandidates()) {
    NamedAttrList values(candidate.getValues());
    for (const MetricKind &kind : kMetrics) {
      if (!kind.name.starts_with("be_"))
        continue;
      for (std::string name : {kind.name.str(), kind.name.str() + "_spread"})
        if (auto value = dyn_cast_or_null<FloatAttr>(values.get(name)))
          values.set(
              name, builder.getF64FloatAttr(value.getValueAsDouble() * factor));
    }
    values.set("rescaled", builder.getF64FloatAttr(factor));
    candidates.push_back(CandidateMetricsAttr::get(
        metrics.getContext(), candidate.getLhs(), candidate.getRhs(),
        values.getDictionary(metrics.getContext())));
  }
  return MetricsAttr::get(metrics.getContext(), metrics.getM(), metrics.getN(),
                          metrics.getK(), candidates);
}
