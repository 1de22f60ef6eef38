//===- Memory.cpp - Simulated device and shared memory --------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Device memory comes from one reserved range of addresses. Each allocation is
// filled with 0xFF, ends (up to 256-byte alignment, filled with canary bytes)
// at an inaccessible page, and its addresses are never used again. Shared
// memory is laid out likewise, with canaries between its arrays.
//
//===----------------------------------------------------------------------===//

#include "Internal.h"

#include <algorithm>
#include <map>
#include <sys/mman.h>

using namespace mpt::sim;

namespace {

constexpr size_t pageBytes = 4096, alignment = 256;
/// Addresses, not memory: nothing is used before it is allocated.
constexpr size_t reservedBytes = size_t(64) << 30;
constexpr unsigned char canary = 0xCA, poison = 0xFF;
constexpr size_t sharedGap = 256;
/// Static shared memory of a block, and all of it, on sm_90.
constexpr size_t staticSharedLimit = 48 * 1024, sharedLimit = 227 * 1024;

size_t roundUp(size_t value, size_t to) { return (value + to - 1) / to * to; }

struct Allocation {
  size_t bytes;
  Range pages;
  bool live;
};

struct Buffer {
  size_t bytes;
  std::string name;
};

struct SharedArray {
  const void *site;
  std::string name;
  Range range;
};

struct Memory {
  Range device;
  uintptr_t next = 0;
  std::map<uintptr_t, Allocation> allocations;
  /// A reused place has several names, so this is a multimap.
  std::multimap<uintptr_t, Buffer> buffers;
  size_t largestBuffer = 0;

