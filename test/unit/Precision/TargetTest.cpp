//===- TargetTest.cpp - descriptions of targets ---------------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// What the built-in targets run, and that a description with a hole in it is
// refused.
//
//===----------------------------------------------------------------------===//

#include "mpt/Precision/Target.h"
#include "llvm/Support/JSON.h"
#include "gtest/gtest.h"

using namespace mlir;
using namespace mpt;
using namespace mpt::precision;

namespace {

class TargetTest : public testing::Test {
protected:
  TargetTest() { context.loadDialect<MPTDialect>(); }

  /// How many of the pairs of storages, with their defaults, a target runs.
  std::string runs(StringRef name) {
    auto target = getTarget(name);
    EXPECT_TRUE(static_cast<bool>(target));
    std::string text;
    for (unsigned l = 0; l < 5; ++l)
      for (unsigned r = 0; r < 5; ++r) {
        FormatPair pair = pairOf(&context, Storage(l), Storage(r));
        if (target->whyNotRun(pair).empty())
          text += nameOf(pair) + "; ";
      }
    return text;
  }

  MLIRContext context;
};

TEST_F(TargetTest, BuiltInTargetsRunWhatTheirMachinesRun) {
  EXPECT_EQ(runs("a100"), "f32 x f32; bf16 x bf16; ");
  const char *hopper = "f32 x f32; bf16 x bf16; f8E4M3FN x f8E4M3FN; "
                       "f8E4M3FN x f8E5M2; f8E5M2 x f8E4M3FN; ";
  EXPECT_EQ(runs("h100"), hopper);
  EXPECT_EQ(runs("h200"), hopper);
  EXPECT_EQ(runs("cpu-emulated"),
            std::string(hopper) + "f8E5M2 x f8E5M2; i8 x i8; ");
  EXPECT_EQ(builtInTargets().size(), 4u);
}

TEST_F(TargetTest, SaysWhatItRunsInstead) {
  auto target = getTarget("h200");
  ASSERT_TRUE(static_cast<bool>(target));
  FormatAttr random =
      FormatAttr::get(&context, Storage::E4M3, Granularity::PerTensor,
                      Recipe::Delayed, Rounding::Stochastic);
  EXPECT_EQ(target->whyNotRun({random, random}), "");
  FormatAttr rows =
      FormatAttr::get(&context, Storage::E4M3, Granularity::PerRow,
                      Recipe::Current, Rounding::Nearest);
  EXPECT_EQ(target->whyNotRun({rows, random}),
            "h200 does not run f8E4M3FN[per_row] x "
            "f8E4M3FN[delayed=1024,stochastic], only f8E4M3FN x f8E4M3FN with "
            "scale per_tensor, recipe current, delayed or fixed and rounding "
            "nearest or stochastic");
  EXPECT_EQ(target->whyNotRun(pairOf(&context, Storage::I8)),
            "h200 does not run i8 x i8");
}

/// A small description, which `change` spoils.
template <typename Change> std::string refusal(Change change) {
  auto figure = [](double value, const char *unit) {
    return llvm::json::Object{
        {"value", value}, {"unit", unit}, {"source", "a test"}};
  };
  auto place = [] {
    return llvm::json::Object{
        {"where", "pass"}, {"source", "a test"}, {"launches", 1}};
  };
  llvm::json::Object root{
      {"format", "mpt-target"},
      {"version", 1},
      {"name", "small"},
      {"device", "none"},
      {"figures",
       llvm::json::Object{{"memory_bandwidth", figure(100, "GB/s")},
                          {"memory_efficiency", figure(0.5, "share")},
                          {"launch", figure(0, "us")},
                          {"units", figure(2, "processors")},
                          {"result_bytes", figure(4, "bytes")}}},
      {"tiles",
       llvm::json::Object{
           {"shapes", llvm::json::Array{llvm::json::Array{64, 64}}},
           {"splits", llvm::json::Array{1}},
           {"source", "a test"}}},
      {"rates",
       llvm::json::Object{
           {"f32",
            llvm::json::Object{{"peak", figure(1, "TFLOP/s")},
                               {"efficiency", figure(1, "share")},
                               {"overhead_k", figure(0, "elements of k")}}}}},
      {"products", llvm::json::Array{llvm::json::Object{
                       {"lhs", llvm::json::Array{"i8", "f32", "bf16"}},
                       {"rhs", llvm::json::Array{"i8", "f32", "bf16"}},
                       {"scale", llvm::json::Array{"per_tensor"}},
                       {"recipe", llvm::json::Array{"current"}},
                       {"rounding", llvm::json::Array{"nearest"}},
                       {"rate", "f32"},
                       {"layout", "any"},
                       {"alignment", 1},
                       {"source", "a test"}}}},
      {"casts", llvm::json::Object{{"amax", place()},
                                   {"bf16", place()},
                                   {"current", place()},
                                   {"delayed", place()},
                                   {"fixed", place()},
                                   {"transposed", place()}}}};
  change(root);
  std::string text;
  llvm::raw_string_ostream(text) << llvm::json::Value(std::move(root));
  auto target = parseTarget(text, "small.json");
  return target ? "" : llvm::toString(target.takeError());
}

TEST_F(TargetTest, RefusesHoles) {
  using llvm::json::Object;
  EXPECT_EQ(refusal([](Object &) {}), "");
  EXPECT_EQ(refusal([](Object &o) { o.getObject("figures")->erase("launch"); }),
            "small.json: figures: 'launch' is missing");
  EXPECT_EQ(refusal([](Object &o) {
              o.getObject("figures")->getObject("units")->erase("source");
            }),
            "small.json: figures.units: 'source' is missing");
  EXPECT_EQ(refusal([](Object &o) {
              (*o.getObject("figures")->getObject("units"))["value"] = 0;
            }),
            "small.json: figures.units.value: expected more than 0");
  EXPECT_EQ(
      refusal([](Object &o) {
        (*o.getObject("figures")->getObject("memory_efficiency"))["value"] = 2;
      }),
      "small.json: figures.memory_efficiency: a share above 1");
  EXPECT_EQ(refusal([](Object &o) {
              (*o.getObject("figures")->getObject("launch"))["unit"] = "ms";
            }),
            "small.json: figures.launch.unit: expected 'us', found 'ms'");
  auto product = [](Object &o) -> Object & {
    return *(*o.getArray("products"))[0].getAsObject();
  };
  EXPECT_EQ(refusal([&](Object &o) { product(o)["rate"] = "int8"; }),
            "small.json: products[0].rate: 'int8' is not in 'rates'");
  EXPECT_EQ(
      refusal([&](Object &o) { product(o)["lhs"] = llvm::json::Array{"fp4"}; }),
      "small.json: products[0].lhs[0]: 'fp4' is unknown");
  EXPECT_EQ(refusal([&](Object &o) {
              product(o)["rhs"] = llvm::json::Array{"i8", "f32"};
            }),
            "small.json: products: none is bf16 x bf16");
  EXPECT_EQ(refusal([&](Object &o) {
              (*o.getObject("tiles"))["splits"] = llvm::json::Array{2};
            }),
            "small.json: tiles: 'splits' must contain 1");
  EXPECT_EQ(refusal([](Object &o) {
              (*o.getObject("casts")->getObject("bf16"))["where"] = "nowhere";
            }),
            "small.json: casts.bf16.where: expected 'producer' or 'pass', "
            "found 'nowhere'");
  EXPECT_EQ(llvm::toString(getTarget("h300").takeError()),
            "unknown target 'h300', expected a100, cpu-emulated, h100, h200 or "
            "the path of a .json file");
}

TEST_F(TargetTest, RefusesBracketsThatWouldOverflowTheStack) {
  auto target = parseTarget(std::string(200000, '['), "deep.json");
  ASSERT_FALSE(static_cast<bool>(target));
  EXPECT_EQ(llvm::toString(target.takeError()),
            "deep.json: not valid JSON: nested too deep");
}

} // namespace
