//===- Relaxation.cpp - the best multipliers of a budget ------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// See Relaxation.h. The linear program has a row per bound and one for the sum
// of weights, so its basis is a matrix of at most 9 x 9 that is solved anew in
// every step. Whatever goes wrong in it numerically weakens the multipliers;
// the bound is computed from them afterwards and holds all the same.
//
//===----------------------------------------------------------------------===//

#include "Relaxation.h"
#include <algorithm>
#include <cmath>

using namespace mpt::precision;
using namespace mpt::precision::budget;

namespace {

constexpr size_t kMaxRows = kMaxBounds + 1;
constexpr int kMaxSteps = 400;
/// Relative to the prices: reduced costs that are rounding.
constexpr double kPrecision = 1e-12;
/// The cost of breaking all bounds, in longest times.
constexpr double kPenalty = 1e4;

using Vector = std::array<double, kMaxRows>;
using Matrix = std::array<Vector, kMaxRows>;

/// Solves a x = b by elimination with row pivots; false if `a` is singular.
bool solve(Matrix a, Vector b, size_t n, Vector &x) {
  for (size_t i = 0; i < n; ++i) {
    size_t pivot = i;
    for (size_t r = i + 1; r < n; ++r)
      if (std::abs(a[r][i]) > std::abs(a[pivot][i]))
        pivot = r;
    if (a[pivot][i] == 0)
      return false;
    std::swap(a[i], a[pivot]);
    std::swap(b[i], b[pivot]);
    for (size_t r = i + 1; r < n; ++r) {
      double factor = a[r][i] / a[i][i];
      for (size_t c = i; c < n; ++c)
        a[r][c] -= factor * a[i][c];
      b[r] -= factor * b[i];
    }
  }
  for (size_t i = n; i-- > 0;) {
    x[i] = b[i];
    for (size_t c = i + 1; c < n; ++c)
      x[i] -= a[i][c] * x[c];
    x[i] /= a[i][i];
  }
  return true;
}

/// min cost * x, sum of columns * x = 1 in every row, x >= 0. Rows are the
/// bounds in units of their limits, and the sum of weights.
struct Master {
  const std::vector<Component> &components;
  const Errors &limits;
  double longest;
  /// The bounds that have a limit.
  std::vector<size_t> bounds;
  size_t rows;

  struct Column {
    Vector entries{};
    double cost = 0;
    /// Null of slacks and of the column that stands for breaking the bounds.
    std::optional<Assignment> assignment;
  };
  std::vector<Column> columns;
  std::vector<size_t> basis;
  Vector prices{}, weights{};

