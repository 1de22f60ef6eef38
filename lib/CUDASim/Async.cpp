//===- Async.cpp - Order and collisions of asynchronous work --------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Chooses when copies, stores and products complete, and knows which bytes of
// shared memory they have in use.
//
//===----------------------------------------------------------------------===//

#include "Async.h"

#include <algorithm>

using namespace mpt::sim;

namespace {

bool overlap(const Range &a, const Range &b) {
  return a.begin < b.end && b.begin < a.end;
}

Completion drawCompletion() {
  switch (options().order) {
  case Order::Forward:
    return Completion::Early;
  case Order::Reverse:
    return Completion::Late;
  default:
    return static_cast<Completion>(asyncState().draw(3));
  }
}

void beginAsyncBlock() {
  AsyncState &state = asyncState();
  state.random = options().seed * 0x9e3779b97f4a7c15u + blockIdx.x +
                 1000003u * blockIdx.y + 1000000007u * blockIdx.z;
  state.copies = drawCompletion();
  state.stores = drawCompletion();
  state.products = drawCompletion();
  state.fills.clear();
  state.readings.clear();
  for (std::vector<unsigned> &one : state.fences)
    one.clear();
  beginBarriers(blockDim.x * blockDim.y * blockDim.z);
  beginCopies();
  beginProducts();
}

std::string endAsyncBlock() {
  std::string left = endCopies();
  return left.empty() ? endBarriers() : left;
}

std::string threadExit(unsigned thread) {
  std::string left = leftStores(thread);
  return left.empty() ? leftProducts(thread) : left;
}

bool step(bool idle) {
  AsyncState &state = asyncState();
  // Work that completes "any time" does so in front of every fourth switch.
  if (!idle && state.draw(4))
    return false;
  if (!idle && state.products == Completion::Any && state.draw(2))
    return executeProduct();
  return completeCopy(idle);
}

/// What is wrong with reading `range` in the running thread.
std::string collisionOfRead(const Range &range) {
  for (const Fill &fill : asyncState().fills)
    if (overlap(fill.range, range) &&
        phasesKnown(currentThread(), fill.barrier) <= fill.phase)
      return "which the copy at " + fill.source.text() +
             " fills, and its mbarrier was not waited for";
  return "";
}

/// What is wrong with writing `range` in the running thread.
std::string collisionOfWrite(const Range &range) {
  for (const Reading &reading : asyncState().readings) {
    if (!overlap(reading.range, range))
      continue;
    for (const Reading::End &end : reading.ends)
      if (!end.clock || !isBehind(currentThread(), end.thread, end.clock))
        return std::string("which ") + reading.what + " at " +
               reading.source.text() + " still reads, as far as it can know (" +
               threadText(end.thread) +
               (end.clock ? " has waited for that, but did not say so to the "
                            "writer)"
                          : " has not waited for that)");
  }
  return collisionOfRead(range);
}

std::string ordinaryAccess(uintptr_t address, size_t bytes, bool write) {
  Range range = {address, address + bytes};
  return write ? collisionOfWrite(range) : collisionOfRead(range);
}

void checkBounds(const Range &range, const char *what, const Source &source) {
  Range array = sharedArrayAt(range.begin);
  if (range.begin < array.begin || range.end > array.end)
    abandonAt(source, std::string(what) +
                          " is out of bounds of shared memory: " +
                          std::to_string(range.end - range.begin) +
                          " bytes at " + describeAddress(range.begin));
}

unsigned fenceBehind(unsigned thread, unsigned clock) {
  const std::vector<unsigned> &fences = asyncState().fences[thread];
  auto it = std::upper_bound(fences.begin(), fences.end(), clock);
  return it == fences.end() ? 0 : *it;
}

/// Runs before main, or when the package is loaded.
const bool installed = [] {
  AsyncHooks &hooks = async();
  hooks.beginBlock = beginAsyncBlock;
  hooks.endBlock = endAsyncBlock;
  hooks.threadExit = threadExit;
  hooks.step = step;
  hooks.describe = describeBarrier;
  hooks.ordinaryAccess = ordinaryAccess;
  return true;
}();

} // namespace

AsyncState &mpt::sim::asyncState() {
  static AsyncState state;
  return state;
}

unsigned AsyncState::draw(unsigned bound) {
  uint64_t z = random += 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return static_cast<unsigned>((z ^ (z >> 31)) % bound);
}

void mpt::sim::abandonAt(const Source &source, const std::string &message) {
  abandon(threadText(currentThread()) + ": " + message + " at " +
          source.text());
}

void mpt::sim::beginAsyncRead(Range range, const char *what,
                              const Source &source, bool checkBytes) {
  checkBounds(range, what, source);
  std::string wrong = collisionOfRead(range);
  if (!wrong.empty())
    abandonAt(source, std::string(what) + " reads " +
                          describeAddress(range.begin) + ", " + wrong + ",");
  if (checkBytes && checker().asyncRead)
    checker().asyncRead(range.begin, range.end - range.begin, fenceBehind,
                        source.file, source.line);
}

void mpt::sim::beginAsyncWrite(Range range, const char *what,
                               const Source &source) {
  checkBounds(range, what, source);
  std::string wrong = collisionOfWrite(range);
  if (!wrong.empty())
    abandonAt(source, std::string(what) + " overwrites " +
                          describeAddress(range.begin) + ", " + wrong + ",");
  AsyncState &state = asyncState();
  state.readings.remove_if(
      [&](const Reading &one) { return overlap(one.range, range); });
  state.fills.erase(std::remove_if(state.fills.begin(), state.fills.end(),
                                   [&](const Fill &one) {
                                     return overlap(one.range, range);
                                   }),
                    state.fills.end());
  if (checker().asyncWrite)
    checker().asyncWrite(range.begin, range.end - range.begin, source.file,
                         source.line);
}

Reading *mpt::sim::addReading(Range range, const char *what,
                              const Source &source,
                              std::vector<unsigned> threads) {
  Reading reading = {range, what, source, {}};
  for (unsigned thread : threads)
    reading.ends.push_back({thread, 0});
  asyncState().readings.push_back(std::move(reading));
  return &asyncState().readings.back();
}

void mpt::sim::endReading(Reading &reading) {
  for (Reading::End &end : reading.ends)
    if (end.thread == currentThread())
      end.clock = threadClock(currentThread());
}
