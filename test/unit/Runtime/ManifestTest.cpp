//===- ManifestTest.cpp - tests of the manifest's parser ------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// What is accepted comes out right; random bytes and random damage never crash
// the parser. What must be refused, and how, is in python/tests.
//
//===----------------------------------------------------------------------===//

#include "Manifest.h"

#include <cstring>
#include <gtest/gtest.h>
#include <random>

using namespace mpt::rt;

static const char text[] = R"({
  "format": "mpt-package", "version": 1, "function": "step", "target": "cpu",
  "engine": "reference", "graph_hash": "0011223344556677",
  "kernels_hash": "8899aabbccddeeff",
  "cpu": {"arch": "x86_64", "features": ["avx2"]},
  "arguments": [
    {"name": "w", "kind": "parameter", "dtype": "f32", "shape": [2, 3],
     "buffer": 0, "init": "file"},
    {"name": "t", "kind": "optimizer_state", "dtype": "i64", "shape": [],
     "buffer": 1, "init": 4},
    {"name": "ids", "kind": "input", "dtype": "i32", "shape": [5],
     "buffer": 2, "range": [-1, 7], "ignore_index": -100},
    {"name": "copy", "kind": "derived", "dtype": "bf16", "shape": [3],
     "buffer": 5, "init": "launches"}],
  "results": [{"name": "loss", "dtype": "f32", "shape": [], "buffer": 3}],
  "arena_bytes": 128,
  "buffers": [
    {"kind": "argument", "bytes": 24}, {"kind": "argument", "bytes": 8},
    {"kind": "argument", "bytes": 20},
    {"kind": "arena", "bytes": 64, "offset": 64},
    {"kind": "constant", "bytes": 2, "data": "fF01"},
    {"kind": "argument", "bytes": 6}],
  "launches": [
    {"op": "product", "name": "p", "role": "fprop", "m": 2, "n": 2, "k": 3,
     "batch": [1, 1],
     "lhs": {"buffer": 0, "offset": 0, "rows": 3, "columns": 1, "batch": [0, 0]},
     "rhs": {"buffer": 0, "offset": 0, "rows": 1, "columns": 3, "batch": [0, 0]},
     "result": {"buffer": 3, "offset": 4, "rows": 1, "columns": 2,
                "batch": [9, 9]}},
    {"op": "kernel", "symbol": "f", "args": [[3, 64], [0, 4]], "written": 1,
     "tasks": 7},
    {"op": "fill", "bytes": 12, "result": [3, 52]}],
  "init": [
    {"op": "kernel", "symbol": "g", "args": [[0, 0], [5, 0]], "written": 1,
     "tasks": 1}],
  "gradients": [
    {"parameter": "w", "buffer": 3, "offset": 4, "strides": [1, 2]}]
})";

TEST(Manifest, parses) {
  Manifest m = parseManifest(text, std::strlen(text), "m");
  EXPECT_EQ(m.engine, Engine::Reference);
  ASSERT_EQ(m.arguments.size(), 4u);
  EXPECT_EQ(m.arguments[0].bytes, 24);
  EXPECT_EQ(m.arguments[0].init, Init::File);
  EXPECT_EQ(m.arguments[1].init, Init::Number);
  EXPECT_EQ(m.arguments[1].initNumber, 4);
  EXPECT_EQ(m.arguments[3].init, Init::Launches);
  ASSERT_EQ(m.init.size(), 1u);
  EXPECT_EQ(m.init[0].symbol, "g");
  EXPECT_EQ(m.arguments[2].range->first, -1);
  EXPECT_EQ(m.arguments[2].ignoreIndex, -100);
  EXPECT_EQ(m.buffers[4].content, (std::vector<char>{char(0xff), 1}));
  ASSERT_EQ(m.launches.size(), 3u);
  EXPECT_EQ(m.launches[0].product.columns, 2);
  EXPECT_EQ(m.launches[1].tasks, 7);
  EXPECT_EQ(m.launches[0].written, -1);
  EXPECT_EQ(m.launches[1].written, 1);
  EXPECT_EQ(m.launches[2].result.offset, 52);
  ASSERT_EQ(m.gradients.size(), 1u);
  EXPECT_EQ(m.gradients[0].parameter, 0u);
  EXPECT_EQ(m.gradients[0].place.offset, 4);
  EXPECT_EQ(m.gradients[0].strides, (std::vector<int64_t>{1, 2}));
}

TEST(Manifest, randomDamageIsRefusedOrHarmless) {
  std::mt19937 random(4);
  std::string whole = text;
  int refused = 0;
  const std::string interesting = "0123456789-.eE\"[]{},:";
  for (int round = 0; round < 20000; ++round) {
    std::string damaged = whole;
    for (unsigned i = 0; i < 1 + random() % 3; ++i) {
      size_t at = random() % damaged.size();
      switch (random() % 3) {
      case 0:
        damaged[at] = static_cast<char>(random());
        break;
      case 1:
        damaged[at] = interesting[random() % interesting.size()];
        break;
      case 2:
        damaged.insert(at, std::to_string(random()));
        break;
      }
    }
    if (random() % 10 == 0)
      damaged.resize(random() % damaged.size());
    try {
      parseManifest(damaged.data(), damaged.size(), "m");
    } catch (const Failure &failure) {
      ++refused;
      EXPECT_NE(failure.status, MPT_OK);
      EXPECT_STRNE(failure.what(), "");
    }
  }
  EXPECT_GT(refused, 10000);
}

TEST(Manifest, deepNestingIsRefused) {
  std::string deep(300000, '[');
  EXPECT_THROW(parseManifest(deep.data(), deep.size(), "m"), Failure);
}
