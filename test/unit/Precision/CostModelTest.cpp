//===- CostModelTest.cpp - predicted times --------------------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Predictions against published measurements, against arithmetic by hand, and
// the work that casts cause.
//
//===----------------------------------------------------------------------===//

#include "mpt/Precision/CostModel.h"
#include "gtest/gtest.h"

using namespace mlir;
using namespace mpt;
using namespace mpt::precision;

namespace {

class CostModelTest : public testing::Test {
protected:
  CostModelTest() { context.loadDialect<MPTDialect>(); }

  CostModel modelOf(StringRef name) {
    auto target = getTarget(name);
    EXPECT_TRUE(static_cast<bool>(target));
    return {*target, {}};
  }
  FormatPair bf16() { return pairOf(&context, Storage::BF16); }
  FormatPair e4m3() { return pairOf(&context, Storage::E4M3); }
  static double teraflops(const ProductShape &shape, const ProductTime &time) {
    return shape.getFlops() / time.us / 1e6;
  }

  MLIRContext context;
};

TEST_F(CostModelTest, AgreesWithPublishedRates) {
  // DeepGEMM on H800 (the H100's chip), which the overhead was fitted to; 15 %:
  // the fit has two parameters for four shapes and knows no waves.
  CostModel h100 = modelOf("h100");
  const std::pair<ProductShape, double> published[] = {
      {{4096, 24576, 1536}, 1212},
      {{4096, 4096, 7168}, 1410},
      {{4096, 7168, 16384}, 1520}};
  for (const auto &[shape, rate] : published)
    EXPECT_NEAR(teraflops(shape, h100.timeOf(shape, e4m3())), rate, 0.15 * rate)
        << shape.m << "x" << shape.n << "x" << shape.k;
  // torch.matmul on an H200.
  ProductShape cube{8192, 8192, 8192};
  EXPECT_NEAR(teraflops(cube, modelOf("h200").timeOf(cube, bf16())), 798, 16);
}

TEST_F(CostModelTest, FollowsTheRoofline) {
  CostModel h200 = modelOf("h200");
  // 16 rows: what counts is reading 16384 x 16384 codes; by hand.
  ProductTime thin = h200.timeOf({16, 16384, 16384}, e4m3());
  double bytes = 16384.0 * 16384 + 16 * 16384 + 4.0 * 16 * 16384;
  EXPECT_GT(thin.memory, thin.arithmetic);
  EXPECT_NEAR(thin.us, bytes / (4.8e6 * 0.9) + 1.5, 1e-9 * thin.us);
  // A weight's gradient has 8 x 4 tiles of 128 x 256, for 132 processors: k is
  // cut, or it would take as long as 132 tiles.
  ProductShape wgrad{1024, 1024, 32768};
  double whole = 2 * 128 * 256 * (32768.0 + 241) / (989.4e6 * 0.86 / 132) / 2;
  EXPECT_LT(h200.timeOf(wgrad, bf16()).us, whole);
  // Waves: one tile more than there are processors takes twice as long.
  CostModel coarse = h200;
  coarse.target.tiles = {{128, 256}};
  coarse.target.splits = {1};
  double one = coarse.timeOf({128 * 132, 256, 8192}, bf16()).arithmetic;
  double two = coarse.timeOf({128 * 133, 256, 8192}, bf16()).arithmetic;
  EXPECT_NEAR(two, 2 * one, 1e-9 * two);
}

TEST_F(CostModelTest, EightBitsPayWhereProductsAreLarge) {
  // A linear layer's forward product and its casts, against BF16's.
  auto total = [&](const CostModel &model, int64_t tokens, int64_t k, int64_t n,
                   const FormatPair &formats) {
    double us = model.timeOf({tokens, n, k}, formats).us;
    for (const Work &work : model.workOf({"x", tokens * k, true}, formats.lhs,
                                         /*turned=*/false))
      us += work.us;
    for (const Work &work : model.workOf({"w", k * n, false}, formats.rhs,
                                         /*turned=*/false))
      us += work.us;
    return us;
  };
  CostModel h200 = modelOf("h200");
  EXPECT_LT(total(h200, 32768, 1024, 4096, e4m3()),
            total(h200, 32768, 1024, 4096, bf16()));
  EXPECT_GT(total(h200, 1024, 256, 256, e4m3()),
            total(h200, 1024, 256, 256, bf16()));
  // Emulated products are no faster in any format.
  CostModel cpu = modelOf("cpu-emulated");
  ProductShape shape{1024, 1024, 1024};
  EXPECT_GE(cpu.timeOf(shape, pairOf(&context, Storage::I8)).us,
            0.99 * cpu.timeOf(shape, pairOf(&context, Storage::F32)).us);
}

TEST_F(CostModelTest, WhatDoesNotRunTakesForever) {
  EXPECT_TRUE(std::isinf(modelOf("a100").timeOf({64, 64, 64}, e4m3()).us));
}

TEST_F(CostModelTest, NamesSharedWork) {
  CostModel h200 = modelOf("h200");
  auto names = [&](const Tensor &tensor, FormatAttr format, bool turned) {
    std::string text;
    for (const Work &work : h200.workOf(tensor, format, turned))
      text += work.name + " " + std::to_string(int64_t(work.bytes)) + "; ";
    return text;
  };
  FormatAttr e5m2 = FormatAttr::get(&context, Storage::E5M2);
  Tensor value{"x", 1000, true}, weight{"w", 1000, false};
  EXPECT_EQ(names(value, FormatAttr::get(&context, Storage::F32), true), "");
  EXPECT_EQ(names(value, FormatAttr::get(&context, Storage::BF16), false),
            "x/cast.bf16 2000; ");
  EXPECT_EQ(names(weight, FormatAttr::get(&context, Storage::BF16), false),
            "w/cast.bf16 6000; ");
  EXPECT_EQ(names(value, e5m2, true),
            "x/amax 0; x/cast.f8E5M2 5000; x/cast.f8E5M2/transposed 2000; ");
  EXPECT_EQ(names(weight, e5m2, false), "w/amax 4000; w/cast.f8E5M2 5000; ");
  FormatAttr delayed =
      FormatAttr::get(&context, Storage::E4M3, Granularity::PerTensor,
                      Recipe::Delayed, Rounding::Nearest);
  EXPECT_EQ(names(value, delayed, false),
            "x/amax 0; x/cast.f8E4M3FN[delayed=1024] 1000; ");
}

TEST_F(CostModelTest, MeasuredTimesOverrule) {
  CostModel h200 = modelOf("h200");
  const char *text = R"({"format": "mpt-tuning", "version": 1, "target": "h200",
    "products": [{"m": 64, "n": 64, "k": 64, "batch": 1, "lhs": "f8E4M3FN",
                  "rhs": "f8E4M3FN", "us": 7.5}]})";
  auto table = parseTuningTable(text, "table", h200.target);
  ASSERT_TRUE(static_cast<bool>(table));
  h200.tuning = *table;
  ProductTime time = h200.timeOf({64, 64, 64}, e4m3());
  EXPECT_TRUE(time.measured);
  EXPECT_EQ(time.us, 7.5);
  EXPECT_FALSE(h200.timeOf({64, 64, 128}, e4m3()).measured);
  EXPECT_FALSE(h200.timeOf({64, 64, 64}, bf16()).measured);
}

TEST_F(CostModelTest, RefusesBadTables) {
  CostModel h200 = modelOf("h200");
  auto refusal = [&](const std::string &products,
                     const std::string &target = "h200") {
    return llvm::toString(
        parseTuningTable(
            R"({"format": "mpt-tuning", "version": 1, "target": ")" + target +
                R"(", "products": [)" + products + "]}",
            "table", h200.target)
            .takeError());
  };
  const std::string entry =
      R"({"m": 1, "n": 1, "k": 1, "batch": 1, "lhs": "bf16", "rhs": "bf16", "us": )";
  EXPECT_EQ(refusal(entry + "2}", "h100"),
            "table: measured on 'h100', expected 'h200'");
  EXPECT_EQ(refusal(entry + "0}"),
            "table: products[0]: 'us' is 0, expected more");
  EXPECT_EQ(refusal(entry + "1}," + entry + "2}"),
            "table: products[1]: shape and formats are there twice");
  EXPECT_EQ(refusal(R"({"m": 0})"), "table: products[0]: 'm' is 0, expected an "
                                    "integer of 1 or more");
}

} // namespace
