//===- TensorCopy.cpp - Bulk tensor copies (TMA) --------------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// cp.async.bulk.tensor in tiled mode: boxes of a tensor with up to five
// dimensions to shared memory and back, with the 32, 64 and 128-byte swizzles.
// Elements outside of the tensor are zeros when loaded and dropped when stored.
// A load fills its box with 0xFF (NaN) when it is issued and with data when it
// lands; a store reads shared memory at one moment and writes global memory at
// a later one.
//
//===----------------------------------------------------------------------===//

#include "Async.h"

#include <cstring>

using namespace mpt::sim;

namespace {

struct Copy {
  TensorMap map;
  int at[5] = {};
  bool load;
  unsigned char *shared;
  void *barrier = nullptr;
  /// A store's thread, its group of that thread, and what it has read.
  unsigned thread, group = 0;
  std::vector<unsigned char> read;
  bool hasRead = false;
  Reading *reading = nullptr;
};

struct Copies {
  std::list<Copy> pending;
  /// Groups that each thread has committed; the next store joins that one.
  std::vector<unsigned> groups;
};

Copies state;

size_t boxBytes(const TensorMap &map) {
  size_t bytes = map.elementBytes;
  for (unsigned d = 0; d < map.rank; ++d)
    bytes *= map.box[d];
  return bytes;
}

/// The shared memory address of byte `offset` of a box: XOR of address bits 4-6
/// with bits 7-9, as far as the span goes.
unsigned char *swizzled(unsigned char *base, size_t offset, unsigned span) {
  uintptr_t address = reinterpret_cast<uintptr_t>(base) + offset;
  if (span)
    address ^= (address >> 3) & (span / 16 - 1) << 4;
  return reinterpret_cast<unsigned char *>(address);
}

/// Calls visit(offset in the box, address of the element, null outside) for
/// each element.
template <typename Visit> void visitBox(const Copy &copy, Visit visit) {
  const TensorMap &map = copy.map;
  unsigned index[5] = {};
  size_t count = boxBytes(map) / map.elementBytes;
  for (size_t i = 0; i < count; ++i) {
    bool inside = true;
    uint64_t address = map.base;
    for (unsigned d = 0; d < map.rank; ++d) {
      int64_t at = static_cast<int64_t>(copy.at[d]) + index[d];
      inside &= at >= 0 && at < map.size[d];
      address += at * (d ? map.strideBytes[d - 1] : map.elementBytes);
    }
    visit(i * map.elementBytes,
          inside ? reinterpret_cast<unsigned char *>(address) : nullptr);
    for (unsigned d = 0; d < map.rank && ++index[d] == map.box[d]; ++d)
      index[d] = 0;
  }
}

void land(Copy &copy) {
  visitBox(copy, [&](size_t offset, unsigned char *global) {
    unsigned char *to = swizzled(copy.shared, offset, copy.map.swizzleSpan);
    if (global)
      std::memcpy(to, global, copy.map.elementBytes);
    else
      std::memset(to, 0, copy.map.elementBytes);
  });
  endCopyTo(copy.barrier, static_cast<unsigned>(boxBytes(copy.map)));
}

void readShared(Copy &copy) {
  if (copy.hasRead)
    return;
  copy.hasRead = true;
  copy.read.resize(boxBytes(copy.map));
  for (size_t i = 0; i < copy.read.size(); ++i)
    copy.read[i] = *swizzled(copy.shared, i, copy.map.swizzleSpan);
}

void writeGlobal(Copy &copy) {
  readShared(copy);
  unsigned bytes = copy.map.elementBytes;
  visitBox(copy, [&](size_t offset, unsigned char *global) {
    if (!global)
      return;
    std::memcpy(global, copy.read.data() + offset, bytes);
    if (checker().written)
      checker().written(reinterpret_cast<uintptr_t>(global), bytes);
  });
}

/// Abandons unless the instruction is well formed.
Copy checkCopy(const TensorMap *map, const int *at, unsigned rank,
               const void *shared, bool load, const Source &source) {
  if (map->magic != TensorMap::validMagic)
    abandonAt(source, "cp.async.bulk.tensor with an invalid tensor map");
  if (map->rank != rank)
    abandonAt(source, "cp.async.bulk.tensor of " + std::to_string(rank) +
                          " dimensions with a tensor map of " +
                          std::to_string(map->rank));
  unsigned align = map->swizzleSpan ? map->swizzleSpan * 8 : 128;
  uintptr_t address = reinterpret_cast<uintptr_t>(shared);
  if (address % align)
    abandonAt(source, "cp.async.bulk.tensor with a tile at " +
                          describeAddress(address) + ", expected a multiple " +
                          "of " + std::to_string(align) + " bytes,");
  uint64_t last = map->base + map->elementBytes * uint64_t(map->size[0]);
  for (unsigned d = 1; d < rank; ++d)
    last += map->strideBytes[d - 1] * (map->size[d] - 1);
  std::string wrong = checkDeviceRange(
      reinterpret_cast<const void *>(map->base), last - map->base);
  if (!wrong.empty())
    abandonAt(source, "cp.async.bulk.tensor of a tensor that is out of "
                      "bounds: " +
                          wrong + ",");
  Copy copy;
  copy.map = *map;
  std::copy_n(at, rank, copy.at);
  copy.load = load;
  copy.shared = static_cast<unsigned char *>(const_cast<void *>(shared));
  copy.thread = currentThread();
  return copy;
}

Range sharedRangeOf(const Copy &copy) {
  uintptr_t begin = reinterpret_cast<uintptr_t>(copy.shared);
  return {begin, begin + boxBytes(copy.map)};
}

/// The source of a load was written before.
void checkWritten(const Copy &copy, const Source &source) {
  if (!checker().isWritten)
    return;
  visitBox(copy, [&](size_t, unsigned char *global) {
    uintptr_t address = reinterpret_cast<uintptr_t>(global);
    if (global && !checker().isWritten(address, copy.map.elementBytes))
      abandonAt(source, "cp.async.bulk.tensor reads " +
                            describeAddress(address) +
                            ", which was never written,");
  });
}

/// The running thread waited: its stores of groups below `end` have read, and
/// unless `readOnly` are finished.
void finishStores(unsigned end, bool readOnly) {
  for (auto it = state.pending.begin(); it != state.pending.end();) {
    if (it->load || it->thread != currentThread() || it->group >= end) {
      ++it;
      continue;
    }
    readShared(*it);
    if (it->reading)
      endReading(*it->reading);
    it->reading = nullptr;
    if (!readOnly)
      writeGlobal(*it);
    it = readOnly ? std::next(it) : state.pending.erase(it);
  }
}

} // namespace

