//===- Dataflow.cpp - which launch depends on which -----------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// See Dataflow.h.
//
//===----------------------------------------------------------------------===//

#include "Dataflow.h"
#include "Failure.h"

#include <algorithm>

namespace mpt::rt {

LaunchAccesses accessesOf(const Manifest &manifest, const Launch &launch) {
  LaunchAccesses accesses;
  auto read = [&](int64_t buffer) {
    accesses.reads.push_back({buffer, false});
  };
  auto write = [&](const Place &place, int64_t bytes) {
    bool whole =
        place.offset == 0 && bytes == manifest.buffers[place.buffer].bytes;
    accesses.writes.push_back({place.buffer, whole});
  };
  switch (launch.op) {
  case LaunchOp::Kernel: {
    if (launch.written < 0)
      fail(MPT_ERROR_UNSUPPORTED, "the manifest does not say which arguments ",
           "kernel '", launch.name, "' writes; rebuild the package");
    size_t reads = launch.args.size() - static_cast<size_t>(launch.written);
    for (size_t i = 0; i != launch.args.size(); ++i)
      if (i < reads)
        read(launch.args[i].buffer);
      else
        accesses.writes.push_back(
            {launch.args[i].buffer, launch.args[i].offset == 0});
    break;
  }
  case LaunchOp::Product:
    read(launch.lhs.buffer);
    read(launch.rhs.buffer);
    // Its elements do not overlap, so their number says what they cover.
    write({launch.product.buffer, launch.product.offset},
          launch.batch[0] * launch.batch[1] * launch.m * launch.n * 4);
    break;
  case LaunchOp::ScatterAdd:
    read(launch.init.buffer);
    read(launch.ids.buffer);
    read(launch.updates.buffer);
    write(launch.result, launch.table * launch.columns * 4);
    break;
  case LaunchOp::Copy:
    read(launch.source.buffer);
    write(launch.result, launch.bytes);
    break;
  case LaunchOp::Fill:
    write(launch.result, launch.bytes);
    break;
  }
  return accesses;
}

namespace {

/// Finds what runs, and what is left in memory at the end.
struct GradientPlanner {
  static constexpr size_t kNone = static_cast<size_t>(-1);

  const Manifest &manifest;
  GradientPlan plan;
  /// By buffer: the launch that does not run and that its contents need.
  std::vector<size_t> missing;
  /// By buffer: the last launch that ran and wrote other bytes over it.
  std::vector<size_t> overwritten;
  /// Arena buffers that someone asks for at the end.
  std::vector<int64_t> watched;

  explicit GradientPlanner(const Manifest &manifest)
      : manifest(manifest), missing(manifest.buffers.size(), kNone),
        overwritten(manifest.buffers.size(), kNone) {
    plan.reads.resize(manifest.buffers.size());
    auto watch = [&](int64_t buffer) {
      if (manifest.buffers[buffer].kind == BufferKind::Arena)
        watched.push_back(buffer);
    };
    for (const Gradient &gradient : manifest.gradients)
      watch(gradient.place.buffer);
    for (const Tensor &result : manifest.results)
      watch(result.buffer);
    std::sort(watched.begin(), watched.end());
    watched.erase(std::unique(watched.begin(), watched.end()), watched.end());
  }

