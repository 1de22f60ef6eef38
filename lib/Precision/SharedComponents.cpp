//===- SharedComponents.cpp - products that share costs -------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// See SharedComponents.h. Both walks over the stages are dynamic programs with
// the same dominance: who has paid for less can still buy what the other has.
//
//===----------------------------------------------------------------------===//

#include "SharedComponents.h"
#include "llvm/ADT/DenseMap.h"
#include "llvm/ADT/EquivalenceClasses.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/SmallVector.h"
#include <algorithm>
#include <cmath>
#include <map>

using namespace llvm;
using namespace mpt::precision;
using namespace mpt::precision::budget;

namespace {

constexpr unsigned kSlots = 64;
/// Relative to the numbers compared: sums in another order differ by less.
constexpr double kRounding = 1e-12;

//===----------------------------------------------------------------------===//
// Building
//===----------------------------------------------------------------------===//

/// Who shares what, on the problem as it was given.
struct Builder {
  const Problem &problem;
  /// Products that can need it, ascending.
  std::vector<std::vector<unsigned>> users;

  explicit Builder(const Problem &problem);
  /// Whether it ties products together: it costs something, and more than one
  /// product can need it.
  bool ties(unsigned shared) const {
    return users[shared].size() > 1 && problem.shared[shared].time > 0;
  }
  std::vector<std::vector<unsigned>> components() const;
  std::vector<unsigned> inOrder(ArrayRef<unsigned> products) const;
  Expected<Component> build(ArrayRef<unsigned> products) const;
  std::vector<unsigned> tiesOf(unsigned product) const;
  std::vector<Choice>
  choicesOf(unsigned product, const std::map<unsigned, unsigned> &slots) const;
};

Builder::Builder(const Problem &problem)
    : problem(problem), users(problem.shared.size()) {
  for (const auto &[p, product] : enumerate(problem.products))
    for (const Candidate &candidate : product.candidates)
      for (unsigned shared : candidate.shared)
        if (users[shared].empty() || users[shared].back() != p)
          users[shared].push_back(p);
}

/// What ties `product` to others, ascending.
std::vector<unsigned> Builder::tiesOf(unsigned product) const {
  std::vector<unsigned> found;
  for (const Candidate &candidate : problem.products[product].candidates)
    copy_if(candidate.shared, std::back_inserter(found),
            [&](unsigned shared) { return ties(shared); });
  llvm::sort(found);
  found.erase(llvm::unique(found), found.end());
  return found;
}

std::vector<std::vector<unsigned>> Builder::components() const {
  EquivalenceClasses<unsigned> classes;
  for (unsigned p = 0; p < problem.products.size(); ++p)
    classes.insert(p);
  for (unsigned s = 0; s < users.size(); ++s)
    if (ties(s))
      for (unsigned p : users[s])
        classes.unionSets(users[s].front(), p);
  std::vector<std::vector<unsigned>> result;
  DenseMap<unsigned, size_t> indices;
  for (unsigned p = 0; p < problem.products.size(); ++p) {
    auto [it, isNew] =
        indices.try_emplace(classes.getLeaderValue(p), result.size());
    if (isNew)
      result.emplace_back();
    result[it->second].push_back(p);
  }
  return result;
}

/// The products in an order that keeps little alive: next comes who leaves the
/// fewest shared things alive, the first of equals.
std::vector<unsigned> Builder::inOrder(ArrayRef<unsigned> products) const {
  std::map<unsigned, int> left;
  for (unsigned p : products)
    for (unsigned shared : tiesOf(p))
      left.try_emplace(shared, users[shared].size());
  std::vector<unsigned> rest(products), result;
  std::map<unsigned, bool> alive;
  while (!rest.empty()) {
    int bestDelta = 0;
    size_t best = rest.size();
    for (const auto &[i, p] : enumerate(rest)) {
      int delta = 0;
      for (unsigned shared : tiesOf(p))
        delta += (left[shared] > 1 ? 1 : 0) - (alive[shared] ? 1 : 0);
      if (best == rest.size() || delta < bestDelta) {
        best = i;
        bestDelta = delta;
      }
    }
    for (unsigned shared : tiesOf(rest[best]))
      alive[shared] = --left[shared] > 0;
    result.push_back(rest[best]);
    rest.erase(rest.begin() + best);
  }
  return result;
}

std::vector<Choice>
Builder::choicesOf(unsigned product,
                   const std::map<unsigned, unsigned> &slots) const {
  std::vector<Choice> choices;
  for (const auto &[c, candidate] :
       enumerate(problem.products[product].candidates)) {
    Choice choice{static_cast<unsigned>(c), candidate.time, {}, 0};
    copy(candidate.errors, choice.errors.begin());
    for (unsigned shared : candidate.shared) {
      if (ties(shared))
        choice.needs |= uint64_t(1) << slots.at(shared);
      else
        choice.time += problem.shared[shared].time;
    }
    choices.push_back(choice);
  }
  auto isWorse = [&](const Choice &a) {
    return any_of(choices, [&](const Choice &b) {
      bool atMost = b.time <= a.time && within(b.errors, a.errors) &&
                    (b.needs & ~a.needs) == 0;
      bool same =
          b.time == a.time && b.errors == a.errors && b.needs == a.needs;
      return atMost && (!same || b.candidate < a.candidate);
    });
  };
  std::vector<Choice> kept;
  copy_if(choices, std::back_inserter(kept),
          [&](const Choice &choice) { return !isWorse(choice); });
  return kept;
}

Expected<Component> Builder::build(ArrayRef<unsigned> products) const {
  Component component;
  std::map<unsigned, unsigned> slots;
  std::map<unsigned, size_t> left;
  uint64_t used = 0;
  for (unsigned p : inOrder(products)) {
    Stage stage;
    stage.product = p;
    std::vector<unsigned> tied = tiesOf(p);
    for (unsigned shared : tied) {
      if (!left.try_emplace(shared, users[shared].size()).second)
        continue;
      if (used == ~uint64_t(0))
        return createStringError("more than " + Twine(kSlots) +
                                 " shared things are alive at '" +
                                 problem.products[p].name + "'");
      unsigned slot = countr_one(used);
      used |= uint64_t(1) << slot;
      slots[shared] = slot;
    }
    stage.slotTime.assign(kSlots, 0);
    for (auto [shared, slot] : slots)
      stage.slotTime[slot] = problem.shared[shared].time;
    stage.choices = choicesOf(p, slots);
    for (unsigned shared : tied)
      if (--left[shared] == 0) {
        stage.dies |= uint64_t(1) << slots[shared];
        slots.erase(shared);
      }
    used &= ~stage.dies;
    component.stages.push_back(std::move(stage));
  }
  return component;
}

//===----------------------------------------------------------------------===//
// Walking the stages
//===----------------------------------------------------------------------===//

/// A partial choice, seen from its end.
struct State {
  uint64_t mask;
  double cost;
  unsigned parent;
  unsigned choice;
};

double timeOf(uint64_t slots, const Stage &stage) {
  double time = 0;
  for (; slots; slots &= slots - 1)
    time += stage.slotTime[countr_zero(slots)];
  return time;
}

struct Walk {
  const Component &component;
  const Multipliers &multipliers;
  /// Per stage, per choice: time + multipliers * errors.
  std::vector<SmallVector<double>> weights;
  /// layers[s]: states in front of stage s.
  std::vector<std::vector<State>> layers;

