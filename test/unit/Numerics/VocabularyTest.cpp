//===- VocabularyTest.cpp - templates over a wrapper type -------*- C++ -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Instantiates every template of the numerics with wrappers that offer the
// vocabulary of Scalar.h and nothing else: no conversions, no truth value, so
// that control flow on a value does not compile. The results must have the
// bits of the plain instantiation. A code generator's wrappers look like these.
//
//===----------------------------------------------------------------------===//

#include "TestValues.h"

#include "mpt/Numerics/Formats.h"
#include "mpt/Numerics/Math.h"
#include "mpt/Numerics/Philox.h"
#include "mpt/Numerics/Reduce.h"
#include "mpt/Numerics/Scales.h"

#include "gtest/gtest.h"

namespace wrapped {

struct TB {
  bool v;
};
struct TF {
  float v;
};
struct TU {
  uint32_t v;
};

TB operator&(TB a, TB b) { return {a.v && b.v}; }
TB operator|(TB a, TB b) { return {a.v || b.v}; }
TB operator!(TB a) { return {!a.v}; }

#define BINARY(T, R, OP)                                                       \
  R operator OP(T a, T b) { return {a.v OP b.v}; }
BINARY(TF, TF, +)
BINARY(TF, TF, -)
BINARY(TF, TF, *)
BINARY(TF, TF, /)
BINARY(TF, TB, <)
BINARY(TF, TB, <=)
BINARY(TF, TB, >)
BINARY(TF, TB, >=)
BINARY(TF, TB, ==)
BINARY(TF, TB, !=)
BINARY(TU, TU, +)
BINARY(TU, TU, -)
BINARY(TU, TU, *)
BINARY(TU, TU, &)
BINARY(TU, TU, |)
BINARY(TU, TU, ^)
BINARY(TU, TB, <)
BINARY(TU, TB, <=)
BINARY(TU, TB, >)
BINARY(TU, TB, >=)
BINARY(TU, TB, ==)
BINARY(TU, TB, !=)
#undef BINARY

TF operator-(TF a) { return {-a.v}; }
TU operator~(TU a) { return {~a.v}; }
TU operator<<(TU a, int amount) { return {a.v << amount}; }
TU operator>>(TU a, int amount) { return {a.v >> amount}; }

TF fma(TF a, TF b, TF c) { return {mpt::num::fma(a.v, b.v, c.v)}; }
TF sqrt(TF a) { return {mpt::num::sqrt(a.v)}; }
TF abs(TF a) { return {mpt::num::abs(a.v)}; }
TU bits(TF a) { return {mpt::num::bits(a.v)}; }
TF asFloat(TU a) { return {mpt::num::asFloat(a.v)}; }
TF toFloat(TU a) { return {mpt::num::toFloat(a.v)}; }
TU mulhi(TU a, TU b) { return {mpt::num::mulhi(a.v, b.v)}; }
TF select(TB c, TF a, TF b) { return c.v ? a : b; }
TU select(TB c, TU a, TU b) { return c.v ? a : b; }
TF lit(TF, float value) { return {value}; }
TU lit(TU, uint32_t value) { return {value}; }
TU litU(TF, uint32_t value) { return {value}; }

} // namespace wrapped

using namespace mpt;
using num::Format;
using wrapped::TF;
using wrapped::TU;