  void add(size_t index);
  void noteWrite(int64_t buffer, size_t index);
  void finish();
  void require(const std::string &what, int64_t buffer) const;
  const std::string &name(size_t index) const {
    return manifest.launches[index].name;
  }
};

/// A launch that is kept writes `buffer`: buffers that share bytes with it in
/// the arena lose their contents.
void GradientPlanner::noteWrite(int64_t buffer, size_t index) {
  const Buffer &target = manifest.buffers[buffer];
  overwritten[buffer] = kNone;
  if (target.kind != BufferKind::Arena)
    return;
  for (int64_t other : watched) {
    const Buffer &held = manifest.buffers[other];
    if (other != buffer && held.offset < target.offset + target.bytes &&
        target.offset < held.offset + held.bytes)
      overwritten[other] = index;
  }
}

void GradientPlanner::add(size_t index) {
  LaunchAccesses accesses = accessesOf(manifest, manifest.launches[index]);
  size_t cause = kNone;
  for (const BufferAccess &read : accesses.reads)
    if (missing[read.buffer] != kNone)
      cause = missing[read.buffer];
  for (const BufferAccess &write : accesses.writes)
    if (manifest.buffers[write.buffer].kind == BufferKind::Argument)
      cause = index;
  plan.runs.push_back(cause == kNone);
  if (cause == kNone)
    for (const BufferAccess &read : accesses.reads)
      plan.reads[read.buffer] = true;
  for (const BufferAccess &write : accesses.writes) {
    if (cause != kNone) {
      missing[write.buffer] = cause;
      continue;
    }
    if (write.whole)
      missing[write.buffer] = kNone;
    noteWrite(write.buffer, index);
  }
}

void GradientPlanner::require(const std::string &what, int64_t buffer) const {
  if (missing[buffer] != kNone)
    fail(MPT_ERROR_UNSUPPORTED, what, " depends on launch '",
         name(missing[buffer]),
         "', which writes an argument and must not run in a gradient");
  if (overwritten[buffer] != kNone)
    fail(MPT_ERROR_UNSUPPORTED, what, " is overwritten by launch '",
         name(overwritten[buffer]), "' before the launches end");
}

void GradientPlanner::finish() {
  for (const Gradient &gradient : manifest.gradients)
    require("the gradient of '" + manifest.arguments[gradient.parameter].name +
                "'",
            gradient.place.buffer);
  for (const Tensor &result : manifest.results) {
    if (result.name == "loss")
      require("the result 'loss'", result.buffer);
    size_t cause = missing[result.buffer] != kNone ? missing[result.buffer]
                                                   : overwritten[result.buffer];
    plan.missing.push_back(cause == kNone ? std::string() : name(cause));
  }
}

using Bits = std::vector<uint64_t>;

void unite(Bits &into, const Bits &from) {
  if (into.size() < from.size())
    into.resize(from.size());
  for (size_t i = 0; i != from.size(); ++i)
    into[i] |= from[i];
}

} // namespace

GradientPlan planGradient(const Manifest &manifest) {
  if (manifest.gradients.empty())
    fail(MPT_ERROR_UNSUPPORTED,
         "the package's manifest has no gradients: the step trains nothing, or "
         "the package was built by an older mpt; rebuild it");
  GradientPlanner planner(manifest);
  for (size_t i = 0; i != manifest.launches.size(); ++i)
    planner.add(i);
  planner.finish();
  return std::move(planner.plan);
}

std::vector<std::vector<size_t>>
gradientsReachedFrom(const Manifest &manifest,
                     const std::vector<size_t> &launches) {
  GradientPlan plan = planGradient(manifest);
  std::vector<std::vector<size_t>> bitsOf(manifest.launches.size());
  for (size_t bit = 0; bit != launches.size(); ++bit) {
    if (launches[bit] >= manifest.launches.size())
      fail(MPT_ERROR_ARGUMENT, "launch index is ", launches[bit],
           ", expected below ", manifest.launches.size());
    bitsOf[launches[bit]].push_back(bit);
  }
  std::vector<Bits> sets(manifest.buffers.size());
  for (size_t i = 0; i != manifest.launches.size(); ++i) {
    if (!plan.runs[i])
      continue;
    LaunchAccesses accesses = accessesOf(manifest, manifest.launches[i]);
    Bits set;
    for (const BufferAccess &read : accesses.reads)
      unite(set, sets[read.buffer]);
    for (size_t bit : bitsOf[i]) {
      if (set.size() <= bit / 64)
        set.resize(bit / 64 + 1);
      set[bit / 64] |= uint64_t(1) << (bit % 64);
    }
    for (const BufferAccess &write : accesses.writes)
      if (write.whole)
        sets[write.buffer] = set;
      else
        unite(sets[write.buffer], set);
  }
  std::vector<std::vector<size_t>> reached(launches.size());
  for (size_t g = 0; g != manifest.gradients.size(); ++g) {
    const Bits &set = sets[manifest.gradients[g].place.buffer];
    for (size_t bit = 0; bit != std::min(launches.size(), set.size() * 64);
         ++bit)
      if (set[bit / 64] >> (bit % 64) & 1)
        reached[bit].push_back(g);
  }
  return reached;
}

} // namespace mpt::rt
