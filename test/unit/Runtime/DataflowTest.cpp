//===- DataflowTest.cpp - tests of questions about launch lists -----------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Small launch lists with known answers, and random ones against a search that
// follows every path.
//
//===----------------------------------------------------------------------===//

#include "Dataflow.h"
#include "Failure.h"

#include <gtest/gtest.h>
#include <random>
#include <set>

using namespace mpt::rt;

namespace {

/// Buffers of 64 bytes: some arguments (parameters), then the arena.
struct List {
  Manifest manifest;

  List(int arguments, int arena) {
    for (int i = 0; i != arguments; ++i) {
      Tensor tensor;
      tensor.name = "p" + std::to_string(i);
      tensor.kind = MPT_PARAMETER;
      tensor.buffer = i;
      manifest.arguments.push_back(tensor);
    }
    for (int i = 0; i != arguments + arena; ++i) {
      Buffer buffer;
      buffer.kind = i < arguments ? BufferKind::Argument : BufferKind::Arena;
      buffer.bytes = 64;
      buffer.offset = 64 * i;
      manifest.buffers.push_back(buffer);
    }
  }
  /// A kernel; a write below 0 is to the second half of buffer ~write.
  void add(const std::string &name, std::vector<int> reads,
           std::vector<int> writes) {
    Launch launch;
    launch.name = name;
    for (int buffer : reads)
      launch.args.push_back({buffer, 0});
    for (int buffer : writes)
      launch.args.push_back(
          {buffer < 0 ? ~buffer : buffer, buffer < 0 ? 32 : 0});
    launch.written = static_cast<int64_t>(writes.size());
    manifest.launches.push_back(launch);
  }
  void gradient(size_t parameter, int buffer) {
    manifest.gradients.push_back({parameter, {buffer, 0}});
  }
  void result(const std::string &name, int buffer) {
    Tensor tensor;
    tensor.name = name;
    tensor.buffer = buffer;
    manifest.results.push_back(tensor);
  }
};

std::string refusal(const Manifest &manifest) {
  try {
    planGradient(manifest);
  } catch (const Failure &failure) {
    return failure.what();
  }
  return "";
}

using Sets = std::vector<std::vector<size_t>>;

} // namespace

TEST(Dataflow, updatesAndWhatReadsThemDoNotRun) {
  List list(2, 4);
  list.add("forward", {0, 1}, {2});
  list.add("grad0", {2}, {3});
  list.add("norm", {3}, {4, 1}); // also writes an argument
  list.add("update0", {0, 3, 4}, {0});
  list.add("after", {4}, {5});
  list.gradient(0, 3);
  list.result("loss", 2);
  list.result("grad_norm", 4);
  list.result("later", 5);
  GradientPlan plan = planGradient(list.manifest);
  EXPECT_EQ(plan.runs, (std::vector<bool>{true, true, false, false, false}));
  EXPECT_EQ(plan.missing, (std::vector<std::string>{"", "norm", "norm"}));
  EXPECT_TRUE(plan.reads[1]);
  EXPECT_FALSE(plan.reads[3]);
}

TEST(Dataflow, aWholeWriteMakesABufferGoodAgain) {
  List list(1, 3);
  list.add("state", {0}, {0, 1});
  list.add("part", {2}, {~1});
  list.gradient(0, 1);
  EXPECT_NE(refusal(list.manifest).find("launch 'state'"), std::string::npos);
  list.add("whole", {2}, {1});
  EXPECT_EQ(refusal(list.manifest), "");
}

TEST(Dataflow, refusesAnOverwrittenGradient) {
  List list(1, 2);
  list.manifest.buffers[2].offset = list.manifest.buffers[1].offset;
  list.add("grad", {0}, {1});
  list.add("late", {0}, {2});
  list.gradient(0, 1);
  EXPECT_EQ(refusal(list.manifest),
            "the gradient of 'p0' is overwritten by launch 'late' before the "
            "launches end");
  std::swap(list.manifest.launches[0], list.manifest.launches[1]);
  EXPECT_EQ(refusal(list.manifest), "");
}