namespace {

/// Same bits, or both NaN: a NaN's payload is not part of any definition.
void expectSame(float plain, TF traced, float at) {
  if (plain != plain)
    EXPECT_NE(traced.v, traced.v) << "at " << at;
  else
    EXPECT_EQ(num::bits(plain), num::bits(traced.v)) << "at " << at;
}

template <typename Fn> void forInputs(Fn fn) {
  test::forComb((1u << 17) + 1, fn);
  test::forSpecials(fn);
  for (float x :
       {0.5f, 0.6f, 0.92f, 1.0f, 4.0f, 15.0f, 88.7f, 448.0f, 57344.0f})
    test::forNeighbours(x, 2, fn);
}

#define EXPECT_SAME_1(FUNCTION)                                                \
  forInputs(                                                                   \
      [](float x) { expectSame(num::FUNCTION(x), num::FUNCTION(TF{x}), x); })

TEST(Vocabulary, Math) {
  EXPECT_SAME_1(exp);
  EXPECT_SAME_1(log);
  EXPECT_SAME_1(tanh);
  EXPECT_SAME_1(erf);
  EXPECT_SAME_1(gelu);
  EXPECT_SAME_1(geluGrad);
  EXPECT_SAME_1(inverseScale);
  forInputs([](float x) {
    expectSame(num::maxOf(x, 1.0f), num::maxOf(TF{x}, TF{1.0f}), x);
    expectSame(num::withSignOf(1.0f, x), num::withSignOf(TF{1.0f}, TF{x}), x);
    expectSame(num::computeScale(x, 448.0f), num::computeScale(TF{x}, 448.0f),
               x);
    EXPECT_EQ(num::amaxBits(0x3f800000u, x),
              num::amaxBits(TU{0x3f800000u}, TF{x}).v);
  });
}

TEST(Vocabulary, Formats) {
  uint32_t word = 12345;
  for (Format format :
       {Format::F32, Format::BF16, Format::E4M3, Format::E5M2, Format::INT8}) {
    forInputs([&](float x) {
      EXPECT_EQ(num::encode(format, x), num::encode(format, TF{x}).v) << x;
      word = word * 1664525u + 1013904223u;
      EXPECT_EQ(num::encodeStochastic(format, x, word),
                num::encodeStochastic(format, TF{x}, TU{word}).v)
          << x;
    });
    for (uint32_t code = 0; code < 65536; ++code)
      expectSame(num::decode(format, code), num::decode(format, TU{code}),
                 static_cast<float>(code));
  }
}

TEST(Vocabulary, Scales) {
  forInputs([](float x) {
    expectSame(num::scaleOr(x, 448.0f, 3.0f),
               num::scaleOr(TF{x}, 448.0f, TF{3.0f}), x);
    expectSame(num::delayedScale(x, 127.0f, 3.0f),
               num::delayedScale(TF{x}, 127.0f, TF{3.0f}), x);
    expectSame(num::offeredAmax(x, 3.0f), num::offeredAmax(TF{x}, TF{3.0f}), x);
    EXPECT_EQ(num::skippedAmax(x), num::skippedAmax(TF{x}).v);
    uint32_t code = num::mxSharedCode(x, 8u);
    TU traced = num::mxSharedCode(TF{x}, 8u);
    EXPECT_EQ(code, traced.v);
    expectSame(num::mxScale(code), num::mxScale(traced), x);
    expectSame(num::decodeE8M0(code), num::decodeE8M0(traced), x);
  });
}

TEST(Vocabulary, RandomBits) {
  num::Stream<uint32_t> plain{1, 2, 3, 4};
  num::Stream<TU> traced{{1}, {2}, {3}, {4}};
  for (uint32_t e = 0; e < 64; ++e) {
    uint32_t word = num::draw(e, e * 77, plain);
    EXPECT_EQ(word, num::draw(TU{e}, TU{e * 77}, traced).v);
    EXPECT_EQ(num::dropout(1.5f, word, 0x80000000u, 2.0f),
              num::dropout(TF{1.5f}, TU{word}, TU{0x80000000u}, TF{2.0f}).v);
  }
}

TEST(Vocabulary, LaneTree) {
  float plain[num::kReduceLanes];
  TF traced[num::kReduceLanes];
  for (int i = 0; i < num::kReduceLanes; ++i)
    plain[i] = traced[i].v = 1.0f / static_cast<float>(i + 1);
  EXPECT_EQ(num::reduceLanes(plain, [](float a, float b) { return a + b; }),
            num::reduceLanes(traced, [](TF a, TF b) { return a + b; }).v);
}

} // namespace
