//===- Target.h - what a target runs, and how fast --------------*- C++ -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// A target is data: a JSON file with the source of every figure. Those under
// lib/Precision/targets are built in; others are named by their path. The
// schema is in docs/cost-model.md.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_PRECISION_TARGET_H
#define MPT_PRECISION_TARGET_H

#include "mpt/Precision/Formats.h"
#include <array>
#include <vector>

namespace mpt {
namespace precision {

/// A figure of a target with where it is from.
struct Figure {
  double value = 0;
  std::string source;
};

/// How fast the arithmetic of products is.
struct Rate {
  std::string name;
  /// In TFLOP/s.
  Figure peak;
  /// Share of the peak that a long contraction reaches.
  Figure efficiency;
  /// What a tile costs besides its contraction, in elements of k.
  Figure overheadK;

  /// Floating point operations in a microsecond, over a long contraction.
  double getFlopsPerUs() const { return peak.value * efficiency.value * 1e6; }
};

/// Combinations of formats that products run in.
struct Combination {
  std::vector<Storage> lhs, rhs;
  /// Of operands that are scaled.
  std::vector<Granularity> scales;
  std::vector<Recipe> recipes;
  std::vector<Rounding> roundings;
  /// Index into the target's rates.
  size_t rate = 0;
  /// Both operands contiguous along k.
  bool kMajor = false;
  /// m, n and k are multiples of it.
  int64_t alignment = 1;

  bool contains(const FormatPair &formats) const;
};

/// Where work on a tensor happens.
enum class Place {
  /// In the kernel that makes the tensor: only what is written counts.
  Producer,
  /// In a kernel of its own.
  Pass
};

struct Target {
  std::string name, device;
  /// GB/s and the share of it that kernels reach.
  Figure memoryBandwidth, memoryEfficiency;
  /// Of a kernel, in microseconds.
  Figure launch;
  /// Multiprocessors or cores, among which tiles are dealt.
  Figure units;
  /// Of an element of a product's result.
  Figure resultBytes;
  std::vector<std::array<int64_t, 2>> tiles;
  /// Into how many parts k may be cut.
  std::vector<int64_t> splits;
  std::vector<Rate> rates;
  std::vector<Combination> combinations;
  /// Amax of a tensor that has a producer; kernels that follow it.
  Place amax = Place::Pass;
  int64_t amaxLaunches = 0;
  /// Casts by recipe, `none` being BF16; and transposed copies of codes.
  std::array<Place, 4> casts{Place::Pass, Place::Pass, Place::Pass,
                             Place::Pass};
  Place transposed = Place::Pass;

  /// Bytes in a microsecond.
  double getBytesPerUs() const {
    return memoryBandwidth.value * memoryEfficiency.value * 1e3;
  }
  /// The combination that these formats belong to, or null.
  const Combination *find(const FormatPair &formats) const;
  /// Why a product does not run in these formats, or "" if it does.
  std::string whyNotRun(const FormatPair &formats) const;
};

/// The names of the targets that are built in.
std::vector<std::string> builtInTargets();

/// Parses a description; `source` stands for the file in messages. Fails,
/// naming the place, where a figure is missing or makes no sense.
llvm::Expected<Target> parseTarget(llvm::StringRef text,
                                   llvm::StringRef source);

/// The target that is built in under that name or, of a path (with a `/` or
/// ending in `.json`), that the file describes.
llvm::Expected<Target> getTarget(llvm::StringRef nameOrPath);

} // namespace precision
} // namespace mpt

#endif // MPT_PRECISION_TARGET_H