  Walk(const Component &component, const Multipliers &multipliers);
  void forward(double window);
  static void prune(std::vector<State> &states, const Stage &stage,
                    double window);
};

Walk::Walk(const Component &component, const Multipliers &multipliers)
    : component(component), multipliers(multipliers) {
  for (const Stage &stage : component.stages) {
    auto &row = weights.emplace_back();
    for (const Choice &choice : stage.choices)
      row.push_back(choice.time + dot(multipliers, choice.errors));
  }
}

/// Keeps the cheapest state per mask, and no state that another one is cheaper
/// than by more than `window` once it has bought what it lacks.
void Walk::prune(std::vector<State> &states, const Stage &stage,
                 double window) {
  llvm::sort(states, [](const State &a, const State &b) {
    return std::tie(a.cost, a.parent, a.choice) <
           std::tie(b.cost, b.parent, b.choice);
  });
  size_t kept = 0;
  for (const State &state : states) {
    bool dominated = false;
    for (size_t i = 0; i < kept && !dominated; ++i) {
      const State &other = states[i];
      if (other.mask == state.mask)
        dominated = true;
      else
        dominated = other.cost + timeOf(state.mask & ~other.mask, stage) +
                        window + kRounding * std::abs(state.cost) <
                    state.cost;
    }
    if (!dominated)
      states[kept++] = state;
  }
  states.resize(kept);
}

void Walk::forward(double window) {
  layers.assign(1, {State{0, 0, 0, 0}});
  for (const auto &[s, stage] : enumerate(component.stages)) {
    std::vector<State> next;
    for (const auto &[i, state] : enumerate(layers.back()))
      for (const auto &[c, choice] : enumerate(stage.choices))
        next.push_back({(state.mask | choice.needs) & ~stage.dies,
                        state.cost + weights[s][c] +
                            timeOf(choice.needs & ~state.mask, stage),
                        static_cast<unsigned>(i), static_cast<unsigned>(c)});
    prune(next, stage, window);
    layers.push_back(std::move(next));
  }
}

/// `cost`-to-go of every state of a walk, by layer and mask.
using CostToGo = std::vector<DenseMap<uint64_t, double>>;

CostToGo backward(const Walk &walk) {
  const auto &stages = walk.component.stages;
  CostToGo toGo(stages.size() + 1);
  toGo.back()[0] = 0;
  for (size_t s = stages.size(); s-- > 0;) {
    const Stage &stage = stages[s];
    for (const State &state : walk.layers[s]) {
      double best = HUGE_VAL;
      for (const auto &[c, choice] : enumerate(stage.choices)) {
        auto it = toGo[s + 1].find((state.mask | choice.needs) & ~stage.dies);
        if (it != toGo[s + 1].end())
          best = std::min(best, walk.weights[s][c] +
                                    timeOf(choice.needs & ~state.mask, stage) +
                                    it->second);
      }
      toGo[s][state.mask] = best;
    }
  }
  return toGo;
}

/// A partial choice with all that it may be better in than another.
struct Label {
  uint64_t mask;
  double time, cost;
  Errors errors;
  unsigned parent, choice;
};

/// Of labels with one mask, keeps those that no other one is no worse than.
void keepBest(std::vector<Label> &labels) {
  llvm::sort(labels, [](const Label &a, const Label &b) {
    return std::tie(a.mask, a.time, a.errors, a.parent, a.choice) <
           std::tie(b.mask, b.time, b.errors, b.parent, b.choice);
  });
  size_t kept = 0, first = 0;
  for (size_t i = 0; i < labels.size(); ++i) {
    if (kept > 0 && labels[kept - 1].mask != labels[i].mask)
      first = kept;
    bool dominated = false;
    for (size_t j = first; j < kept && !dominated; ++j)
      dominated = within(labels[j].errors, labels[i].errors);
    if (!dominated)
      labels[kept++] = labels[i];
  }
  labels.resize(kept);
}

} // namespace