TEST(Dataflow, refusesOldManifests) {
  List list(1, 1);
  EXPECT_NE(refusal(list.manifest).find("rebuild"), std::string::npos);
  list.add("k", {0}, {1});
  list.gradient(0, 1);
  list.manifest.launches[0].written = -1;
  EXPECT_NE(refusal(list.manifest).find("kernel 'k' writes; rebuild"),
            std::string::npos);
}

TEST(Dataflow, productsAndScattersKnowTheirExtent) {
  List list(1, 3);
  Launch product;
  product.op = LaunchOp::Product;
  product.m = 4, product.n = 2, product.k = 1;
  product.product.buffer = 1;
  product.lhs.buffer = 0, product.rhs.buffer = 2;
  EXPECT_FALSE(accessesOf(list.manifest, product).writes[0].whole);
  product.batch[1] = 2;
  LaunchAccesses accesses = accessesOf(list.manifest, product);
  EXPECT_TRUE(accesses.writes[0].whole);
  EXPECT_EQ(accesses.reads[1].buffer, 2);
  product.product.offset = 1;
  EXPECT_FALSE(accessesOf(list.manifest, product).writes[0].whole);
  Launch scatter;
  scatter.op = LaunchOp::ScatterAdd;
  scatter.table = 4, scatter.columns = 4;
  scatter.init.buffer = 1, scatter.result.buffer = 3;
  accesses = accessesOf(list.manifest, scatter);
  EXPECT_TRUE(accesses.writes[0].whole);
  EXPECT_EQ(accesses.reads.size(), 3u);
  Launch copy;
  copy.op = LaunchOp::Copy;
  copy.bytes = 60, copy.source.buffer = 2, copy.result.buffer = 1;
  EXPECT_FALSE(accessesOf(list.manifest, copy).writes[0].whole);
}

TEST(Dataflow, gradientsReached) {
  // dy -> dgrad -> dx -> grad0; dy -> grad1; dx also in one half of grad2,
  // whose other half was there before.
  List list(3, 6);
  list.add("dy", {}, {3});
  list.add("grad1", {3}, {4});
  list.add("dgrad", {3}, {5});
  list.add("grad0", {5}, {6});
  list.add("half", {3}, {7});
  list.add("other half", {5}, {~7});
  list.add("update", {0, 4, 5, 6, 7}, {0});
  list.gradient(0, 6);
  list.gradient(1, 4);
  list.gradient(2, 7);
  EXPECT_EQ(gradientsReachedFrom(list.manifest, {2, 0, 1, 4, 6}),
            (Sets{{0, 2}, {0, 1, 2}, {1}, {2}, {}}));
  EXPECT_THROW(gradientsReachedFrom(list.manifest, {7}), Failure);
}

TEST(Dataflow, randomListsAgreeWithFollowingEveryPath) {
  std::mt19937 random(3);
  for (int round = 0; round != 200; ++round) {
    List list(1, 12);
    auto arena = [&] { return 1 + static_cast<int>(random() % 12); };
    for (int i = 0; i != 80; ++i) {
      int to = arena();
      list.add("k" + std::to_string(i), {arena(), arena()},
               {random() % 4 ? to : ~to});
    }
    list.gradient(0, 5);
    list.gradient(0, 9);
    std::vector<size_t> all(80);
    for (size_t i = 0; i != 80; ++i)
      all[i] = i;
    Sets reached = gradientsReachedFrom(list.manifest, all);
    for (size_t start = 0; start != 80; ++start) {
      // Buffers that hold something of the launch, walking on from it.
      std::set<int64_t> held;
      for (size_t i = start; i != 80; ++i) {
        const std::vector<Place> &args = list.manifest.launches[i].args;
        bool reads = i == start || held.count(args[0].buffer) ||
                     held.count(args[1].buffer);
        if (reads)
          held.insert(args[2].buffer);
        else if (args[2].offset == 0)
          held.erase(args[2].buffer);
      }
      std::vector<size_t> wanted;
      for (size_t g = 0; g != 2; ++g)
        if (held.count(list.manifest.gradients[g].place.buffer))
          wanted.push_back(g);
      EXPECT_EQ(reached[start], wanted);
    }
  }
}