  Master(const std::vector<Component> &components, const Errors &limits,
         double longest);
  bool update();
  bool enter(size_t column);
  std::optional<size_t> cheapest(bool firstOnly) const;
  double reducedCost(const Column &column) const;
  double rounding() const;
  Multipliers multipliers() const;
  void add(Assignment assignment);
};

Master::Master(const std::vector<Component> &components, const Errors &limits,
               double longest)
    : components(components), limits(limits), longest(longest) {
  for (size_t b = 0; b < kMaxBounds; ++b)
    if (std::isfinite(limits[b]))
      bounds.push_back(b);
  rows = bounds.size() + 1;
  for (size_t r = 0; r < rows; ++r) {
    Column column;
    column.entries[r] = 1;
    if (r == bounds.size())
      column.cost = kPenalty * (longest + 1);
    columns.push_back(column);
    basis.push_back(r);
  }
}

/// Weights and prices of the basis; false if it has become singular.
bool Master::update() {
  Matrix matrix{}, transposed{};
  Vector ones{}, costs{};
  for (size_t c = 0; c < rows; ++c) {
    costs[c] = columns[basis[c]].cost;
    ones[c] = 1;
    for (size_t r = 0; r < rows; ++r)
      matrix[r][c] = transposed[c][r] = columns[basis[c]].entries[r];
  }
  return ::solve(matrix, ones, rows, weights) &&
         ::solve(transposed, costs, rows, prices);
}

double Master::reducedCost(const Column &column) const {
  double cost = column.cost;
  for (size_t r = 0; r < rows; ++r)
    cost -= prices[r] * column.entries[r];
  return cost;
}

double Master::rounding() const {
  double largest = longest + 1;
  for (size_t r = 0; r < rows; ++r)
    largest = std::max(largest, std::abs(prices[r]));
  return kPrecision * largest;
}

/// The column that lowers the cost fastest, if any does; or the first one.
std::optional<size_t> Master::cheapest(bool firstOnly) const {
  std::optional<size_t> best;
  double least = -rounding();
  for (size_t c = 0; c < columns.size(); ++c) {
    if (std::find(basis.begin(), basis.end(), c) != basis.end())
      continue;
    double cost = reducedCost(columns[c]);
    if (cost < least) {
      least = cost;
      best = c;
      if (firstOnly)
        break;
    }
  }
  return best;
}

/// Brings a column into the basis; false if that fails numerically.
bool Master::enter(size_t column) {
  Matrix matrix{};
  for (size_t c = 0; c < rows; ++c)
    for (size_t r = 0; r < rows; ++r)
      matrix[r][c] = columns[basis[c]].entries[r];
  Vector direction{};
  if (!::solve(matrix, columns[column].entries, rows, direction))
    return false;
  size_t leaves = rows;
  double least = HUGE_VAL;
  for (size_t r = 0; r < rows; ++r) {
    if (direction[r] <= kPrecision)
      continue;
    double ratio = std::max(weights[r], 0.0) / direction[r];
    if (ratio < least || (ratio == least && basis[r] < basis[leaves])) {
      least = ratio;
      leaves = r;
    }
  }
  if (leaves == rows)
    return false;
  basis[leaves] = column;
  return update();
}

Multipliers Master::multipliers() const {
  Multipliers result{};
  for (size_t r = 0; r < bounds.size(); ++r)
    result[bounds[r]] = std::max(0.0, -prices[r]) / limits[bounds[r]];
  return result;
}

void Master::add(Assignment assignment) {
  Column column;
  column.cost = assignment.time;
  for (size_t r = 0; r < bounds.size(); ++r)
    column.entries[r] = assignment.errors[bounds[r]] / limits[bounds[r]];
  column.entries[bounds.size()] = 1;
  column.assignment = std::move(assignment);
  columns.push_back(std::move(column));
}

} // namespace

bool budget::keeps(const Errors &errors, const Errors &limits) {
  for (size_t b = 0; b < kMaxBounds; ++b)
    if (errors[b] > limits[b] * (1 + kTolerance))
      return false;
  return true;
}

Assignment budget::respond(const std::vector<Component> &components,
                           const Multipliers &multipliers, const Errors &limits,
                           double &bound) {
  Assignment result;
  bound = 0;
  for (const Component &component : components) {
    Point point = minimise(component, multipliers);
    result.time += point.time;
    for (size_t b = 0; b < kMaxBounds; ++b)
      result.errors[b] += point.errors[b];
    bound += point.penalty;
    result.choices.push_back(std::move(point.choices));
  }
  for (size_t b = 0; b < kMaxBounds; ++b)
    if (std::isfinite(limits[b]))
      bound -= multipliers[b] * limits[b];
  return result;
}

Relaxation budget::relax(const std::vector<Component> &components,
                         const Errors &limits, double longest) {
  Master master(components, limits, longest);
  Relaxation result;
  result.bound = -HUGE_VAL;
  bool sound = master.update();
  for (int step = 0; sound && step < kMaxSteps; ++step) {
    // The cheapest column converges fast; the first one cannot cycle.
    if (auto column = master.cheapest(/*firstOnly=*/step > kMaxSteps / 2)) {
      sound = master.enter(*column);
      continue;
    }
    Multipliers multipliers = master.multipliers();
    double bound;
    Assignment answer = respond(components, multipliers, limits, bound);
    if (bound > result.bound) {
      result.bound = bound;
      result.multipliers = multipliers;
    }
    if (keeps(answer.errors, limits) &&
        (!result.incumbent || answer.time < result.incumbent->time))
      result.incumbent = answer;
    master.add(std::move(answer));
    if (master.reducedCost(master.columns.back()) >= -master.rounding())
      break;
  }
  for (size_t r = 0; r < master.rows; ++r) {
    const auto &assignment = master.columns[master.basis[r]].assignment;
    if (assignment && master.weights[r] > 0)
      result.mix.push_back({*assignment, master.weights[r]});
  }
  return result;
}
