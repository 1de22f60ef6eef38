//===- Wgmma.cpp - Asynchronous warpgroup products ------------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// wgmma.mma_async as the PTX ISA describes it: fragments, matrix descriptors,
// groups. A product takes the accumulators of its 128 threads away when it is
// issued and leaves NaN in their place; wait_group gives them back. In between
// it reads shared memory at one moment that the order in force chooses.
//
// Arithmetic: the products of one instruction (32 for FP8, 16 for BF16) are
// summed in double precision, k ascending, and one rounding to f32 adds the sum
// to the accumulator. The hardware's order and precision are not documented;
// FP8 accumulates with fewer bits there.
//
// Stricter than the hardware: wait_group that returns accumulators wants a
// wgmma.fence in front of the next product, whether or not they are touched.
//
//===----------------------------------------------------------------------===//

#include "Async.h"

#include <algorithm>
#include <cstring>
#include <deque>

using namespace mpt::sim;
using mpt::num::Format;

namespace {

constexpr unsigned groupThreads = 128, rows = 64, kBytes = 32;
/// What the accumulators read until wait_group.
constexpr uint32_t inFlight = 0x7fedf00du;
/// Descriptors hold 18 bits of an address.
constexpr uintptr_t window = 256 * 1024;

/// Accumulators of one thread that products have in hand.
struct Shadow {
  float *place;
  std::vector<float> values;
  unsigned lastOp;
};

struct Op {
  MmaShape shape;
  uint64_t a, b;
  bool accumulate, fromRegisters;
  Source source;
  unsigned issuedBy = 0;
  float *values[groupThreads];
  uint32_t fragments[groupThreads][4];
  Reading *readings[2] = {};
  std::vector<uintptr_t> chunks;
  Range rangeA, rangeB;
  unsigned waitedWarps = 0;
};

struct ThreadState {
  bool fenced = false;
  unsigned issued = 0;
  /// Products issued up to each commit.
  std::vector<unsigned> groups;
  std::list<Shadow> shadows;
};

struct Warpgroup {
  std::deque<Op> ops;
  /// Ordinal of ops.front(), and of the next to execute.
  unsigned first = 0, next = 0;
  ThreadState threads[groupThreads];
};

Warpgroup groups[8];

Warpgroup &myGroup() { return groups[currentThread() / groupThreads]; }
ThreadState &mine() {
  return myGroup().threads[currentThread() % groupThreads];
}

//===----------------------------------------------------------------------===//
// Descriptors: PTX ISA, "Matrix Descriptor Format", "Strides"
//===----------------------------------------------------------------------===//

struct Descriptor {
  uintptr_t start;
  unsigned leading, stride, baseOffset, span;
};

Descriptor decode(uint64_t bits) {
  static constexpr unsigned spans[4] = {0, 128, 64, 32};
  auto field = [&](int at) {
    return static_cast<unsigned>(bits >> at & 0x3fff) << 4;
  };
  return {sharedRange().end - window + field(0), field(16), field(32),
          static_cast<unsigned>(bits >> 49 & 7), spans[bits >> 62]};
}

/// Address of the 16 bytes that hold element (mn, k) of an operand, `bytes`
/// being the element's; the element is at `*within` of them.
uintptr_t chunkOf(const Descriptor &d, unsigned mn, unsigned k, unsigned bytes,
                  bool transposed, unsigned *within) {
  uintptr_t address;
  if (transposed) {
    // Contiguous along m or n: rows of `span` bytes, one for each k.
    unsigned repeat = d.span / bytes;
    address = d.start + mn / repeat * d.leading + k / 8 * d.stride +
              k % 8 * d.span + mn % repeat * bytes;
  } else if (d.span) {
    address = d.start + mn / 8 * d.stride + mn % 8 * d.span + k * bytes;
  } else {
    address = d.start + mn / 8 * d.stride + k * bytes / 16 * d.leading +
              mn % 8 * 16 + k * bytes % 16;
  }
  if (d.span)
    address ^= (address >> 3) & (d.span / 16 - 1) << 4;
  *within = address % 16;
  return address - *within;
}

float element(Format format, const unsigned char *at) {
  if (format == Format::E4M3)
    return mpt::num::decodeE4M3(uint32_t(*at));
  if (format == Format::E5M2)
    return mpt::num::decodeE5M2(uint32_t(*at));
  uint16_t code;
  std::memcpy(&code, at, sizeof(code));
  return mpt::num::decodeBF16(uint32_t(code));
}

/// The operand as [k][mn].
std::vector<double> load(const Descriptor &d, unsigned count, Format format,
                         bool transposed) {
  unsigned bytes = static_cast<unsigned>(mpt::num::formatBytes(format));
  std::vector<double> values(count * (kBytes / bytes));
  for (unsigned k = 0; k < kBytes / bytes; ++k)
    for (unsigned i = 0; i < count; ++i) {
      unsigned within;
      uintptr_t chunk = chunkOf(d, i, k, bytes, transposed, &within);
      values[k * count + i] =
          element(format, reinterpret_cast<unsigned char *>(chunk) + within);
    }
  return values;
}

/// Notes the chunks that the operand takes up, and the range around them.
Range addChunks(Op &op, uint64_t bits, unsigned count, Format format,
                bool transposed) {
  Descriptor d = decode(bits);
  unsigned bytes = static_cast<unsigned>(mpt::num::formatBytes(format));
  if (d.baseOffset || d.start % 16 || (transposed && !d.span))
    abandonAt(op.source, "wgmma with a matrix descriptor that is not supported "
                         "(base offset 0 and, if transposed, a swizzle are)");
  if (transposed && bytes != 2)
    abandonAt(op.source, "wgmma with a transposed 8-bit operand");
  size_t from = op.chunks.size();
  for (unsigned i = 0; i < count; ++i)
    for (unsigned k = 0; k < kBytes / bytes; ++k) {
      unsigned within;
      uintptr_t chunk = chunkOf(d, i, k, bytes, transposed, &within);
      if (within == 0)
        op.chunks.push_back(chunk);
    }
  auto [low, high] =
      std::minmax_element(op.chunks.begin() + from, op.chunks.end());
  return {*low, *high + 16};
}

//===----------------------------------------------------------------------===//
// Fragments: PTX ISA, "Register Fragments and Shared Memory Matrix Layouts"
//===----------------------------------------------------------------------===//

unsigned rowOf(unsigned thread, unsigned i) {
  return thread / 32 * 16 + thread % 32 / 4 + 8 * (i / 2 % 2);
}
unsigned columnOf(unsigned thread, unsigned i) {
  return i / 4 * 8 + thread % 4 * 2 + i % 2;
}

/// A from registers (BF16), as [k][m].
std::vector<double> loadFragments(const Op &op) {
  std::vector<double> values(16 * rows);
  for (unsigned thread = 0; thread < groupThreads; ++thread)
    for (unsigned i = 0; i < 8; ++i) {
      uint32_t code = op.fragments[thread][i / 2] >> (i % 2 * 16) & 0xffff;
      values[columnOf(thread, i) * rows + rowOf(thread, i)] =
          mpt::num::decodeBF16(code);
    }
  return values;
}

void execute(const Op &op) {
  unsigned n = op.shape.n;
  std::vector<double> a =
      op.fromRegisters
          ? loadFragments(op)
          : load(decode(op.a), rows, op.shape.a, op.shape.transposeA);
  std::vector<double> b =
      load(decode(op.b), n, op.shape.b, op.shape.transposeB);
  std::vector<double> sums(rows * n);
  size_t count = b.size() / n;
  for (size_t k = 0; k < count; ++k)
    for (unsigned r = 0; r < rows; ++r) {
      double factor = a[k * rows + r];
      double *to = sums.data() + r * n;
      const double *from = b.data() + k * n;
      for (unsigned c = 0; c < n; ++c)
        to[c] += factor * from[c];
    }
  for (unsigned thread = 0; thread < groupThreads; ++thread)
    for (unsigned i = 0; i < n / 2; ++i) {
      double sum = sums[rowOf(thread, i) * n + columnOf(thread, i)];
      float &to = op.values[thread][i];
      to = static_cast<float>(op.accumulate ? to + sum : sum);
    }
}

/// Executes the next product of `group` if all threads have issued it.
bool executeNext(Warpgroup &group) {
  size_t index = group.next - group.first;
  if (index >= group.ops.size() || group.ops[index].issuedBy < groupThreads)
    return false;
  execute(group.ops[index]);
  ++group.next;
  return true;
}

//===----------------------------------------------------------------------===//
// Issue
//===----------------------------------------------------------------------===//

/// Takes the accumulators away, unless an earlier product has them.
float *takeAccumulators(const Op &op, float *d, unsigned ordinal) {
  unsigned count = op.shape.n / 2;
  for (Shadow &shadow : mine().shadows)
    if (shadow.place == d) {
      if (shadow.values.size() != count)
        abandonAt(op.source, "wgmma with accumulators that a product of "
                             "another shape has in flight");
      shadow.lastOp = ordinal;
      return shadow.values.data();
    }
  mine().shadows.push_back({d, std::vector<float>(d, d + count), ordinal});
  for (unsigned i = 0; i < count; ++i)
    std::memcpy(d + i, &inFlight, sizeof(inFlight));
  return mine().shadows.back().values.data();
}

/// The first thread that comes to a product says what it is.
void addOp(Warpgroup &group, const Op &given) {
  group.ops.push_back(given);
  Op &op = group.ops.back();
  std::vector<unsigned> warps;
  unsigned first = currentThread() / groupThreads * groupThreads;
  for (unsigned warp = 0; warp < 4; ++warp)
    warps.push_back(first + warp * 32);
  if (!op.fromRegisters) {
    op.rangeA = addChunks(op, op.a, rows, op.shape.a, op.shape.transposeA);
    op.readings[0] = addReading(op.rangeA, "wgmma", op.source, warps);
  }
  op.rangeB = addChunks(op, op.b, op.shape.n, op.shape.b, op.shape.transposeB);
  op.readings[1] = addReading(op.rangeB, "wgmma", op.source, warps);
}

bool sameProduct(const Op &x, const Op &y) {
  return x.shape.n == y.shape.n && x.shape.a == y.shape.a &&
         x.shape.b == y.shape.b && x.shape.transposeA == y.shape.transposeA &&
         x.shape.transposeB == y.shape.transposeB && x.a == y.a && x.b == y.b &&
         x.accumulate == y.accumulate && x.fromRegisters == y.fromRegisters;
}

void checkShape(const Op &op) {
  const MmaShape &shape = op.shape;
  bool small = shape.a != Format::BF16 && shape.b != Format::BF16;
  bool bf16 = shape.a == Format::BF16 && shape.b == Format::BF16;
  if (shape.n < 8 || shape.n > 256 || shape.n % 8 || !(small || bf16) ||
      shape.a == Format::F32 || shape.a == Format::INT8 ||
      shape.b == Format::F32 || shape.b == Format::INT8)
    abandonAt(op.source, "wgmma with n = " + std::to_string(shape.n) +
                             " or operand formats that do not exist");
  if (blockDim.x % groupThreads || blockDim.y != 1 || blockDim.z != 1)
    abandonAt(op.source, "wgmma in a block that is not whole warpgroups of "
                         "128 threads");
}

} // namespace

