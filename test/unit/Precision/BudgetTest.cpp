//===- BudgetTest.cpp - the budget's solver against brute force -----------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Random problems of up to 12 products of up to 4 candidates, every choice of
// which is tried; and what the checks before and after must refuse.
//
//===----------------------------------------------------------------------===//

#include "mpt/Precision/Budget.h"
#include "gtest/gtest.h"
#include <cmath>
#include <random>

using namespace mpt::precision::budget;

namespace {

/// The least time within the bounds, by trying every choice; infinite if none.
/// Times and errors only grow, so a part of a choice that is too slow or too
/// wrong already is not gone on with.
class BruteForce {
public:
  explicit BruteForce(const Problem &problem)
      : problem(problem), users(problem.shared.size()),
        errors(problem.bounds.size()) {
    visit(0, 0);
  }
  double best = HUGE_VAL;

private:
  bool keepsBounds() const {
    for (size_t b = 0; b < errors.size(); ++b)
      if (errors[b] > problem.bounds[b].limit * (1 + 1e-9))
        return false;
    return true;
  }

  void visit(size_t p, double time) {
    if (p == problem.products.size()) {
      if (keepsBounds())
        best = std::min(best, time);
      return;
    }
    for (const Candidate &candidate : problem.products[p].candidates) {
      double longer = time + candidate.time;
      for (unsigned s : candidate.shared)
        if (users[s]++ == 0)
          longer += problem.shared[s].time;
      std::vector<double> before = errors;
      for (size_t b = 0; b < errors.size(); ++b)
        errors[b] += candidate.errors[b];
      if (longer < best && keepsBounds())
        visit(p + 1, longer);
      errors = before;
      for (unsigned s : candidate.shared)
        --users[s];
    }
  }

