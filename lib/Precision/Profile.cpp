//===- Profile.cpp - reading metrics.json ---------------------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// A reader whose first error sticks, so that the code below reads as the schema
// does, and the merging of points of training into the worst one.
//
//===----------------------------------------------------------------------===//

#include "mpt/Precision/Profile.h"
#include "JsonReader.h"
#include "mpt/Precision/Formats.h"
#include "llvm/ADT/MapVector.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/MemoryBuffer.h"
#include <cmath>
#include <map>

using namespace mlir;
using namespace mpt;
using namespace mpt::precision;

namespace {

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
// Those that decide nothing may lack a value (a product of zeros has no noise
// ratio); they are left out then. `sqnr_db` and `noise_ratio` are made here.
constexpr double kHuge = JsonNode::kHuge;
constexpr MetricKind kMetrics[] = {
    {"be_median", true, true, 0, kHuge},
    {"be_p99", true, true, 0, kHuge},
    {"be_max", true, false, 0, kHuge},
    {"rel_var", true, false, 0, kHuge},
    {"cosine", false, false, -1.001, 1.001},
    {"loss_mse", true, false, 0, kHuge},
    {"persistent", true, false, -kHuge, kHuge},
};
constexpr MetricKind kSqnr = {"sqnr_db", false, false, -kHuge, kHuge};
constexpr MetricKind kNoise = {"noise_ratio", true, false, 0, kHuge};
constexpr MetricKind kRolePersistent = {"role_persistent", true, false, -kHuge,
                                        kHuge};
/// Shares of an operand's elements.
constexpr StringLiteral kShares[] = {"flushed_lhs", "flushed_rhs",
                                     "saturated_lhs", "saturated_rhs"};

/// A metric at one point: the ends of its interval.
struct Interval {
  double low, high;
};

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
};
/// FormatPair as the key of a map.
using FormatKey = std::pair<FormatAttr, FormatAttr>;

std::string nameOf(FormatKey formats) {
  return precision::nameOf(FormatPair{formats.first, formats.second});
}

/// Null for what the dialect does not know and no target runs: MX scales, and
/// margins of scales that are not delayed.
FormatAttr readFormat(MLIRContext *context, JsonNode node) {
  Storage storage = node.field("storage").name(symbolizeStorage);
  std::string granularity = node.field("scale").text();
  Recipe recipe = node.field("recipe").name(symbolizeRecipe);
  Rounding rounding = node.field("rounding").name(symbolizeRounding);
  int64_t history = FormatAttr::kDefaultHistory, margin = 0;
  APFloat value(1.0f);
  if (node.has("history"))
    history = node.field("history").integer(1);
  if (node.has("margin"))
    margin = node.field("margin").integer(std::numeric_limits<int64_t>::min());
  if (node.has("value"))
    value = APFloat(static_cast<float>(node.field("value").number(
        std::numeric_limits<float>::min(), std::numeric_limits<float>::max())));
  bool isOther = granularity == "mx" || history > FormatAttr::kMaxHistory ||
                 margin < -FormatAttr::kMaxMargin ||
                 margin > FormatAttr::kMaxMargin ||
                 (recipe != Recipe::Delayed && margin != 0);
  if (!node || isOther)
    return {};
  if ((recipe != Recipe::Delayed && node.has("history")) ||
      (recipe != Recipe::Fixed && node.has("value"))) {
    node.fail("history belongs to recipe delayed, value to fixed, found " +
              stringifyRecipe(recipe));
    return {};
  }
  Granularity scale = node.field("scale").name(symbolizeGranularity);
  bool scaled = FormatAttr::get(context, storage).isScaled();
  if (node && ((scale != Granularity::None) != scaled ||
               (recipe != Recipe::None) != scaled))
    node.fail("storage " + stringifyStorage(storage) +
              (scaled ? " needs" : " takes no") + " scale and recipe, found " +
              stringifyGranularity(scale) + " and " + stringifyRecipe(recipe));
  if (!node)
    return {};
  return FormatAttr::get(context, storage, scale, recipe, rounding, value,
                         history, margin);
}

void merge(Accumulator &into, const MetricKind &kind, Interval interval,
           int64_t step) {
  double value = kind.worstIsHigh ? interval.high : interval.low;
  double spread = interval.high - interval.low;
  auto [it, isNew] =
      into.metrics.try_emplace(kind.name.str(), Worst{value, spread, step, 0});
  Worst &worst = it->second;
  ++worst.points;
  if (!isNew && (kind.worstIsHigh ? value > worst.value : value < worst.value))
    worst = Worst{value, spread, step, worst.points};
}