uint32_t mpt::sim::sharedAddress(const void *pointer) {
  uintptr_t address = reinterpret_cast<uintptr_t>(pointer);
  uintptr_t base = sharedRange().end - window;
  if (!sharedRange().contains(address) || address < base)
    abandon(threadText(currentThread()) + " takes the shared address of " +
            describeAddress(address) +
            ", which is not in dynamic shared memory");
  return static_cast<uint32_t>(address - base);
}

void mpt::sim::wgmmaFence() { mine().fenced = true; }

void mpt::sim::wgmmaIssue(const MmaShape &shape, float *d, uint64_t a,
                          const uint32_t *fragment, uint64_t b, bool accumulate,
                          const char *file, int line) {
  Op given = {};
  given.shape = shape;
  given.a = a;
  given.b = b;
  given.accumulate = accumulate;
  given.fromRegisters = fragment != nullptr;
  given.source = {file, line};
  checkShape(given);
  if (!mine().fenced)
    abandonAt(given.source, "wgmma without a wgmma.fence between it and the "
                            "last use of its registers");
  Warpgroup &group = myGroup();
  unsigned ordinal = mine().issued++;
  if (ordinal - group.first == group.ops.size())
    addOp(group, given);
  Op &op = group.ops[ordinal - group.first];
  if (!sameProduct(op, given))
    abandonAt(given.source, "threads of one warpgroup issue different "
                            "products: another one came to that at " +
                                op.source.text());
  bool firstLane = currentThread() % 32 == 0;
  if (!op.fromRegisters)
    beginAsyncRead(op.rangeA, "wgmma", given.source, false);
  beginAsyncRead(op.rangeB, "wgmma", given.source, false);
  if (firstLane && checker().asyncRead)
    for (uintptr_t chunk : op.chunks)
      beginAsyncRead({chunk, chunk + 16}, "wgmma", given.source, true);
  unsigned thread = currentThread() % groupThreads;
  op.values[thread] = takeAccumulators(op, d, ordinal);
  if (fragment)
    std::copy_n(fragment, 4, op.fragments[thread]);
  if (++op.issuedBy < groupThreads)
    return;
  if (asyncState().products == Completion::Early)
    while (executeNext(group)) {
    }
  wakeWaiters(&group);
}

