//===- PhiloxTest.cpp - random words and dropout ----------------*- C++ -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Known answers of Philox4x32-10 (from Random123's kat_vectors) and of FNV-1a,
// the keying of elements, and dropout's statistics.
//
//===----------------------------------------------------------------------===//

#include "mpt/Numerics/Philox.h"
#include "mpt/Numerics/NumericsC.h"

#include "gtest/gtest.h"

#include <cmath>
#include <vector>

using namespace mpt;

namespace {

struct KnownAnswer {
  uint32_t counter[4], key[2], words[4];
};

const KnownAnswer kAnswers[] = {
    {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
    {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
     {0xffffffff, 0xffffffff},
     {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
    {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
     {0xa4093822, 0x299f31d0},
     {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
};

TEST(Philox, KnownAnswers) {
  for (const KnownAnswer &answer : kAnswers) {
    uint32_t words[4];
    mpt_num_philox(answer.counter, answer.key, words);
    for (int i = 0; i < 4; ++i)
      EXPECT_EQ(words[i], answer.words[i]);
  }
}

TEST(Philox, ElementsAreKeyedAsDocumented) {
  const uint64_t seed = 0x0123456789abcdefull;
  const uint32_t id = 0xdeadbeef, step = 77;
  num::Stream<uint32_t> stream{id, step, 0x89abcdefu, 0x01234567u};
  for (uint64_t element :
       {0ull, 1ull, 2ull, 3ull, 4ull, 1027ull, 0xfffffffeull, 0x1'00000003ull,
        0x7'fffffffdull, 0x1234567'89abcdefull}) {
    uint64_t group = element >> 2;
    const uint32_t counter[4] = {static_cast<uint32_t>(group),
                                 static_cast<uint32_t>(group >> 32), id, step};
    const uint32_t key[2] = {static_cast<uint32_t>(seed),
                             static_cast<uint32_t>(seed >> 32)};
    uint32_t words[4], drawn;
    mpt_num_philox(counter, key, words);
    ASSERT_EQ(mpt_num_draw(element, 1, id, step, seed, &drawn), 0);
    EXPECT_EQ(drawn, words[element & 3]) << element;
    EXPECT_EQ(drawn, num::draw(static_cast<uint32_t>(element),
                               static_cast<uint32_t>(element >> 32), stream));
  }
}

TEST(Philox, NameId) {
  // FNV-1a's published values of "", "a" and "foobar".
  EXPECT_EQ(num::nameId(""), 0x811c9dc5u);
  EXPECT_EQ(num::nameId("a"), 0xe40c292cu);
  EXPECT_EQ(num::nameId("foobar"), 0xbf9cf968u);
  EXPECT_EQ(num::nameId("bar", num::nameId("foo")), num::nameId("foobar"));
  EXPECT_EQ(mpt_num_name_id("foobar"), 0xbf9cf968u);
}

TEST(Dropout, Threshold) {
  EXPECT_EQ(num::keepThreshold(0.5), 0x80000000u);
  EXPECT_EQ(num::keepThreshold(0.9), 3865470566u);
  EXPECT_EQ(num::keepThreshold(1.0), 0xffffffffu);
  EXPECT_EQ(num::keepThreshold(0.0), 0u);
  EXPECT_EQ(num::keepThreshold(std::nan("")), 0u);
}

TEST(Dropout, KeepsTheShareAndScalesUp) {
  const size_t n = 1 << 20;
  const double keep = 0.9;
  std::vector<float> x(n, 2.0f), y(n), again(n);
  ASSERT_EQ(mpt_num_dropout(x.data(), y.data(), n, keep, 0, 5, 6, 7), 0);
  size_t kept = 0;
  for (float v : y) {
    EXPECT_TRUE(v == 0.0f || v == 2.0f * (1.0f / 0.9f));
    kept += v != 0.0f;
  }
  EXPECT_LT(std::fabs(kept - keep * n), 4 * std::sqrt(n * keep * (1 - keep)));
  // Any part of the value draws what the whole does: no state.
  ASSERT_EQ(mpt_num_dropout(x.data(), again.data(), 1001, keep, 999, 5, 6, 7),
            0);
  for (size_t i = 0; i < 1001; ++i)
    ASSERT_EQ(again[i], y[999 + i]);
  ASSERT_EQ(mpt_num_dropout(x.data(), again.data(), n, keep, 0, 5, 7, 7), 0);
  EXPECT_NE(again, y) << "another step draws other bits";
}

} // namespace
