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
  /// Whether this is null: measured, but without a value.
  bool isNull() const { return value && value->getAsNull(); }
  bool isArray() const { return value && value->getAsArray(); }
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
// Those that decide nothing may lack a value (a product of zeros has no noise
// ratio); they are left out then. `sqnr_db` and `noise_ratio` are made here.
constexpr double kHuge = std::numeric_limits<double>::max();
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

template <typename Enum>
Enum readEnum(Node node, std::optional<Enum> (*symbolize)(StringRef)) {
  std::string text = node.text();
  std::optional<Enum> value = symbolize(text);
  if (node && !value)
    node.fail("'" + text + "' is unknown");
  return value.value_or(Enum());
}

/// Null for what the dialect does not know and no target runs: MX scales, and
/// recipes with numbers of their own.
FormatAttr readFormat(MLIRContext *context, Node node) {
  Storage storage = readEnum<Storage>(node.field("storage"), symbolizeStorage);
  std::string granularity = node.field("scale").text();
  Recipe recipe = readEnum<Recipe>(node.field("recipe"), symbolizeRecipe);
  Rounding rounding =
      readEnum<Rounding>(node.field("rounding"), symbolizeRounding);
  bool isOther = granularity == "mx" || node.has("history") ||
                 node.has("margin") || node.has("value");
  if (!node || isOther)
    return {};
  Granularity scale =
      readEnum<Granularity>(node.field("scale"), symbolizeGranularity);
  bool scaled = FormatAttr::get(context, storage).isScaled();
  if (node && ((scale != Granularity::None) != scaled ||
               (recipe != Recipe::None) != scaled))
    node.fail("storage " + stringifyStorage(storage) +
              (scaled ? " needs" : " takes no") + " scale and recipe, found " +
              stringifyGranularity(scale) + " and " + stringifyRecipe(recipe));
  if (!node)
    return {};
  return FormatAttr::get(context, storage, scale, recipe, rounding);
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
std::optional<Interval> readSummary(Node node, const MetricKind &kind) {
  if (!node || (node.isNull() && !kind.required))
    return std::nullopt;
  if (!node.isArray()) {
    double mean = node.number(kind.low, kind.high);
    return Interval{mean, mean};
  }
  std::vector<Node> items = node.items("entry");
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
  std::map<Role, std::vector<std::string>> columns;
};

/// The entry of `list` that `node` names by its index.
template <typename T>
T lookUp(Node node, const std::vector<T> &list, StringRef what) {
  int64_t index = node.integer(0);
  if (node && index >= static_cast<int64_t>(list.size()))
    node.fail("expected an index below " + Twine(list.size()) + " of " + what +
              ", found " + Twine(index));
  return node ? list[index] : T();
}

std::vector<Node> rowsOf(Node node, size_t count, StringRef what) {
  std::vector<Node> rows = node.items(what);
  if (node && rows.size() != count)
    node.fail("expected " + Twine(count) + " entries, found " +
              Twine(rows.size()));
  return node ? rows : std::vector<Node>(count, node);
}

/// One candidate at one point: a value for each column of its role.
void readRow(Accumulator &into, Node row, ArrayRef<std::string> columns,
             std::optional<double> signal, int64_t step) {
  std::vector<Node> cells = rowsOf(row, columns.size(), "column");
  for (const auto &[name, cell] : llvm::zip(columns, cells)) {
    Node node = cell.named(row.place() + ", " + name);
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

void readPoint(llvm::MapVector<FormatKey, Accumulator> &into, Node point,
               ArrayRef<FormatKey> candidates, ArrayRef<std::string> columns,
               int64_t step) {
  double excluded = point.field("excluded").number(0, 1);
  std::optional<double> signal;
  if (point.has("signal") && !point.field("signal").isNull())
    signal = point.field("signal").number(0, kHuge);
  std::vector<Node> rows =
      rowsOf(point.field("values"), candidates.size(), "row");
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

ProductProfile readProduct(const Tables &tables, Node node) {
  ProductProfile product;
  product.name = node.field("name").text();
  node = node.named("product '" + product.name + "'");
  product.role = readEnum<Role>(node.field("role"), symbolizeRole);
  int64_t m = node.field("m").integer(1), n = node.field("n").integer(1);
  int64_t k = node.field("k").integer(1);
  product.batch = node.field("batch").integer(1);
  std::vector<FormatKey> candidates;
  for (Node item : node.field("candidates").items("candidate")) {
    FormatKey formats = lookUp(item, tables.candidates, "candidates");
    if (node && formats.first && llvm::is_contained(candidates, formats))
      node.fail("candidate " + nameOf(formats) + " is listed twice");
    candidates.push_back(formats);
  }
  auto columns = tables.columns.find(product.role);
  if (node && columns == tables.columns.end())
    node.fail("the file has no columns for its role");
  llvm::MapVector<FormatKey, Accumulator> accumulators;
  std::vector<Node> points =
      rowsOf(node.field("points"), tables.steps.size(), "point");
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

Tables readTables(MLIRContext *context, Node root) {
  Tables tables;
  tables.context = context;
  for (Node point : root.field("points").items("point"))
    tables.steps.push_back(point.field("step").integer(0));
  if (root && tables.steps.empty())
    root.fail("no point of training was profiled");
  for (Node format : root.field("formats").items("format"))
    tables.formats.push_back(readFormat(context, format));
  for (Node pair : root.field("candidates").items("candidate")) {
    std::vector<Node> sides = rowsOf(pair, 2, "operand");
    FormatKey formats(lookUp(sides[0], tables.formats, "formats"),
                      lookUp(sides[1], tables.formats, "formats"));
    tables.candidates.push_back(formats.first && formats.second ? formats
                                                                : FormatKey());
  }
  Node columns = root.field("columns");
  for (Role role : {Role::Fprop, Role::Dgrad, Role::Wgrad}) {
    if (!columns.has(stringifyRole(role)))
      continue;
    std::vector<std::string> &names = tables.columns[role];
    Node list = columns.field(stringifyRole(role));
    for (Node name : list.items("column"))
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
                         format.getRounding());
}

/// Adds what a probe of all products of a role found to the candidates of that
/// role with its formats, as `role_persistent`.
void readProbe(const Tables &tables, Node node, Profile &profile) {
  std::string group = node.field("role").text();
  std::vector<Node> sides = rowsOf(node.field("formats"), 2, "operand");
  FormatAttr other = lookUp(sides[0], tables.formats, "formats");
  FormatAttr gradient = lookUp(sides[1], tables.formats, "formats");
  Accumulator found;
  std::vector<Node> points =
      rowsOf(node.field("points"), tables.steps.size(), "point");
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
              Twine(version) + (version == 1 ? "; profile again" : ""));
  if (root.has("complete") && !root.field("complete").boolean())
    root.fail("the profile was not taken to its end");
  Profile profile;
  profile.graphHash = root.field("graph_hash").text();
  Tables tables = readTables(context, root);
  for (Node node : root.field("products").items("product")) {
    ProductProfile product = readProduct(tables, node);
    if (!root)
      break;
    if (!profile.index.try_emplace(product.name, profile.products.size())
             .second)
      root.fail("product '" + product.name + "' is listed twice");
    profile.products.push_back(std::move(product));
  }
  for (Node node : root.field("probes").items("probe"))
    readProbe(tables, node, profile);
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