void mpt::sim::beginCopies() {
  state.pending.clear();
  state.groups.assign(1024, 0);
}

void mpt::sim::copyTile(void *to, const TensorMap *map, const int *at,
                        unsigned rank, void *barrier, const char *file,
                        int line) {
  Source source = {file, line};
  Copy copy = checkCopy(map, at, rank, to, true, source);
  Range range = sharedRangeOf(copy);
  beginAsyncWrite(range, "cp.async.bulk.tensor", source);
  checkWritten(copy, source);
  copy.barrier = barrier;
  BarrierUse use =
      beginCopyTo(barrier, static_cast<unsigned>(boxBytes(copy.map)), source);
  asyncState().fills.push_back({range, use.index, use.phase, source});
  if (asyncState().copies == Completion::Early) {
    land(copy);
    return;
  }
  std::memset(to, 0xff, boxBytes(copy.map));
  state.pending.push_back(std::move(copy));
}

void mpt::sim::storeTile(const TensorMap *map, const int *at, unsigned rank,
                         const void *from, const char *file, int line) {
  Source source = {file, line};
  Copy copy = checkCopy(map, at, rank, from, false, source);
  Range range = sharedRangeOf(copy);
  beginAsyncRead(range, "cp.async.bulk.tensor", source, true);
  copy.group = state.groups[currentThread()];
  copy.reading = addReading(range, "the store", source, {currentThread()});
  if (asyncState().stores == Completion::Early)
    readShared(copy);
  state.pending.push_back(std::move(copy));
}

void mpt::sim::commitStores() { ++state.groups[currentThread()]; }

void mpt::sim::waitStores(unsigned pending, bool readOnly, const char *, int) {
  unsigned groups = state.groups[currentThread()];
  finishStores(groups - std::min(groups, pending), readOnly);
}

bool mpt::sim::completeCopy(bool idle) {
  auto mayComplete = [&](const Copy &copy) {
    if (!copy.load && copy.hasRead)
      return false;
    Completion when = copy.load ? asyncState().copies : asyncState().stores;
    return idle ? copy.load : when == Completion::Any;
  };
  unsigned count = 0;
  for (const Copy &copy : state.pending)
    count += mayComplete(copy);
  if (!count)
    return false;
  unsigned skip = asyncState().draw(count);
  for (auto it = state.pending.begin(); it != state.pending.end(); ++it) {
    if (!mayComplete(*it) || skip--)
      continue;
    if (!it->load) {
      // The write to global memory waits for the end: nobody may look before.
      readShared(*it);
      return true;
    }
    land(*it);
    state.pending.erase(it);
    return true;
  }
  return false;
}

std::string mpt::sim::leftStores(unsigned thread) {
  for (const Copy &copy : state.pending)
    if (!copy.load && copy.thread == thread && copy.reading)
      return "while a store at " + copy.reading->source.text() +
             " may still read shared memory";
  return "";
}

std::string mpt::sim::endCopies() {
  for (Copy &copy : state.pending) {
    if (copy.load)
      return "the block ends while copies to its shared memory are on "
             "their way";
    writeGlobal(copy);
  }
  state.pending.clear();
  return "";
}
