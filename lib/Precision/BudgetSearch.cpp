//===- BudgetSearch.cpp - the fastest choice, proven ----------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// See BudgetSearch.h. A label is a choice for some of the components; with it
// goes what it costs above the relaxation's bound, which no completion lowers.
//
//===----------------------------------------------------------------------===//

#include "BudgetSearch.h"
#include "llvm/ADT/STLExtras.h"
#include <algorithm>
#include <cmath>
#include <map>

using namespace mpt::precision;
using namespace mpt::precision::budget;

namespace {

/// The first window, as a share of the bound, and how it grows.
constexpr double kFirstWindow = 1e-6;
constexpr double kGrowth = 2;
/// The least multiplier, as a share of the bound per limit.
constexpr double kFloor = 1e-6;
/// A new label is compared with this many that are faster.
constexpr size_t kCompared = 256;
/// Of the longest time: differences that are rounding.
constexpr double kRounding = 1e-12;
/// How often multipliers are scaled to find an assignment within the limits.
constexpr int kScalings = 24;

struct Label {
  double time, penalty;
  Errors errors;
  unsigned parent, point;
  /// The errors, raised to where no completion can break the limit any more:
  /// below that, less is not better.
  Errors relevant;
};

/// What the components that are still to come can add.
struct Rest {
  Errors least{}, most{};
};

/// Combines points of components under one window.
struct Combiner {
  std::vector<std::vector<Point>> points;
  const Relaxation &relaxation;
  const Errors &limits;
  double window;
  int64_t mostLabels;

  /// Every combination that was left out lies at least this far above the
  /// bound.
  double dropped = HUGE_VAL;

  /// Components in the order in which they are combined, and the rest behind
  /// each of them.
  std::vector<unsigned> order;
  std::vector<Rest> rests;