void mpt::sim::wgmmaCommit() { mine().groups.push_back(mine().issued); }

void mpt::sim::wgmmaWait(unsigned pending, const char *file, int line) {
  Source source = {file, line};
  Warpgroup &group = myGroup();
  ThreadState &thread = mine();
  size_t committed = thread.groups.size();
  unsigned target =
      committed > pending ? thread.groups[committed - 1 - pending] : 0;
  while (group.next < target)
    if (!executeNext(group))
      waitFor(&group, "wgmma.wait_group", file, line);
  for (auto it = thread.shadows.begin(); it != thread.shadows.end();) {
    if (it->lastOp >= target) {
      ++it;
      continue;
    }
    for (size_t i = 0; i < it->values.size(); ++i) {
      if (std::memcmp(it->place + i, &inFlight, sizeof(inFlight)) != 0)
        abandonAt(source, "accumulators were written while wgmma had them, "
                          "found at wgmma.wait_group");
      it->place[i] = it->values[i];
    }
    it = thread.shadows.erase(it);
    thread.fenced = false;
  }
  if (currentThread() % 32 == 0) {
    unsigned warp = currentThread() % groupThreads / 32;
    for (unsigned i = group.first; i < target; ++i) {
      Op &op = group.ops[i - group.first];
      if (op.waitedWarps >> warp & 1)
        continue;
      op.waitedWarps |= 1u << warp;
      for (Reading *reading : op.readings)
        if (reading)
          endReading(*reading);
    }
    while (!group.ops.empty() && group.ops.front().waitedWarps == 15) {
      group.ops.pop_front();
      ++group.first;
    }
  }
  // The instruction is executed by the warp together.
  warpCollective(WarpOp::Aligned, 0xffffffffu, 0, 0, 32, file, line);
}

void mpt::sim::beginProducts() {
  for (Warpgroup &group : groups)
    group = Warpgroup();
}

bool mpt::sim::executeProduct() {
  unsigned count = blockDim.x / groupThreads;
  if (!count)
    return false;
  unsigned at = asyncState().draw(count);
  for (unsigned i = 0; i < count; ++i)
    if (executeNext(groups[(at + i) % count]))
      return true;
  return false;
}

std::string mpt::sim::leftProducts(unsigned thread) {
  const Warpgroup &group = groups[thread / groupThreads];
  const auto &shadows = group.threads[thread % groupThreads].shadows;
  if (shadows.empty())
    return "";
  return "while a wgmma has its accumulators: no wgmma.commit_group and "
         "wgmma.wait_group followed";
}