  /// One region: static arrays from its start, the dynamic part at its end.
  Range shared;
  std::vector<SharedArray> arrays;
  uintptr_t nextArray = 0, dynamic = 0;
  size_t dynamicBytes = 0;
};

Memory &memory() {
  static Memory instance;
  return instance;
}

void *reserve(size_t bytes, int protection) {
  void *pointer = mmap(nullptr, bytes, protection,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return pointer == MAP_FAILED ? nullptr : pointer;
}

/// First byte of [begin, end) that is no canary, or `end`.
uintptr_t firstDamage(uintptr_t begin, uintptr_t end) {
  const unsigned char *at = reinterpret_cast<const unsigned char *>(begin);
  const unsigned char *last = reinterpret_cast<const unsigned char *>(end);
  return reinterpret_cast<uintptr_t>(
      std::find_if(at, last, [](unsigned char c) { return c != canary; }));
}

/// Iterator to the allocation at or below `address`, live or not.
std::map<uintptr_t, Allocation>::iterator allocationBelow(uintptr_t address) {
  auto it = memory().allocations.upper_bound(address);
  return it == memory().allocations.begin() ? memory().allocations.end()
                                            : std::prev(it);
}

std::string checkAllocation(uintptr_t begin, const Allocation &one) {
  uintptr_t end = begin + one.bytes;
  uintptr_t before = firstDamage(one.pages.begin, begin);
  if (before != begin)
    return "bytes before an allocation of " + std::to_string(one.bytes) +
           " bytes were written, " + std::to_string(begin - before) +
           " bytes before its start";
  uintptr_t behind = firstDamage(end, one.pages.end);
  if (behind != one.pages.end)
    return "bytes behind an allocation of " + std::to_string(one.bytes) +
           " bytes were written, " + std::to_string(behind - end) +
           " bytes behind its end";
  return "";
}

/// Calls `visit` for each named buffer that contains `address`.
template <typename Visit> void visitBuffers(uintptr_t address, Visit visit) {
  auto &buffers = memory().buffers;
  uintptr_t lowest = address - std::min(address, memory().largestBuffer);
  for (auto it = buffers.lower_bound(lowest);
       it != buffers.end() && it->first <= address; ++it)
    if (address - it->first < it->second.bytes)
      visit(*it);
}

} // namespace

//===----------------------------------------------------------------------===//
// Device memory
//===----------------------------------------------------------------------===//

Range mpt::sim::deviceRange() { return memory().device; }

size_t mpt::sim::allocatedBytes() {
  size_t bytes = 0;
  for (const auto &[begin, one] : memory().allocations)
    bytes += one.live ? one.bytes : 0;
  return bytes;
}

std::string mpt::sim::allocate(void **pointer, size_t bytes) {
  Memory &m = memory();
  if (!m.next) {
    void *base = reserve(reservedBytes, PROT_NONE);
    if (!base)
      return "cannot reserve addresses for simulated device memory";
    m.device.begin = m.next = reinterpret_cast<uintptr_t>(base);
    m.device.end = m.device.begin + reservedBytes;
  }
  if (bytes == 0 || bytes > reservedBytes)
    return "cannot allocate " + std::to_string(bytes) + " bytes";
  // At least one aligned step of canaries in front, none or few behind.
  size_t held = roundUp(bytes, alignment);
  size_t pages = roundUp(held + alignment, pageBytes);
  if (m.next + pages + pageBytes > m.device.end)
    return "simulated device memory is used up (addresses are not reused)";
  void *base = reinterpret_cast<void *>(m.next);
  if (mprotect(base, pages, PROT_READ | PROT_WRITE) != 0)
    return "cannot allocate " + std::to_string(bytes) + " bytes";
  Range range = {m.next, m.next + pages};
  uintptr_t begin = range.end - held;
  std::memset(base, canary, begin - range.begin);
  std::memset(reinterpret_cast<void *>(begin), poison, bytes);
  std::memset(reinterpret_cast<void *>(begin + bytes), canary, held - bytes);
  m.allocations[begin] = {bytes, range, true};
  m.next += pages + pageBytes;
  *pointer = reinterpret_cast<void *>(begin);
  return "";
}

std::string mpt::sim::release(void *pointer) {
  Memory &m = memory();
  uintptr_t begin = reinterpret_cast<uintptr_t>(pointer);
  auto it = m.allocations.find(begin);
  if (it == m.allocations.end() || !it->second.live)
    return "cudaFree of " + describeAddress(begin);
  std::string damage = checkAllocation(begin, it->second);
  Range pages = it->second.pages;
  void *base = reinterpret_cast<void *>(pages.begin);
  madvise(base, pages.end - pages.begin, MADV_DONTNEED);
  mprotect(base, pages.end - pages.begin, PROT_NONE);
  it->second.live = false;
  auto first = m.buffers.lower_bound(begin);
  m.buffers.erase(first, m.buffers.lower_bound(pages.end));
  return damage;
}

bool mpt::sim::isDevicePointer(const void *pointer) {
  return memory().device.contains(reinterpret_cast<uintptr_t>(pointer));
}

std::string mpt::sim::checkDeviceRange(const void *pointer, size_t bytes) {
  uintptr_t address = reinterpret_cast<uintptr_t>(pointer);
  auto it = allocationBelow(address);
  if (!isDevicePointer(pointer) || it == memory().allocations.end() ||
      !it->second.live || address - it->first > it->second.bytes ||
      bytes > it->second.bytes - (address - it->first))
    return std::to_string(bytes) + " bytes at " + describeAddress(address);
  return "";
}

std::string mpt::sim::describeAddress(uintptr_t address) {
  char hex[32];
  std::snprintf(hex, sizeof(hex), "0x%lx", static_cast<long>(address));
  std::string text = hex;
  if (memory().shared.contains(address)) {
    for (const SharedArray &array : memory().arrays)
      if (address + sharedGap >= array.range.begin &&
          address < array.range.end + sharedGap)
        return text + " (byte " +
               std::to_string(static_cast<int64_t>(address) -
                              static_cast<int64_t>(array.range.begin)) +
               " of shared array '" + array.name + "' of " +
               std::to_string(array.range.end - array.range.begin) + " bytes)";
    return text + " (shared memory, byte " +
           std::to_string(static_cast<int64_t>(address) -
                          static_cast<int64_t>(memory().dynamic)) +
           " of the dynamic part of " + std::to_string(memory().dynamicBytes) +
           " bytes)";
  }
  if (!memory().device.contains(address))
    return text + " (not device memory)";
  auto it = allocationBelow(address);
  // The front canary of the allocation above belongs to that one.
  auto above = memory().allocations.upper_bound(address);
  if (above != memory().allocations.end() &&
      above->second.pages.contains(address))
    it = above;
  if (it == memory().allocations.end())
    return text + " (device memory never allocated)";
  int64_t offset =
      static_cast<int64_t>(address) - static_cast<int64_t>(it->first);
  text += " (byte " + std::to_string(offset) + " of " +
          (it->second.live ? "an" : "a freed") + " allocation of " +
          std::to_string(it->second.bytes) + " bytes";
  visitBuffers(address, [&](const std::pair<const uintptr_t, Buffer> &one) {
    text += ", byte " + std::to_string(address - one.first) + " of buffer '" +
            one.second.name + "' of " + std::to_string(one.second.bytes);
  });
  return text + ")";
}

std::string mpt::sim::checkCanaries() {
  for (const auto &[begin, one] : memory().allocations)
    if (one.live) {
      std::string damage = checkAllocation(begin, one);
      if (!damage.empty())
        return damage;
    }
  return "";
}

//===----------------------------------------------------------------------===//
// Named buffers
//===----------------------------------------------------------------------===//

void mpt::sim::nameBuffer(const void *pointer, size_t bytes, const char *name) {
  uintptr_t address = reinterpret_cast<uintptr_t>(pointer);
  memory().buffers.insert({address, {bytes, name}});
  memory().largestBuffer = std::max(memory().largestBuffer, bytes);
}

std::vector<Range> mpt::sim::allowedRanges(const Launch &launch) {
  std::vector<Range> ranges;
  for (const PointerArgument &argument : launch.pointers) {
    uintptr_t address = reinterpret_cast<uintptr_t>(argument.pointer);
    // Where lifetimes share a place, prefer the buffers that start here.
    std::vector<Range> inside, starting;
    visitBuffers(address, [&](const std::pair<const uintptr_t, Buffer> &one) {
      Range range = {one.first, one.first + one.second.bytes};
      (one.first == address ? starting : inside).push_back(range);
    });
    std::vector<Range> &chosen = starting.empty() ? inside : starting;
    ranges.insert(ranges.end(), chosen.begin(), chosen.end());
  }
  return ranges;
}

bool mpt::sim::inNamedBuffer(uintptr_t address) {
  bool found = false;
  visitBuffers(address, [&](const auto &) { found = true; });
  return found;
}

bool mpt::sim::anyNamedBuffer() { return !memory().buffers.empty(); }

Range mpt::sim::allocationAt(uintptr_t address) {
  auto it = allocationBelow(address);
  if (it == memory().allocations.end() || !it->second.live ||
      address - it->first >= it->second.bytes)
    return {};
  return {it->first, it->first + it->second.bytes};
}

//===----------------------------------------------------------------------===//
// Shared memory
//===----------------------------------------------------------------------===//

Range mpt::sim::sharedRange() { return memory().shared; }

void mpt::sim::beginSharedLaunch(size_t dynamicBytes) {
  Memory &m = memory();
  size_t bytes = roundUp(2 * sharedLimit, pageBytes);
  if (!m.shared.begin) {
    void *base = reserve(bytes + pageBytes, PROT_READ | PROT_WRITE);
    if (!base)
      std::abort();
    mprotect(static_cast<char *>(base) + bytes, pageBytes, PROT_NONE);
    m.shared.begin = reinterpret_cast<uintptr_t>(base);
    m.shared.end = m.shared.begin + bytes;
  }
  m.arrays.clear();
  m.nextArray = m.shared.begin + sharedGap;
  m.dynamicBytes = dynamicBytes;
  m.dynamic = m.shared.end - roundUp(dynamicBytes, 128);
  std::memset(reinterpret_cast<void *>(m.shared.begin), canary, bytes);
}

void mpt::sim::beginSharedBlock() {
  Memory &m = memory();
  for (const SharedArray &array : m.arrays)
    std::memset(reinterpret_cast<void *>(array.range.begin), poison,
                array.range.end - array.range.begin);
  std::memset(reinterpret_cast<void *>(m.dynamic), poison, m.dynamicBytes);
}

std::string mpt::sim::endSharedBlock() {
  Memory &m = memory();
  uintptr_t from = m.shared.begin;
  auto check = [&](uintptr_t to) -> std::string {
    uintptr_t damage = from < to ? firstDamage(from, to) : to;
    if (damage >= to)
      return "";
    return "shared memory outside of any array was written: " +
           describeAddress(damage);
  };
  for (const SharedArray &array : m.arrays) {
    std::string damage = check(array.range.begin);
    if (!damage.empty())
      return damage;
    from = array.range.end;
  }
  // Behind the last array, and around the dynamic part: one step each.
  std::string damage = check(std::min(from + sharedGap, m.dynamic));
  if (damage.empty() && m.dynamicBytes) {
    from = m.dynamic - sharedGap;
    damage = check(m.dynamic);
    from = m.dynamic + m.dynamicBytes;
    if (damage.empty())
      damage = check(m.shared.end);
  }
  return damage;
}

Range mpt::sim::sharedArrayAt(uintptr_t address) {
  Memory &m = memory();
  for (const SharedArray &array : m.arrays)
    if (array.range.contains(address))
      return array.range;
  Range dynamic = {m.dynamic, m.dynamic + m.dynamicBytes};
  return dynamic.contains(address) ? dynamic : Range();
}

void *mpt::sim::sharedArray(const void *site, const char *name, size_t bytes,
                            size_t align) {
  Memory &m = memory();
  for (const SharedArray &array : m.arrays)
    if (array.site == site)
      return reinterpret_cast<void *>(array.range.begin);
  uintptr_t begin = roundUp(m.nextArray, std::max<size_t>(align, 128));
  size_t total = bytes;
  for (const SharedArray &array : m.arrays)
    total += array.range.end - array.range.begin;
  if (total > staticSharedLimit || total + m.dynamicBytes > sharedLimit)
    abandon("shared array '" + std::string(name) + "' of " +
            std::to_string(bytes) + " bytes does not fit: the block has " +
            std::to_string(total) + " static and " +
            std::to_string(m.dynamicBytes) + " dynamic bytes, at most " +
            std::to_string(staticSharedLimit) + " static and " +
            std::to_string(sharedLimit) + " in all are possible");
  m.arrays.push_back({site, name, {begin, begin + bytes}});
  m.nextArray = begin + bytes + sharedGap;
  std::memset(reinterpret_cast<void *>(begin), poison, bytes);
  return reinterpret_cast<void *>(begin);
}

void *mpt::sim::dynamicShared() {
  return reinterpret_cast<void *>(memory().dynamic);
}