  void thin();
  void arrange();
  double excessOf(const Label &label, const Rest &rest) const;
  void keepBest(std::vector<Label> &labels) const;
  void keepFew(std::vector<Label> &labels, const Rest &rest);
  /// The point of every component in the fastest combination; empty if there is
  /// none.
  std::vector<unsigned> run();
};

/// Drops points that others are no worse than in time and in the errors whose
/// limits the points can break at all.
void Combiner::thin() {
  Errors most{};
  for (const std::vector<Point> &list : points)
    for (size_t b = 0; b < kMaxBounds; ++b) {
      double largest = 0;
      for (const Point &point : list)
        largest = std::max(largest, point.errors[b]);
      most[b] += largest;
    }
  auto isWorse = [&](const Point &a, const Point &b) {
    for (size_t i = 0; i < kMaxBounds; ++i)
      if (most[i] > limits[i] && a.errors[i] < b.errors[i])
        return false;
    return a.time >= b.time;
  };
  for (std::vector<Point> &list : points) {
    size_t kept = 0;
    for (size_t p = 0; p < list.size(); ++p) {
      bool worse = false;
      for (size_t i = 0; i < kept && !worse; ++i)
        worse = isWorse(list[p], list[i]);
      if (!worse)
        std::swap(list[kept++], list[p]);
    }
    list.resize(kept);
  }
}

/// Components whose points differ most come first: what is left then says
/// precisely whether a label can still end within the limits.
void Combiner::arrange() {
  std::vector<double> ranges;
  for (const std::vector<Point> &list : points) {
    double range = 0;
    for (size_t b = 0; b < kMaxBounds; ++b) {
      auto [low, high] = std::minmax_element(
          list.begin(), list.end(), [&](const Point &x, const Point &y) {
            return x.errors[b] < y.errors[b];
          });
      if (std::isfinite(limits[b]))
        range = std::max(range, (high->errors[b] - low->errors[b]) / limits[b]);
    }
    ranges.push_back(range);
  }
  order.resize(points.size());
  for (size_t i = 0; i < order.size(); ++i)
    order[i] = i;
  llvm::sort(order, [&](unsigned a, unsigned b) {
    return std::pair(-ranges[a], a) < std::pair(-ranges[b], b);
  });
  rests.resize(order.size() + 1);
  for (size_t i = order.size(); i-- > 0;) {
    rests[i] = rests[i + 1];
    for (size_t b = 0; b < kMaxBounds; ++b) {
      double least = HUGE_VAL, most = 0;
      for (const Point &point : points[order[i]]) {
        least = std::min(least, point.errors[b]);
        most = std::max(most, point.errors[b]);
      }
      rests[i].least[b] += least;
      rests[i].most[b] += most;
    }
  }
}

/// How far above the bound every completion ends that keeps the limits;
/// infinite if none does. What of a limit is not used up in the end counts at
/// its price: time = bound + penalty + multipliers * (limit - error).
double Combiner::excessOf(const Label &label, const Rest &rest) const {
  double excess = label.penalty;
  for (size_t b = 0; b < kMaxBounds; ++b) {
    if (!std::isfinite(limits[b]))
      continue;
    if (label.errors[b] + rest.least[b] > limits[b] * (1 + kTolerance))
      return HUGE_VAL;
    excess += relaxation.multipliers[b] *
              std::max(0.0, limits[b] - label.errors[b] - rest.most[b]);
  }
  return excess;
}

void Combiner::keepBest(std::vector<Label> &labels) const {
  llvm::sort(labels, [](const Label &a, const Label &b) {
    return std::tie(a.time, a.relevant, a.parent, a.point) <
           std::tie(b.time, b.relevant, b.parent, b.point);
  });
  size_t kept = 0;
  for (const Label &label : labels) {
    bool dominated = false;
    size_t first = kept > kCompared ? kept - kCompared : 0;
    for (size_t i = kept; i-- > first && !dominated;)
      dominated = within(labels[i].relevant, label.relevant);
    if (!dominated)
      labels[kept++] = label;
  }
  labels.resize(kept);
}

/// Of too many labels keeps those that are least above the bound.
void Combiner::keepFew(std::vector<Label> &labels, const Rest &rest) {
  if (static_cast<int64_t>(labels.size()) <= mostLabels)
    return;
  std::vector<std::pair<double, unsigned>> excess;
  for (const auto &[i, label] : llvm::enumerate(labels))
    excess.push_back({excessOf(label, rest), static_cast<unsigned>(i)});
  std::nth_element(excess.begin(), excess.begin() + mostLabels, excess.end());
  dropped = std::min(dropped, excess[mostLabels].first);
  excess.resize(mostLabels);
  llvm::sort(excess, llvm::less_second());
  std::vector<Label> kept;
  for (const auto &entry : excess)
    kept.push_back(labels[entry.second]);
  labels = std::move(kept);
}

std::vector<unsigned> Combiner::run() {
  thin();
  arrange();
  std::vector<std::vector<std::pair<unsigned, unsigned>>> trace;
  std::vector<Label> labels(1, Label{0, 0, {}, 0, 0, {}});
  for (const auto &[i, component] : llvm::enumerate(order)) {
    std::vector<Label> next;
    for (const auto &[parent, label] : llvm::enumerate(labels))
      for (const auto &[p, point] : llvm::enumerate(points[component])) {
        Label longer{label.time + point.time,
                     label.penalty + point.penalty,
                     label.errors,
                     static_cast<unsigned>(parent),
                     static_cast<unsigned>(p),
                     {}};
        for (size_t b = 0; b < kMaxBounds; ++b) {
          longer.errors[b] += point.errors[b];
          if (std::isfinite(limits[b]))
            longer.relevant[b] =
                std::max(longer.errors[b], limits[b] - rests[i + 1].most[b]);
        }
        if (excessOf(longer, rests[i + 1]) <= window)
          next.push_back(longer);
      }
    keepBest(next);
    keepFew(next, rests[i + 1]);
    auto &steps = trace.emplace_back();
    for (const Label &label : next)
      steps.push_back({label.parent, label.point});
    labels = std::move(next);
  }
  std::vector<unsigned> chosen;
  if (labels.empty())
    return chosen;
  auto fastest = llvm::min_element(
      labels, [](const Label &a, const Label &b) { return a.time < b.time; });
  unsigned label = fastest - labels.begin();
  chosen.resize(points.size());
  for (size_t i = order.size(); i-- > 0;) {
    chosen[order[i]] = trace[i][label].second;
    label = trace[i][label].first;
  }
  return chosen;
}

//===----------------------------------------------------------------------===//
// Branch and bound
//===----------------------------------------------------------------------===//

struct Node {
  std::vector<Component> components;
  /// Of the node that it was branched from.
  double bound;
};

struct Search {
  const Errors &limits;
  double longest;
  const Limits &effort;
  SearchResult result;
  std::vector<Node> open;