void mergeShare(Accumulator &into, const Twine &name, double share) {
  double &worst = into.shares[name.str()];
  worst = std::max(worst, share);
}

/// A summary: null, a mean, or [mean, std, low, high] whose last three may be
/// null together. Nothing where it has no value.
std::optional<Interval> readSummary(JsonNode node, const MetricKind &kind) {
  if (!node || (node.isNull() && !kind.required))
    return std::nullopt;
  if (!node.isArray()) {
    double mean = node.number(kind.low, kind.high);
    return Interval{mean, mean};
  }
  std::vector<JsonNode> items = node.items();
  if (items.size() != 4) {
    node.fail("expected [mean, std, low, high], found " + Twine(items.size()) +
              " entries");
    return std::nullopt;
  }
  double mean = items[0].number(kind.low, kind.high);
  if (items[1].isNull() && items[2].isNull() && items[3].isNull())
    return Interval{mean, mean};
  items[1].number(0, kHuge);
  Interval interval{items[2].number(kind.low, kind.high),
                    items[3].number(kind.low, kind.high)};
  if (node && interval.low > interval.high)
    node.fail("low is above high");
  return interval;
}

/// What the parts of a file refer to.
struct Tables {
  MLIRContext *context;
  std::vector<int64_t> steps;        // by point
  std::vector<FormatAttr> formats;   // null: not expressible
  std::vector<FormatKey> candidates; // nulls likewise
  /// Largest magnitudes by tensor, where every point has one.
  std::vector<std::optional<float>> amaxes;
  std::map<Role, std::vector<std::string>> columns;
};

/// The entry of `list` that `node` names by its index.
template <typename T>
T lookUp(JsonNode node, const std::vector<T> &list, StringRef what) {
  int64_t index = node.integer(0);
  if (node && index >= static_cast<int64_t>(list.size()))
    node.fail("expected an index below " + Twine(list.size()) + " of " + what +
              ", found " + Twine(index));
  return node ? list[index] : T();
}

std::vector<JsonNode> rowsOf(JsonNode node, size_t count) {
  std::vector<JsonNode> rows = node.items();
  if (node && rows.size() != count)
    node.fail("expected " + Twine(count) + " entries, found " +
              Twine(rows.size()));
  return node ? rows : std::vector<JsonNode>(count, node);
}

/// One candidate at one point: a value for each column of its role.
void readRow(Accumulator &into, JsonNode row, ArrayRef<std::string> columns,
             std::optional<double> signal, int64_t step) {
  std::vector<JsonNode> cells = rowsOf(row, columns.size());
  for (const auto &[name, cell] : llvm::zip(columns, cells)) {
    JsonNode node = cell.named(row.place() + ", " + name);
    if (llvm::is_contained(kShares, name)) {
      mergeShare(into, name, node.number(0, 1));
      continue;
    }
    const MetricKind *kind = llvm::find_if(
        kMetrics, [&, &name = name](auto &k) { return k.name == name; });
    std::optional<Interval> interval;
    if (kind != std::end(kMetrics))
      interval = readSummary(node, *kind);
    if (!interval)
      continue;
    merge(into, *kind, *interval, step);
    if (kind->name != "rel_var")
      continue;
    if (interval->low > 0)
      merge(into, kSqnr,
            {-10 * std::log10(interval->high), -10 * std::log10(interval->low)},
            step);
    if (signal)
      merge(into, kNoise, {interval->low * *signal, interval->high * *signal},
            step);
  }
}