Expected<std::vector<Component>> budget::componentsOf(const Problem &problem) {
  Builder builder(problem);
  std::vector<Component> result;
  for (const std::vector<unsigned> &products : builder.components()) {
    Expected<Component> component = builder.build(products);
    if (!component)
      return component.takeError();
    result.push_back(std::move(*component));
  }
  return result;
}

Point budget::minimise(const Component &component,
                       const Multipliers &multipliers) {
  Walk walk(component, multipliers);
  walk.forward(0);
  size_t stages = component.stages.size();
  Point point;
  point.penalty = walk.layers.back().front().cost;
  point.choices.resize(stages);
  unsigned index = 0;
  for (size_t s = stages; s-- > 0;) {
    const State &state = walk.layers[s + 1][index];
    const Stage &stage = component.stages[s];
    const Choice &choice = stage.choices[state.choice];
    point.choices[s] = choice.candidate;
    index = state.parent;
    point.time +=
        choice.time + timeOf(choice.needs & ~walk.layers[s][index].mask, stage);
    for (size_t b = 0; b < kMaxBounds; ++b)
      point.errors[b] += choice.errors[b];
  }
  return point;
}

std::optional<std::vector<Point>>
budget::pointsWithin(const Component &component, const Multipliers &multipliers,
                     double window, int64_t most) {
  Walk walk(component, multipliers);
  walk.forward(window);
  CostToGo toGo = backward(walk);
  double least = toGo.front().at(0);
  double ceiling =
      least + window + kRounding * (std::abs(least) + std::abs(window));
  std::vector<std::vector<Label>> layers(1, {Label{0, 0, 0, {}, 0, 0}});
  for (const auto &[s, stage] : enumerate(component.stages)) {
    std::vector<Label> next;
    for (const auto &[i, label] : enumerate(layers.back()))
      for (const auto &[c, choice] : enumerate(stage.choices)) {
        Label longer = label;
        double bought = timeOf(choice.needs & ~label.mask, stage);
        longer.mask = (label.mask | choice.needs) & ~stage.dies;
        longer.cost += walk.weights[s][c] + bought;
        auto it = toGo[s + 1].find(longer.mask);
        if (it == toGo[s + 1].end() || longer.cost + it->second > ceiling)
          continue;
        longer.time += choice.time + bought;
        for (size_t b = 0; b < kMaxBounds; ++b)
          longer.errors[b] += choice.errors[b];
        longer.parent = i;
        longer.choice = c;
        next.push_back(longer);
      }
    keepBest(next);
    if (static_cast<int64_t>(next.size()) > most)
      return std::nullopt;
    layers.push_back(std::move(next));
  }
  std::vector<Point> points;
  for (const Label &last : layers.back()) {
    Point point{last.time, std::max(0.0, last.cost - least), last.errors, {}};
    point.choices.resize(component.stages.size());
    const Label *label = &last;
    for (size_t s = component.stages.size(); s-- > 0;) {
      point.choices[s] = component.stages[s].choices[label->choice].candidate;
      label = &layers[s][label->parent];
    }
    points.push_back(std::move(point));
  }
  return points;
}
