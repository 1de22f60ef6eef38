//===- AttentionTest.cpp - Attention and its gradient, simulated ----------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// mpt/CUDA/HopperAttention.h and HopperAttentionGrad.h against attention in
// double precision: heads of all sizes, sequences below, at and beyond a tile
// and the ring, masks, dropout, results in BF16 and f32.
//
// Bounds: every operand of a product that is made on the way (p, dS), O and the
// results are rounded to BF16, 2^-8 relative each; the rest (scores of 64
// products, exp and sums in f32) is below 2^-15 of the sums of magnitudes.
//
//===----------------------------------------------------------------------===//

#include "TestSupport.h"

#include "mpt/CUDA/HopperAttentionGrad.h"

#include <limits>

using namespace mpt;
using namespace mpt::test;

namespace {

class Attention : public CudaSimOrders {};
// The checker instruments the reference, too: one order is enough for it.
#if defined(MPT_CHECKED)
INSTANTIATE_TEST_SUITE_P(Orders, Attention, ::testing::Values("interleaved:1"));
#else
INSTANTIATE_TEST_SUITE_P(Orders, Attention,
                         ::testing::Values("forward", "reverse", "random:1",
                                           "interleaved:1"));
#endif

constexpr int heads = 2, batches = 2;
constexpr float keep = 0.75f, scale = 0.17677669f;
constexpr double bf16 = 0x1p-8, f32 = 0x1p-15;
constexpr uint64_t seed = 0x123456789abcdef;
constexpr int64_t step = 7;
constexpr uint32_t id = 42;

std::vector<uint16_t> codes(size_t count, uint64_t seed) {
  std::vector<uint16_t> result;
  for (float x : randomFloats(count, seed))
    result.push_back(static_cast<uint16_t>(num::encodeBF16(2.0f * x)));
  return result;
}

double decode(uint16_t code) { return num::decodeBF16(uint32_t(code)); }

/// Operands and results; Q, K and V lie side by side, and so do their
/// gradients: [batch, sequence, 3, heads, size]. Results are in BF16 or f32.
template <int Size, typename T = uint16_t> struct Problem {
  int sequence;
  bool masked, dropout;
  std::vector<uint16_t> qkv, gradOut;
  std::vector<float> bias;
  DeviceArray<uint16_t> deviceQkv, deviceGradOut;
  DeviceArray<T> out, gradQkv;
  DeviceArray<float> deviceBias, rowMax, logSum, delta;
  DeviceArray<int64_t> random{std::vector<int64_t>{int64_t(seed), step}};

  static std::vector<float> padding(int sequence) {
    std::vector<float> result(batches * sequence, 0.0f);
    // The second sequence ends early; a key in the middle is masked, too.
    for (int i = sequence * 3 / 4; i < sequence; ++i)
      result[sequence + i] = -1e30f;
    result[3] = -INFINITY;
    return result;
  }
  Problem(int sequence, bool masked, bool dropout)
      : sequence(sequence), masked(masked), dropout(dropout),
        qkv(codes(size_t(batches) * sequence * 3 * heads * Size, 11)),
        gradOut(codes(size_t(batches) * sequence * heads * Size, 12)),
        bias(padding(sequence)), deviceQkv(qkv), deviceGradOut(gradOut),
        out(gradOut.size()), gradQkv(qkv.size()), deviceBias(bias),
        rowMax(rows()), logSum(rows()), delta(rows()) {}

  size_t rows() const { return size_t(batches) * heads * sequence; }
  attention::Operand operand(int which) const {
    return {deviceQkv.get() + which * heads * Size, 3 * heads * Size,
            int64_t(sequence) * 3 * heads * Size};
  }
  template <typename U>
  attention::Plain<U> plain(const DeviceArray<U> &x) const {
    return {x.get(), heads * Size, int64_t(sequence) * heads * Size};
  }
  attention::Common common() const {
    const bool drops = dropout;
    return {sequence,
            heads,
            scale,
            masked ? deviceBias.get() : nullptr,
            sequence,
            {drops ? random.get() : nullptr, drops ? random.get() + 1 : nullptr,
             id, num::keepThreshold(keep), 1.0f / keep},
            rowMax.get(),
            logSum.get()};
  }
  template <bool Drops> std::string forwardWith() {
    attention::Forward<Size, Drops, T> launch;
    std::string error = launch.prepare({"layer.0/attention",
                                        batches,
                                        operand(0),
                                        operand(1),
                                        operand(2),
                                        {common(), out.get(), heads * Size,
                                         int64_t(sequence) * heads * Size}});
    if (error.empty())
      launch.run(nullptr);
    return error;
  }
  template <bool Drops> std::string backwardWith() {
    T *grad = gradQkv.get();
    attention::Gradient<Size, Drops, T, T> launch;
    std::string error =
        launch.prepare({"layer.0/attention/grad",
                        batches,
                        operand(0),
                        operand(1),
                        operand(2),
                        plain(out),
                        plain(deviceGradOut),
                        {common(), delta.get(), grad, grad + heads * Size,
                         grad + 2 * heads * Size, 3 * heads * Size,
                         int64_t(sequence) * 3 * heads * Size}});
    if (error.empty())
      launch.run(nullptr);
    return error;
  }
  void forward() {
    ASSERT_EQ(dropout ? forwardWith<true>() : forwardWith<false>(), "");
    ASSERT_FALSE(failed()) << firstError();
  }
  void backward() {
    ASSERT_EQ(dropout ? backwardWith<true>() : backwardWith<false>(), "");
    ASSERT_FALSE(failed()) << firstError();
  }
};

/// One head in double precision.
struct Head {
  int n, size;
  /// [row][i] of Q, K, V, dO; [row][key] of weights and of m (0 or 1 / keep).
  std::vector<double> q, k, v, g, p, m, rowMax, logSum;
  size_t firstOut, firstQkv;