/// The candidate's values; a metric that some point lacks is left out.
CandidateMetricsAttr finish(MLIRContext *context, FormatKey formats,
                            const Accumulator &candidate, size_t points) {
  Builder builder(context);
  NamedAttrList values;
  for (const auto &[name, worst] : candidate.metrics) {
    if (worst.points != points)
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

void readPoint(llvm::MapVector<FormatKey, Accumulator> &into, JsonNode point,
               ArrayRef<FormatKey> candidates, ArrayRef<std::string> columns,
               int64_t step) {
  double excluded = point.field("excluded").number(0, 1);
  std::optional<double> signal;
  if (point.has("signal") && !point.field("signal").isNull())
    signal = point.field("signal").number(0, kHuge);
  std::vector<JsonNode> rows = rowsOf(point.field("values"), candidates.size());
  for (const auto &[formats, row] : llvm::zip(candidates, rows)) {
    if (!formats.first || !formats.second)
      continue;
    Accumulator &candidate = into[formats];
    mergeShare(candidate, "excluded", excluded);
    readRow(candidate,
            row.named(point.place() + ", candidate " + nameOf(formats)),
            columns, signal, step);
  }
}

/// The largest magnitude of a tensor at any point; nothing if a point lacks it.
std::optional<float> readAmax(JsonNode tensor, size_t points) {
  constexpr MetricKind kAmax = {"amax", true, false, 0,
                                std::numeric_limits<float>::max()};
  float largest = 0;
  for (JsonNode point : rowsOf(tensor.field("points"), points)) {
    std::optional<Interval> amax;
    if (point.has("amax"))
      amax = readSummary(point.field("amax"), kAmax);
    if (!amax)
      return std::nullopt;
    largest = std::max(largest, static_cast<float>(amax->high));
  }
  return largest;
}

/// The largest magnitudes of a product's operands, if the file has both.
std::optional<std::array<float, 2>> readAmaxes(const Tables &tables,
                                               JsonNode node) {
  std::array<float, 2> amaxes;
  for (auto [side, name] : {std::pair(0, "lhs"), std::pair(1, "rhs")}) {
    if (!node.has(name))
      return std::nullopt;
    int64_t index = node.field(name).integer(-1);
    int64_t count = tables.amaxes.size();
    if (index >= count)
      node.field(name).fail("expected a tensor below " + Twine(count) +
                            ", found " + Twine(index));
    if (!node || index < 0 || !tables.amaxes[index])
      return std::nullopt;
    amaxes[side] = *tables.amaxes[index];
  }
  return amaxes;
}

ProductProfile readProduct(const Tables &tables, JsonNode node) {
  ProductProfile product;
  product.name = node.field("name").text();
  node = node.named("product '" + product.name + "'");
  product.role = node.field("role").name(symbolizeRole);
  int64_t m = node.field("m").integer(1), n = node.field("n").integer(1);
  int64_t k = node.field("k").integer(1);
  product.batch = node.field("batch").integer(1);
  product.amax = readAmaxes(tables, node);
  std::vector<FormatKey> candidates;
  for (JsonNode item : node.field("candidates").items()) {
    FormatKey formats = lookUp(item, tables.candidates, "candidates");
    if (node && formats.first && llvm::is_contained(candidates, formats))
      node.fail("candidate " + nameOf(formats) + " is listed twice");
    candidates.push_back(formats);
  }
  auto columns = tables.columns.find(product.role);
  if (node && columns == tables.columns.end())
    node.fail("the file has no columns for its role");
  llvm::MapVector<FormatKey, Accumulator> accumulators;
  std::vector<JsonNode> points =
      rowsOf(node.field("points"), tables.steps.size());
  for (const auto &[point, step] : llvm::zip(points, tables.steps))
    if (node)
      readPoint(accumulators,
                point.named(node.place() + ", step " + Twine(step)), candidates,
                columns->second, step);
  if (!node)
    return product;
  SmallVector<CandidateMetricsAttr> attrs;
  for (auto &[formats, candidate] : accumulators)
    attrs.push_back(
        finish(tables.context, formats, candidate, tables.steps.size()));
  product.metrics = MetricsAttr::get(tables.context, m, n, k, attrs);
  return product;
}

Tables readTables(MLIRContext *context, JsonNode root) {
  Tables tables;
  tables.context = context;
  for (JsonNode point : root.field("points").items())
    tables.steps.push_back(point.field("step").integer(0));
  if (root && tables.steps.empty())
    root.fail("no point of training was profiled");
  for (JsonNode format : root.field("formats").items())
    tables.formats.push_back(readFormat(context, format));
  for (JsonNode pair : root.field("candidates").items()) {
    std::vector<JsonNode> sides = rowsOf(pair, 2);
    FormatKey formats(lookUp(sides[0], tables.formats, "formats"),
                      lookUp(sides[1], tables.formats, "formats"));
    tables.candidates.push_back(formats.first && formats.second ? formats
                                                                : FormatKey());
  }
  if (root.has("tensors"))
    for (JsonNode tensor : root.field("tensors").items())
      tables.amaxes.push_back(readAmax(tensor, tables.steps.size()));
  JsonNode columns = root.field("columns");
  for (Role role : {Role::Fprop, Role::Dgrad, Role::Wgrad}) {
    if (!columns.has(stringifyRole(role)))
      continue;
    std::vector<std::string> &names = tables.columns[role];
    JsonNode list = columns.field(stringifyRole(role));
    for (JsonNode name : list.items())
      names.push_back(name.text());
    for (const MetricKind &kind : kMetrics)
      if (root && kind.required && !llvm::is_contained(names, kind.name))
        list.fail("'" + kind.name + "' is missing");
  }
  return tables;
}

//===----------------------------------------------------------------------===//
// Probes
//===----------------------------------------------------------------------===//

/// A format whichever operand it is of: vectors are rows.
FormatAttr withoutSide(FormatAttr format) {
  if (!format || format.getScale() != Granularity::PerColumn)
    return format;
  return FormatAttr::get(format.getContext(), format.getStorage(),
                         Granularity::PerRow, format.getRecipe(),
                         format.getRounding(), format.getValue(),
                         format.getHistory(), format.getMargin());
}

/// Adds what a probe of all products of a role found to the candidates of that
/// role with its formats, as `role_persistent`.
void readProbe(const Tables &tables, JsonNode node, Profile &profile) {
  std::string group = node.field("role").text();
  std::vector<JsonNode> sides = rowsOf(node.field("formats"), 2);
  FormatAttr other = lookUp(sides[0], tables.formats, "formats");
  FormatAttr gradient = lookUp(sides[1], tables.formats, "formats");
  Accumulator found;
  std::vector<JsonNode> points =
      rowsOf(node.field("points"), tables.steps.size());
  for (const auto &[point, step] : llvm::zip(points, tables.steps))
    if (auto interval = readSummary(point.field("persistent"), kRolePersistent))
      merge(found, kRolePersistent, *interval, step);
  std::optional<Role> role = symbolizeRole(group);
  if (node && !role && group != "whole")
    node.field("role").fail("'" + group + "' is unknown");
  bool isLayer = !node.field("layer").isNull();
  auto worst = found.metrics.find(kRolePersistent.name.str());
  if (!node || !role || isLayer || !other || !gradient ||
      worst == found.metrics.end() ||
      worst->second.points != tables.steps.size())
    return;
  Builder builder(tables.context);
  for (ProductProfile &product : profile.products) {
    if (product.role != *role)
      continue;
    SmallVector<CandidateMetricsAttr> candidates;
    for (CandidateMetricsAttr candidate : product.metrics.getCandidates()) {
      FormatKey formats(withoutSide(candidate.getLhs()),
                        withoutSide(candidate.getRhs()));
      // Which operand is the gradient is not in the file; no two candidates of
      // a product differ in that alone unless they were asked for.
      bool fits = formats == FormatKey(other, gradient) ||
                  formats == FormatKey(gradient, other);
      NamedAttrList values(candidate.getValues());
      if (fits) {
        values.set("role_persistent",
                   builder.getF64FloatAttr(worst->second.value));
        values.set("role_persistent_spread",
                   builder.getF64FloatAttr(worst->second.spread));
        values.set("role_persistent_step",
                   builder.getI64IntegerAttr(worst->second.step));
      }
      candidates.push_back(CandidateMetricsAttr::get(
          tables.context, candidate.getLhs(), candidate.getRhs(),
          values.getDictionary(tables.context)));
    }
    product.metrics = MetricsAttr::get(tables.context, product.metrics.getM(),
                                       product.metrics.getN(),
                                       product.metrics.getK(), candidates);
  }
}

void readFile(MLIRContext *context, JsonNode root, Profile &profile) {
  root.header("mpt-metrics", kProfileVersion, "; profile again");
  if (root.has("complete") && !root.field("complete").boolean())
    root.fail("the profile was not taken to its end");
  profile.graphHash = root.field("graph_hash").text();
  Tables tables = readTables(context, root);
  for (JsonNode node : root.field("products").items()) {
    ProductProfile product = readProduct(tables, node);
    if (!root)
      break;
    if (!profile.index.try_emplace(product.name, profile.products.size())
             .second)
      root.fail("product '" + product.name + "' is listed twice");
    profile.products.push_back(std::move(product));
  }
  for (JsonNode node : root.field("probes").items())
    readProbe(tables, node, profile);
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
  Profile profile;
  if (llvm::Error error = readDocument(text, source, [&](JsonNode root) {
        readFile(context, root, profile);
      }))
    return std::move(error);
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