  const Problem &problem;
  std::vector<int> users;
  std::vector<double> errors;
};

/// A problem whose candidates trade time for errors. Whole numbers make ties; a
/// full one has all candidates in every product.
Problem randomProblem(std::mt19937 &random, unsigned products,
                      unsigned candidates, unsigned bounds, unsigned shared,
                      bool whole, bool full = false) {
  auto draw = [&](double low, double high) {
    double x = std::uniform_real_distribution<double>(low, high)(random);
    return whole ? std::floor(x) : x;
  };
  auto below = [&](unsigned n) { return static_cast<unsigned>(random() % n); };
  Problem problem;
  std::vector<double> least(bounds), most(bounds);
  for (unsigned s = 0; s < shared; ++s)
    problem.shared.push_back({"s" + std::to_string(s), draw(0, 12)});
  for (unsigned p = 0; p < products; ++p) {
    Product product{"p" + std::to_string(p), {}};
    unsigned count = full ? candidates : 1 + below(candidates);
    for (unsigned c = 0; c < count; ++c) {
      Candidate candidate{"c" + std::to_string(c), draw(1, 40), {}, {}};
      for (unsigned b = 0; b < bounds; ++b)
        candidate.errors.push_back(draw(0, 20));
      for (unsigned s = 0; s < shared; ++s)
        if (below(4) == 0)
          candidate.shared.push_back(s);
      product.candidates.push_back(candidate);
    }
    for (unsigned b = 0; b < bounds; ++b) {
      double low = HUGE_VAL, high = 0;
      for (const Candidate &candidate : product.candidates) {
        low = std::min(low, candidate.errors[b]);
        high = std::max(high, candidate.errors[b]);
      }
      least[b] += low;
      most[b] += high;
    }
    problem.products.push_back(product);
  }
  for (unsigned b = 0; b < bounds; ++b) {
    double share = draw(0, 100) / 100;
    double limit = least[b] + share * share * (most[b] - least[b]);
    problem.bounds.push_back(
        {"b" + std::to_string(b), whole ? std::floor(limit) : limit});
  }
  return problem;
}

void compare(const Problem &problem) {
  ASSERT_FALSE(llvm::errorToBool(problem.check()));
  auto solution = solve(problem);
  ASSERT_TRUE(static_cast<bool>(solution));
  double best = BruteForce(problem).best;
  if (std::isinf(best)) {
    EXPECT_EQ(solution->status, Status::Infeasible);
    return;
  }
  ASSERT_EQ(solution->status, Status::Optimal);
  EXPECT_NEAR(solution->time, best, 1e-9 * (1 + best));
  EXPECT_LE(solution->dualBound, best + 1e-9 * (1 + best));
  llvm::Error error = verify(problem, *solution);
  EXPECT_FALSE(static_cast<bool>(error)) << llvm::toString(std::move(error));
}

TEST(Budget, AgreesWithBruteForce) {
  std::mt19937 random(1);
  int infeasible = 0;
  for (int i = 0; i < 1500; ++i) {
    Problem problem =
        randomProblem(random, 1 + i % 7, 4, i % 4, (i / 7) % 9, i % 3 == 0);
    SCOPED_TRACE("problem " + std::to_string(i));
    compare(problem);
    infeasible += std::isinf(BruteForce(problem).best);
  }
  // Both sorts came by.
  EXPECT_GT(infeasible, 100);
  EXPECT_LT(infeasible, 1000);
}

TEST(Budget, AgreesWithBruteForceOnUpToTwelveProducts) {
  std::mt19937 random(2);
  for (int i = 0; i < 300; ++i) {
    SCOPED_TRACE("problem " + std::to_string(i));
    compare(randomProblem(random, 8 + i % 5, 4, 1 + i % 3, 4 + i % 5,
                          i % 2 == 0, /*full=*/i % 4 == 0));
  }
}

/// Two products that read one value: a cast that does not pay for one pays for
/// both.
Problem sharing() {
  Problem problem;
  problem.bounds = {{"noise", 1}};
  problem.shared = {{"x/cast", 5}};
  Product product{"a", {{"high", 10, {0}, {}}, {"low", 6, {0.25}, {0}}}};
  problem.products = {product, product};
  problem.products[1].name = "b";
  return problem;
}

TEST(Budget, SharesCosts) {
  Problem problem = sharing();
  auto both = solve(problem);
  ASSERT_TRUE(static_cast<bool>(both));
  EXPECT_EQ(both->chosen, (std::vector<unsigned>{1, 1}));
  EXPECT_EQ(both->time, 17);
  problem.bounds[0].limit = 0.3;
  auto one = solve(problem);
  ASSERT_TRUE(static_cast<bool>(one));
  EXPECT_EQ(one->chosen, (std::vector<unsigned>{0, 0}));
}

TEST(Budget, NamesTheLeastFeasibleBound) {
  Problem problem;
  problem.bounds = {{"noise", 2}, {"persistent", 1}};
  // Each bound can be kept alone; both together cannot.
  problem.products = {{"a", {{"x", 1, {1, 4}, {}}, {"y", 1, {6, 1}, {}}}}};
  auto solution = solve(problem);
  ASSERT_TRUE(static_cast<bool>(solution));
  EXPECT_EQ(solution->status, Status::Infeasible);
  EXPECT_EQ(solution->smallest, (std::vector<double>{6, 4}));
  EXPECT_EQ(problem.bounds[solution->leastFeasible].name, "persistent");
}

TEST(Budget, VerifyRefusesWhatDoesNotFit) {
  Problem problem = sharing();
  auto solution = solve(problem);
  ASSERT_TRUE(static_cast<bool>(solution));
  auto refusal = [&](auto change) {
    Solution changed = *solution;
    change(changed);
    return llvm::toString(verify(problem, changed));
  };
  EXPECT_EQ(refusal([](Solution &) {}), "");
  EXPECT_EQ(refusal([](Solution &s) { s.time = 16; }),
            "the choice takes 17.00 us, not 16.00");
  EXPECT_EQ(refusal([](Solution &s) { s.dualBound += 1; }).substr(0, 21),
            "the multipliers prove");
  EXPECT_EQ(refusal([](Solution &s) { s.multipliers[0] = -1; }),
            "the multiplier of noise is -1.00");
  EXPECT_EQ(refusal([](Solution &s) { s.chosen[0] = 2; }),
            "product 'a' has no candidate 2");
  problem.bounds[0].limit = 0.4;
  EXPECT_EQ(refusal([](Solution &) {}),
            "the sum of noise is 5.000e-01, its bound 4.000e-01");
}

TEST(Budget, CheckRefusesBadNumbers) {
  auto refusal = [](auto change) {
    Problem problem = sharing();
    change(problem);
    return llvm::toString(problem.check());
  };
  EXPECT_EQ(refusal([](Problem &p) { p.bounds[0].limit = NAN; }),
            "bound 'noise' has limit nan, expected a number of 0 or more");
  EXPECT_EQ(refusal([](Problem &p) { p.products[1].name = "a"; }),
            "two products are named 'a'");
  EXPECT_EQ(
      refusal([](Problem &p) { p.products[0].candidates[1].name = "high"; }),
      "product 'a' has two candidates 'high'");
  EXPECT_EQ(refusal([](Problem &p) { p.products[0].candidates.clear(); }),
            "product 'a' has no candidate");
  EXPECT_EQ(refusal([](Problem &p) {
              p.products[0].candidates[1].errors[0] = HUGE_VAL;
            }),
            "candidate 'low' of product 'a' has noise INF, expected a number "
            "of 0 or more");
  EXPECT_EQ(
      refusal([](Problem &p) { p.products[0].candidates[1].shared = {3}; }),
      "candidate 'low' of product 'a' needs shared thing 3 of 1");
}

} // namespace