  template <int Size, typename T>
  Head(const Problem<Size, T> &problem, int batch, int head)
      : n(problem.sequence), size(Size) {
    firstQkv = (size_t(batch) * n * 3 * heads + head) * size;
    firstOut = (size_t(batch) * n * heads + head) * size;
    for (int row = 0; row < n; ++row)
      for (int i = 0; i < size; ++i) {
        q.push_back(decode(problem.qkv[qkvAt(0, row, i)]));
        k.push_back(decode(problem.qkv[qkvAt(1, row, i)]));
        v.push_back(decode(problem.qkv[qkvAt(2, row, i)]));
        g.push_back(decode(problem.gradOut[outAt(row, i)]));
      }
    for (int row = 0; row < n; ++row)
      addRow(problem, row, int64_t(batch) * heads + head,
             problem.bias.data() + batch * n);
  }
  size_t qkvAt(int which, int row, int i) const {
    return firstQkv + (size_t(row) * 3 + which) * heads * size + i;
  }
  size_t outAt(int row, int i) const {
    return firstOut + size_t(row) * heads * size + i;
  }
  /// Weights and dropout of a row, from their definitions.
  template <typename P>
  void addRow(const P &problem, int row, int64_t head, const float *bias) {
    double largest = -INFINITY, sum = 0;
    for (int key = 0; key < n; ++key) {
      double score = 0;
      for (int i = 0; i < size; ++i)
        score += q[row * size + i] * k[key * size + i];
      p.push_back(scale * score + (problem.masked ? bias[key] : 0.0));
      largest = std::max(largest, p.back());
      uint64_t element = uint64_t((head * n + row) * n + key);
      uint32_t word = num::draw(
          static_cast<uint32_t>(element), static_cast<uint32_t>(element >> 32),
          num::Stream<uint32_t>{id, uint32_t(step), uint32_t(seed),
                                uint32_t(seed >> 32)});
      m.push_back(!problem.dropout                  ? 1.0
                  : word < num::keepThreshold(keep) ? 1.0 / keep
                                                    : 0.0);
    }
    for (int key = 0; key < n; ++key)
      sum += p[row * n + key] = std::exp(p[row * n + key] - largest);
    for (int key = 0; key < n; ++key)
      p[row * n + key] /= sum;
    rowMax.push_back(largest);
    logSum.push_back(std::log(sum));
  }
};

/// An exact sum and how far the kernel's may be from it, before its rounding.
struct Sum {
  double exact = 0, bound = 0;
  /// Adds x * y, x being off by `error` at most.
  void add(double x, double y, double error) {
    exact += x * y;
    bound += error * std::fabs(y) + f32 * std::fabs(x * y);
  }
  /// BF16 is rounded once more.
  void check(uint16_t found) const {
    ASSERT_NEAR(decode(found), exact,
                bound + bf16 * (std::fabs(exact) + bound));
  }
  void check(float found) const { ASSERT_NEAR(found, exact, bound); }
};

Sum output(const Head &head, int row, int i) {
  const int size = head.size;
  Sum sum;
  for (int key = 0; key < head.n; ++key) {
    double weight = head.p[row * head.n + key] * head.m[row * head.n + key];
    sum.add(weight, head.v[key * size + i], bf16 * weight);
  }
  return sum;
}

template <int Size, typename T>
void checkForward(const Problem<Size, T> &problem) {
  std::vector<T> out = problem.out.host();
  std::vector<float> rowMax = problem.rowMax.host();
  std::vector<float> logSum = problem.logSum.host();
  for (int batch = 0; batch < batches; ++batch)
    for (int h = 0; h < heads; ++h) {
      Head head(problem, batch, h);
      for (int row = 0; row < head.n; ++row) {
        const int at = (batch * heads + h) * head.n + row;
        ASSERT_NEAR(rowMax[at], head.rowMax[row], 1e-5);
        ASSERT_NEAR(logSum[at], head.logSum[row], 1e-5);
        for (int i = 0; i < Size; ++i)
          output(head, row, i).check(out[head.outAt(row, i)]);
      }
    }
}

/// dS, and how far off the kernel's may be.
void gradientOfScores(const Head &head, std::vector<double> &ds,
                      std::vector<double> &error) {
  const int n = head.n, size = head.size;
  for (int row = 0; row < n; ++row) {
    double delta = 0, deltaError = 0;
    for (int i = 0; i < size; ++i) {
      Sum o = output(head, row, i);
      double g = std::fabs(head.g[row * size + i]);
      delta += head.g[row * size + i] * o.exact;
      deltaError += g * (o.bound + bf16 * (std::fabs(o.exact) + o.bound));
    }
    for (int key = 0; key < n; ++key) {
      double dp = 0, magnitude = 0;
      for (int i = 0; i < size; ++i) {
        double product = head.g[row * size + i] * head.v[key * size + i];
        dp += product;
        magnitude += std::fabs(product);
      }
      double p = head.p[row * n + key], m = head.m[row * n + key];
      ds.push_back(scale * p * (dp * m - delta));
      error.push_back(
          scale * p * (deltaError + f32 * (magnitude * m + std::fabs(delta))) +
          bf16 * std::fabs(ds.back()));
    }
  }
}

template <int Size, typename T>
void checkBackward(const Problem<Size, T> &problem) {
  std::vector<T> grad = problem.gradQkv.host();
  for (int batch = 0; batch < batches; ++batch)
    for (int h = 0; h < heads; ++h) {
      Head head(problem, batch, h);
      std::vector<double> ds, error;
      gradientOfScores(head, ds, error);
      int n = head.n;
      for (int row = 0; row < n; ++row)
        for (int i = 0; i < Size; ++i) {
          Sum q, k, v;
          for (int j = 0; j < n; ++j) {
            q.add(ds[row * n + j], head.k[j * Size + i], error[row * n + j]);
            k.add(ds[j * n + row], head.q[j * Size + i], error[j * n + row]);
            double weight = head.p[j * n + row] * head.m[j * n + row];
            v.add(weight, head.g[j * Size + i], bf16 * weight);
          }
          q.check(grad[head.qkvAt(0, row, i)]);
          k.check(grad[head.qkvAt(1, row, i)]);
          v.check(grad[head.qkvAt(2, row, i)]);
        }
    }
}

template <int Size, typename T = uint16_t>
void check(int sequence, bool masked, bool dropout) {
  Problem<Size, T> problem(sequence, masked, dropout);
  problem.forward();
  checkForward(problem);
  problem.backward();
  checkBackward(problem);
}

TEST_P(Attention, ShortSequence) { check<64>(16, true, false); }
TEST_P(Attention, BeyondOneTile) { check<64>(144, true, false); }
TEST_P(Attention, BeyondTheRing) { check<64>(272, false, false); }
TEST_P(Attention, Dropout) { check<64>(144, true, true); }
TEST_P(Attention, SmallHeads) { check<32>(144, true, true); }
TEST_P(Attention, LargeHeads) { check<128>(144, true, true); }

/// Heads whose panels have 16 and 32 columns, and results in f32.
class AttentionSizes : public CudaSimTest {};

TEST_F(AttentionSizes, Head48) { check<48>(80, true, true); }
TEST_F(AttentionSizes, Head80) { check<80>(80, true, false); }
TEST_F(AttentionSizes, Head96) { check<96>(80, true, true); }
TEST_F(AttentionSizes, Head112) { check<112>(80, false, true); }
TEST_F(AttentionSizes, F32) { check<32, float>(80, true, true); }
TEST_F(AttentionSizes, F32LargeHeads) { check<128, float>(80, true, false); }
#if !defined(MPT_CHECKED)
TEST_F(AttentionSizes, Sequence512) { check<64>(512, true, true); }
#endif

TEST_P(Attention, NothingToAttendTo) {
  Problem<64> problem(16, true, false);
  std::vector<float> bias(batches * 16, -INFINITY);
  ASSERT_EQ(cudaMemcpy(problem.deviceBias.get(), bias.data(), bias.size() * 4,
                       cudaMemcpyHostToDevice),
            cudaSuccess);
  problem.forward();
  for (uint16_t code : problem.out.host())
    ASSERT_TRUE(std::isnan(decode(code)));
}

/// A mask of the least number instead of -inf over all keys: every score is
/// that number, every weight 1 / n, in the gradient, too.
TEST_P(Attention, EveryKeyMaskedByANumber) {
  Problem<64> problem(16, true, false);
  problem.bias.assign(problem.bias.size(),
                      std::numeric_limits<float>::lowest());
  ASSERT_EQ(cudaMemcpy(problem.deviceBias.get(), problem.bias.data(),
                       problem.bias.size() * 4, cudaMemcpyHostToDevice),
            cudaSuccess);
  problem.forward();
  problem.backward();
  const std::vector<uint16_t> grad = problem.gradQkv.host();
  for (int batch = 0; batch < batches; ++batch)
    for (int h = 0; h < heads; ++h) {
      Head head(problem, batch, h);
      for (int i = 0; i < 64; ++i) {
        Sum v;
        for (int row = 0; row < 16; ++row)
          v.add(1.0 / 16, head.g[row * 64 + i], 0);
        for (int key = 0; key < 16; ++key)
          v.check(grad[head.qkvAt(2, key, i)]);
      }
    }
}

using AttentionErrors = CudaSimTest;

TEST_F(AttentionErrors, Sequence) {
  Problem<64> problem(16, false, false);
  problem.sequence = 24;
  const std::string error = problem.forwardWith<false>();
  EXPECT_EQ(error.find("layer.0/attention: attention over 2 sequences of 24 "
                       "with 2 heads, expected a length that is a multiple of "
                       "16"),
            0u)
      << error;
}

TEST_F(AttentionErrors, Alignment) {
  Problem<64> problem(16, false, false);
  attention::Gradient<64, false, uint16_t, uint16_t> launch;
  attention::Operand odd = problem.operand(0);
  odd.rowStride += 1;
  EXPECT_EQ(launch.prepare({"layer.0/attention/grad",
                            batches,
                            odd,
                            odd,
                            odd,
                            problem.plain(problem.out),
                            problem.plain(problem.deviceGradOut),
                            {problem.common()}}),
            "layer.0/attention/grad: tensor map with a stride of 770 bytes, "
            "expected a multiple of 16 below 2^40");
}

} // namespace