  double gapOf(double bound) const {
    return (result.best ? result.best->time : longest) - bound;
  }
  bool isClosed(double bound) const {
    return gapOf(bound) <= kRounding * (longest + 1);
  }
  void offer(std::optional<Assignment> assignment);
  void scaleUp(const Node &node, const Relaxation &relaxation);
  bool finish(const Node &node, const Relaxation &relaxation, double &bound);
  void branch(Node node, const Relaxation &relaxation);
  void run();
};

void Search::offer(std::optional<Assignment> assignment) {
  if (assignment && keeps(assignment->errors, limits) &&
      (!result.best || assignment->time < result.best->time))
    result.best = std::move(assignment);
}

/// Larger multipliers lead to assignments within the limits: bisects for the
/// smallest factor that does.
void Search::scaleUp(const Node &node, const Relaxation &relaxation) {
  double low = 1, high = 2;
  bool found = false;
  for (int i = 0; i < kScalings; ++i) {
    double factor = found ? (low + high) / 2 : high;
    Multipliers multipliers = relaxation.multipliers;
    for (double &multiplier : multipliers)
      multiplier *= factor;
    double bound;
    Assignment answer = respond(node.components, multipliers, limits, bound);
    bool kept = keeps(answer.errors, limits);
    if (kept) {
      high = factor;
      found = true;
    } else {
      low = factor;
      if (!found)
        high *= 2;
    }
    offer(std::move(answer));
  }
}

/// The relaxation with no multiplier at 0, so that among choices that take as
/// long those with smaller errors come first. Its bound is lower by little.
Relaxation raise(const Node &node, Relaxation relaxation,
                 const Errors &limits) {
  double bound = relaxation.bound;
  for (size_t b = 0; b < kMaxBounds; ++b)
    if (std::isfinite(limits[b]))
      relaxation.multipliers[b] = std::max(
          relaxation.multipliers[b], kFloor * std::abs(bound) / limits[b]);
  respond(node.components, relaxation.multipliers, limits, relaxation.bound);
  return relaxation;
}

/// Widens the window until the node's fastest assignment is known; false if
/// that takes too many labels. `bound` rises to what is proven.
bool Search::finish(const Node &node, const Relaxation &relaxation,
                    double &bound) {
  double slop = kRounding * (longest + 1);
  double window = (longest + 1) * kFirstWindow;
  while (true) {
    window = std::min(window, gapOf(relaxation.bound)) + slop;
    std::vector<std::vector<Point>> points;
    for (const Component &component : node.components) {
      auto list = pointsWithin(component, relaxation.multipliers, window,
                               effort.labels);
      if (!list)
        return false;
      points.push_back(std::move(*list));
    }
    Combiner combiner{std::move(points), relaxation, limits, window,
                      effort.labels};
    std::vector<unsigned> chosen = combiner.run();
    if (!chosen.empty()) {
      Assignment found;
      for (const auto &[list, p] : llvm::zip(combiner.points, chosen)) {
        found.time += list[p].time;
        for (size_t b = 0; b < kMaxBounds; ++b)
          found.errors[b] += list[p].errors[b];
        found.choices.push_back(list[p].choices);
      }
      offer(std::move(found));
    }
    double proven = std::min(window, combiner.dropped);
    bound = std::max(bound, relaxation.bound + proven);
    if (proven >= gapOf(relaxation.bound))
      return true;
    if (proven < window)
      return false;
    window *= kGrowth;
  }
}

/// Where to split a node: a candidate that some of its assignments take.
struct Split {
  size_t component = 0, stage = 0;
  unsigned candidate = 0;
};

/// The candidate whose weight in the relaxation's mix is nearest to a half; or
/// of the first product that has a choice; none if nothing is left to choose.
std::optional<Split> splitOf(const std::vector<Component> &components,
                             const Relaxation &relaxation) {
  std::optional<Split> split;
  double nearest = 0.5 - 1e-9;
  for (const auto &[c, component] : llvm::enumerate(components))
    for (const auto &[s, stage] : llvm::enumerate(component.stages)) {
      std::map<unsigned, double> weights;
      for (const auto &[assignment, weight] : relaxation.mix)
        weights[assignment.choices[c][s]] += weight;
      for (auto [candidate, weight] : weights)
        if (std::abs(weight - 0.5) < nearest) {
          nearest = std::abs(weight - 0.5);
          split = Split{c, s, candidate};
        }
    }
  if (split)
    return split;
  for (const auto &[c, component] : llvm::enumerate(components))
    for (const auto &[s, stage] : llvm::enumerate(component.stages))
      if (stage.choices.size() > 1)
        return Split{c, s, stage.choices.front().candidate};
  return std::nullopt;
}

/// Splits the node; the half that takes the candidate is looked at first.
void Search::branch(Node node, const Relaxation &relaxation) {
  std::optional<Split> split = splitOf(node.components, relaxation);
  if (!split)
    return;
  auto takes = [&](const Choice &choice) {
    return choice.candidate == split->candidate;
  };
  auto choicesOf = [&](Node &half) -> std::vector<Choice> & {
    return half.components[split->component].stages[split->stage].choices;
  };
  Node with{node.components, node.bound};
  llvm::erase_if(choicesOf(with), [&](const Choice &c) { return !takes(c); });
  llvm::erase_if(choicesOf(node), takes);
  open.push_back(std::move(node));
  open.push_back(std::move(with));
}

void Search::run() {
  while (!open.empty() && result.nodes < effort.nodes) {
    Node node = std::move(open.back());
    open.pop_back();
    if (result.nodes > 0 && isClosed(node.bound))
      continue;
    Relaxation relaxation = relax(node.components, limits, longest);
    if (result.nodes++ == 0) {
      result.multipliers = relaxation.multipliers;
      result.dualBound = relaxation.bound;
    }
    offer(relaxation.incumbent);
    // Beyond the longest time there is nothing.
    if (relaxation.bound > longest * (1 + kRounding) ||
        isClosed(relaxation.bound))
      continue;
    Relaxation raised = raise(node, relaxation, limits);
    if (result.nodes == 1)
      scaleUp(node, raised);
    node.bound = relaxation.bound;
    if (isClosed(node.bound) || finish(node, raised, node.bound))
      continue;
    branch(std::move(node), relaxation);
  }
  result.complete = open.empty();
  result.proven = result.best ? result.best->time : longest;
  for (const Node &node : open)
    result.proven = std::min(result.proven, node.bound);
}

} // namespace

SearchResult budget::search(std::vector<Component> components,
                            const Errors &limits, double longest,
                            const Limits &effort) {
  Search search{limits, longest, effort, {}, {}};
  search.open.push_back({std::move(components), -HUGE_VAL});
  search.run();
  return search.result;
}
