//===- StepModelTest.cpp - families of products in a launch list ----------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Which operand is the gradient, which products read the same tensor, and where
// a forward product is measured.
//
//===----------------------------------------------------------------------===//

#include "StepModel.h"
#include "Failure.h"

#include <gtest/gtest.h>

using namespace mpt;
using namespace mpt::metrics;

namespace {

constexpr int64_t kM = 6, kK = 4, kN = 5;

/// A launch list over arena buffers that are made as they are named.
class Steps {
public:
  rt::Manifest manifest;

  rt::Matrix matrix(int64_t buffer, int64_t rows, int64_t columns) {
    while (int64_t(manifest.buffers.size()) <= buffer)
      manifest.buffers.push_back({rt::BufferKind::Arena, 4 * 64, 0, {}});
    return {buffer, 0, rows, columns, {0, 0}};
  }
  size_t product(const char *name, const char *role, int64_t m, int64_t n,
                 int64_t k, rt::Matrix lhs, rt::Matrix rhs, int64_t result) {
    rt::Launch launch;
    launch.op = rt::LaunchOp::Product;
    launch.name = name;
    launch.role = role;
    launch.m = m;
    launch.n = n;
    launch.k = k;
    launch.lhs = lhs;
    launch.rhs = rhs;
    launch.product = matrix(result, n, 1);
    return add(launch);
  }
  size_t fill(int64_t buffer) {
    rt::Launch launch;
    launch.op = rt::LaunchOp::Fill;
    launch.bytes = 4 * 64;
    launch.result = {buffer, 0};
    return add(launch);
  }
  /// X (buffer 0) times W (1) is Y (2).
  size_t forward(const char *name = "dense", int64_t weight = 1) {
    return product(name, "fprop", kM, kN, kK, matrix(0, kK, 1),
                   matrix(weight, kN, 1), 2);
  }
  StepModel model() const {
    return {manifest, std::vector<bool>(manifest.launches.size(), true)};
  }

private:
  size_t add(const rt::Launch &launch) {
    manifest.launches.push_back(launch);
    return manifest.launches.size() - 1;
  }
};

TEST(StepModelTest, ForwardProductWaitsForItsGradient) {
  Steps steps;
  size_t forward = steps.forward();
  // dX = G * W', then dW' = G' * X: the gradient lies in buffer 2 by now.
  size_t dgrad =
      steps.product("dense/dgrad", "dgrad", kM, kK, kN, steps.matrix(2, kN, 1),
                    steps.matrix(1, 1, kN), 3);
  steps.product("dense/wgrad", "wgrad", kN, kK, kM, steps.matrix(2, 1, kN),
                steps.matrix(0, kK, 1), 4);
  StepModel model = steps.model();
  const std::vector<ProductModel> &products = model.products();
  EXPECT_EQ(products[0].measuredAfter, dgrad);
  EXPECT_TRUE(model.measuredAfter(forward).empty());
  EXPECT_EQ(model.measuredAfter(dgrad), (std::vector<size_t>{0, 1}));
  ASSERT_TRUE(products[0].gradient);
  EXPECT_EQ(products[0].gradientMatrix.rows, kN);
  EXPECT_EQ(products[0].gradientMatrix.columns, 1);
  EXPECT_EQ(products[1].gradientSide, GradientSide::Lhs);
  EXPECT_EQ(products[2].gradientSide, GradientSide::Lhs);
  // All three products read the same three tensors.
  EXPECT_EQ(model.tensors().size(), 3u);
  EXPECT_EQ(products[1].lhs, *products[0].gradient);
  EXPECT_EQ(products[2].lhs, *products[0].gradient);
  EXPECT_EQ(products[2].rhs, products[0].lhs);
  EXPECT_EQ(model.tensors()[*products[0].gradient].name, "dense/grad");
  EXPECT_EQ(model.tensors()[*products[0].gradient].rows, kM);
}

TEST(StepModelTest, TransposedGradientIsTurned) {
  Steps steps;
  steps.forward();
  // Only wgrad, dW' = G' * X with G stored as n x m; W lies in an argument.
  steps.product("dense/wgrad", "wgrad", kN, kK, kM, steps.matrix(5, kM, 1),
                steps.matrix(0, kK, 1), 4);
  steps.manifest.buffers[1].kind = rt::BufferKind::Argument;
  StepModel model = steps.model();
  const ProductModel &forward = model.products()[0];
  ASSERT_TRUE(forward.gradient);
  EXPECT_EQ(forward.gradientMatrix.rows, 1);
  EXPECT_EQ(forward.gradientMatrix.columns, kM);
  EXPECT_EQ(forward.measuredAfter, 1u);
}

TEST(StepModelTest, OperandThatMayBeGone) {
  Steps steps;
  size_t forward = steps.forward();
  steps.product("dense/dgrad", "dgrad", kM, kK, kN, steps.matrix(2, kN, 1),
                steps.matrix(1, 1, kN), 3);
  StepModel model = steps.model();
  EXPECT_FALSE(model.products()[0].gradient);
  EXPECT_EQ(model.products()[0].measuredAfter, forward);
  EXPECT_EQ(model.products()[1].gradientSide, GradientSide::Lhs);
}

TEST(StepModelTest, SharedTensorsUntilTheyAreOverwritten) {
  Steps steps;
  steps.forward("query", 1);
  steps.forward("key", 6);
  steps.fill(0);
  steps.forward("value", 7);
  StepModel model = steps.model();
  const std::vector<ProductModel> &products = model.products();
  EXPECT_EQ(products[0].lhs, products[1].lhs);
  EXPECT_NE(products[0].lhs, products[2].lhs);
  EXPECT_EQ(model.tensors()[products[0].lhs].name, "query/lhs");
  EXPECT_EQ(model.tensors()[products[2].lhs].name, "value/lhs");
}

TEST(StepModelTest, WhatIsNotSaidIsNotGuessed) {
  // X * X': which operand was which is unknown. Sizes that do not fit, an
  // operand that is neither, and a backward product of nothing.
  Steps same, sizes, strangers, orphan;
  same.product("dense", "fprop", kM, kM, kK, same.matrix(0, kK, 1),
               same.matrix(0, 1, kK), 2);
  same.product("dense/dgrad", "dgrad", kM, kK, kM, same.matrix(2, kM, 1),
               same.matrix(0, kK, 1), 3);
  EXPECT_FALSE(same.model().products()[0].gradient);
  EXPECT_EQ(same.model().products()[1].gradientSide, GradientSide::Lhs);

  sizes.forward();
  sizes.manifest.buffers[0].kind = rt::BufferKind::Argument;
  sizes.product("dense/dgrad", "dgrad", 1, kK, kN, sizes.matrix(2, kN, 1),
                sizes.matrix(1, 1, kN), 3);
  EXPECT_FALSE(sizes.model().products()[0].gradient);

  strangers.forward();
  strangers.product("dense/dgrad", "dgrad", kM, kK, kN,
                    strangers.matrix(8, kN, 1), strangers.matrix(9, 1, kN), 3);
  EXPECT_EQ(strangers.model().products()[1].gradientSide, GradientSide::None);

  orphan.product("lost/wgrad", "wgrad", kM, kN, kK, orphan.matrix(0, kK, 1),
                 orphan.matrix(1, kN, 1), 2);
  StepModel model = orphan.model();
  EXPECT_EQ(model.products()[0].gradientSide, GradientSide::None);
  EXPECT_EQ(model.tensors()[0].name, "lost/wgrad/lhs");
}

TEST(StepModelTest, Refusals) {
  EXPECT_THROW(Steps().model(), rt::Failure);
  Steps twice, role;
  twice.forward();
  twice.forward();
  EXPECT_THROW(twice.model(), rt::Failure);
  role.product("dense", "other", kM, kN, kK, role.matrix(0, kK, 1),
               role.matrix(1, kN, 1), 2);
  EXPECT_THROW(role.model(), rt::Failure);
}

} // namespace
