//===- Checker.cpp - Races, unwritten and foreign memory ------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Emitted sources compiled with -fsanitize=thread call a function for each
// access to memory. This file supplies these functions in place of the
// sanitizer's run time (do not link that), so linking it is a matter of how
// kernels are compiled. Each access of a kernel is checked:
//
//   * it lies in the buffers that the kernel was given, in an allocation, or in
//     a shared array; host memory is out of bounds too;
//   * what it reads was written before;
//   * it is ordered with the last write and the last read of the same byte by
//     another thread: by __syncthreads, by __syncwarp within a warp, by named
//     barriers and mbarriers, or by the end of an earlier launch. Shuffles and
//     votes order nothing (as in CUDA's memory model), and threads of two
//     blocks are never ordered;
//   * ordinary stores that a copy or wgmma reads lie in front of a
//     fence.proxy.async of their thread.
//
// Not seen: memcpy and memset calls under g++, all but the last reader of a
// byte, and order that kernels build from atomics and fences (reported as
// races).
//
//===----------------------------------------------------------------------===//

#include "Internal.h"

#include <algorithm>
#include <link.h>
#include <set>
#include <sys/mman.h>

using namespace mpt::sim;

namespace {

/// Who accessed a byte: ordinal of the block over all launches, thread in it,
/// the thread's clock, and whether atomically. 0: nobody.
class Stamp {
public:
  Stamp() = default;
  Stamp(uint64_t block, unsigned thread, unsigned clock, bool atomic)
      : word(block << 31 | uint64_t(thread) << 21 | uint64_t(clock) << 1 |
             atomic) {}
  /// Written by the host or a product: by no block.
  static Stamp host() { return Stamp(0, 0, 1, false); }

  explicit operator bool() const { return word != 0; }
  uint64_t block() const { return word >> 31; }
  unsigned thread() const { return word >> 21 & 0x3ff; }
  unsigned clock() const { return word >> 1 & 0xfffff; }
  bool atomic() const { return word & 1; }

private:
  uint64_t word = 0;
};

struct Cell {
  Stamp writer, reader;
};

enum class Kind { Read, Write, Atomic };

/// Where an access is in the source.
struct Place {
  const void *address = nullptr;
  const char *file = nullptr;
  int line = 0;
  std::string text() const {
    if (file)
      return std::string(" at ") + file + ":" + std::to_string(line);
    // A return address: the call is before it.
    return placeText(static_cast<const char *>(address) - 1);
  }
};

struct Finding {
  Place place;
  std::string who, what;
};

constexpr size_t maxFindings = 8;

struct Checker {
  /// One cell per byte of device and of shared memory.
  Cell *deviceCells = nullptr, *sharedCells = nullptr;
  Range device, shared;

  // The launch.
  uint64_t block = 0, firstBlock = 0;
  std::vector<uint3> blockIndices;
  std::vector<Range> allowed;
  Range recent, call;
  std::vector<Range> modules;
  Range recentModule;
  std::vector<Finding> findings;
  std::set<std::pair<uintptr_t, int>> seen;
  size_t suppressed = 0;
};

Checker state;

Cell *reserveCells(Range range) {
  size_t bytes = (range.end - range.begin) * sizeof(Cell);
  void *cells = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (cells != MAP_FAILED)
    return static_cast<Cell *>(cells);
  std::fprintf(stderr, "cuda simulation: no addresses for the checker\n");
  std::abort();
}

/// Cells of device memory, which exists from the first allocation on.
Cell *deviceCell(uintptr_t address) {
  if (!state.deviceCells) {
    state.device = deviceRange();
    state.deviceCells = reserveCells(state.device);
  }
  return state.deviceCells + (address - state.device.begin);
}

//===----------------------------------------------------------------------===//
// Findings
//===----------------------------------------------------------------------===//

std::string blockName(uint64_t block) {
  const uint3 &index = state.blockIndices[block - state.firstBlock];
  return "block (" + std::to_string(index.x) + "," + std::to_string(index.y) +
         "," + std::to_string(index.z) + ")";
}

/// Keeps one finding for each place and kind.
void find(const Place &place, int kind, const std::string &what) {
  uintptr_t key = place.file ? reinterpret_cast<uintptr_t>(place.file) +
                                   static_cast<uintptr_t>(place.line)
                             : reinterpret_cast<uintptr_t>(place.address);
  if (!state.seen.insert({key, kind}).second)
    return;
  if (state.findings.size() == maxFindings) {
    ++state.suppressed;
    return;
  }
  state.findings.push_back(
      {place, blockText() + ", " + threadText(currentThread()), what});
}

const char *verb(Kind kind) {
  return kind == Kind::Read    ? "reads "
         : kind == Kind::Write ? "writes "
                               : "updates atomically ";
}

//===----------------------------------------------------------------------===//
// One access
//===----------------------------------------------------------------------===//

/// True if the running thread is behind what `stamp` stands for.
bool ordered(Stamp stamp, unsigned thread) {
  if (!stamp || stamp.block() < state.firstBlock)
    return true;
  if (stamp.block() != state.block)
    return false;
  return isBehind(thread, stamp.thread(), stamp.clock());
}

void findRace(Stamp other, bool otherWrote, uintptr_t address, Kind kind,
              const Place &place) {
  std::string with = other.block() == state.block
                         ? threadText(other.thread())
                         : "thread " + std::to_string(other.thread()) + " of " +
                               blockName(other.block());
  find(place, 1,
       std::string("race: ") + verb(kind) + describeAddress(address) +
           ", which " + with + (otherWrote ? " wrote" : " read") +
           (other.atomic() ? " atomically" : "") +
           " with no barrier in between");
}

/// Checks and stamps the cells of one access that is within bounds.
void accessCells(Cell *cell, bool isShared, uintptr_t address, size_t bytes,
                 Kind kind, const Place &place) {
  unsigned thread = currentThread();
  Stamp mine(state.block, thread, threadClock(thread), kind == Kind::Atomic);
  for (size_t i = 0; i < bytes; ++i, ++cell) {
    Stamp writer = cell->writer, reader = cell->reader;
    // Shared memory forgets with each block.
    if (isShared && writer.block() != state.block)
      writer = Stamp();
    if (isShared && reader.block() != state.block)
      reader = Stamp();
    if (kind != Kind::Write && !writer)
      find(place, 2,
           std::string(verb(kind)) + describeAddress(address + i) +
               ", which was never written");
    bool bothAtomic = kind == Kind::Atomic && writer.atomic();
    if (!bothAtomic && !ordered(writer, thread))
      findRace(writer, true, address + i, kind, place);
    else if (kind != Kind::Read && !reader.atomic() && !ordered(reader, thread))
      findRace(reader, false, address + i, kind, place);
    (kind == Kind::Read ? cell->reader : cell->writer) = mine;
  }
}

/// True if the kernel may touch the bytes of device memory; else finds it.
bool deviceAllowed(uintptr_t address, size_t bytes, Kind kind,
                   const Place &place) {
  auto within = [&](const Range &range) {
    return address >= range.begin && address + bytes <= range.end;
  };
  if (within(state.recent))
    return true;
  for (const Range &range : state.allowed)
    if (within(range)) {
      state.recent = range;
      return true;
    }
  Range allocation = allocationAt(address);
  std::string why = "out of bounds: ";
  if (within(allocation)) {
    if (!anyNamedBuffer())
      state.recent = allocation;
    if (!anyNamedBuffer() ||
        (!inNamedBuffer(address) && !inNamedBuffer(address + bytes - 1)))
      return true;
    why = "not a buffer that the kernel was given: ";
  }
  find(place, 3, why + verb(kind) + describeAddress(address));
  return false;
}

/// Memory that is neither device nor shared: a thread's stack, constants and
/// variables of the program, the launch's arguments. Else finds it.
void accessForeign(uintptr_t address, Kind kind, const Place &place) {
  if (stackRange().contains(address) || state.recentModule.contains(address) ||
      state.call.contains(address))
    return;
  for (const Range &module : state.modules)
    if (module.contains(address)) {
      state.recentModule = module;
      return;
    }
  find(place, 4, std::string(verb(kind)) + "host memory");
}

void access(uintptr_t address, size_t bytes, Kind kind, const Place &place) {
  if (!threadRuns())
    return;
  if (state.device.contains(address)) {
    if (deviceAllowed(address, bytes, kind, place))
      accessCells(deviceCell(address), false, address, bytes, kind, place);
  } else if (state.shared.contains(address)) {
    Range array = sharedArrayAt(address);
    std::string collision =
        async().ordinaryAccess
            ? async().ordinaryAccess(address, bytes, kind != Kind::Read)
            : "";
    if (!collision.empty())
      find(place, 5, verb(kind) + describeAddress(address) + ", " + collision);
    else if (address + bytes <= array.end)
      accessCells(state.sharedCells + (address - state.shared.begin), true,
                  address, bytes, kind, place);
    else
      find(place, 3,
           std::string("out of bounds: ") + verb(kind) +
               describeAddress(address));
  } else {
    accessForeign(address, kind, place);
  }
}

//===----------------------------------------------------------------------===//
// What the scheduler tells
//===----------------------------------------------------------------------===//

int addModule(dl_phdr_info *info, size_t, void *) {
  for (int i = 0; i < info->dlpi_phnum; ++i) {
    const auto &segment = info->dlpi_phdr[i];
    uintptr_t begin = info->dlpi_addr + segment.p_vaddr;
    if (segment.p_type == PT_LOAD)
      state.modules.push_back({begin, begin + segment.p_memsz});
  }
  return 0;
}

void beginLaunch(const Launch &launch) {
  state.device = deviceRange();
  state.shared = sharedRange();
  if (!state.sharedCells)
    state.sharedCells = reserveCells(state.shared);
  state.firstBlock = state.block + 1;
  state.blockIndices.clear();
  state.allowed = allowedRanges(launch);
  state.recent = state.recentModule = {};
  state.call.begin = reinterpret_cast<uintptr_t>(launch.call.get());
  state.call.end = state.call.begin + launch.call->size();
  state.modules.clear();
  dl_iterate_phdr(addModule, nullptr);
  state.findings.clear();
  state.seen.clear();
  state.suppressed = 0;
}

std::string endLaunch() {
  std::string text;
  for (const Finding &one : state.findings)
    text += (text.empty() ? "" : "; ") + one.who + ": " + one.what +
            one.place.text();
  if (state.suppressed)
    text += "; " + std::to_string(state.suppressed) + " more";
  return text;
}

void beginBlock() {
  ++state.block;
  state.blockIndices.push_back(blockIdx);
}

void written(uintptr_t address, size_t bytes) {
  Cell cell;
  cell.writer = Stamp::host();
  std::fill_n(deviceCell(address), bytes, cell);
}

bool isWritten(uintptr_t address, size_t bytes) {
  const Cell *cell = deviceCell(address);
  return std::all_of(cell, cell + bytes,
                     [](const Cell &one) { return bool(one.writer); });
}

void asyncRead(uintptr_t address, size_t bytes,
               unsigned (*fenced)(unsigned, unsigned), const char *file,
               int line) {
  Place place{nullptr, file, line};
  unsigned thread = currentThread();
  Cell *cell = state.sharedCells + (address - state.shared.begin);
  for (size_t i = 0; i < bytes; ++i, ++cell) {
    Stamp writer = cell->writer;
    if (writer.block() != state.block) {
      find(place, 2,
           "reads " + describeAddress(address + i) +
               ", which was never written");
      return;
    }
    // Time 0: an earlier copy; Async.cpp knows whether it was waited for.
    if (writer.clock() == 0)
      continue;
    unsigned fence = fenced(writer.thread(), writer.clock());
    if (fence && isBehind(thread, writer.thread(), fence))
      continue;
    if (ordered(writer, thread))
      find(place, 6,
           "reads " + describeAddress(address + i) +
               " through the async proxy, which " +
               threadText(writer.thread()) +
               " wrote with no fence.proxy.async behind it");
    else
      findRace(writer, true, address + i, Kind::Read, place);
    return;
  }
}

void asyncWrite(uintptr_t address, size_t bytes, const char *file, int line) {
  Place place{nullptr, file, line};
  Cell *cell = state.sharedCells + (address - state.shared.begin);
  accessCells(cell, true, address, bytes, Kind::Write, place);
  Cell landed;
  landed.writer = Stamp(state.block, currentThread(), 0, false);
  std::fill_n(cell, bytes, landed);
}

void atomicOf(uintptr_t address, size_t bytes, const char *file, int line) {
  Place place;
  place.file = file;
  place.line = line;
  access(address, bytes, Kind::Atomic, place);
}

/// Runs before main, or when the package is loaded.
const bool installed = [] {
  CheckerHooks &hooks = checker();
  hooks.beginLaunch = beginLaunch;
  hooks.endLaunch = endLaunch;
  hooks.beginBlock = beginBlock;
  hooks.atomicAccess = atomicOf;
  hooks.written = written;
  hooks.isWritten = isWritten;
  hooks.asyncRead = asyncRead;
  hooks.asyncWrite = asyncWrite;
  return true;
}();

} // namespace

//===----------------------------------------------------------------------===//
// What instrumented code calls
//===----------------------------------------------------------------------===//

#define MPT_ACCESS(address, bytes, kind)                                       \
  access(reinterpret_cast<uintptr_t>(address), bytes, kind,                    \
         {__builtin_return_address(0), nullptr, 0})

#define MPT_HOOKS(bytes)                                                       \
  void __tsan_read##bytes(void *p) { MPT_ACCESS(p, bytes, Kind::Read); }       \
  void __tsan_write##bytes(void *p) { MPT_ACCESS(p, bytes, Kind::Write); }     \
  void __tsan_unaligned_read##bytes(void *p) {                                 \
    MPT_ACCESS(p, bytes, Kind::Read);                                          \
  }                                                                            \
  void __tsan_unaligned_write##bytes(void *p) {                                \
    MPT_ACCESS(p, bytes, Kind::Write);                                         \
  }                                                                            \
  void __tsan_volatile_read##bytes(void *p) {                                  \
    MPT_ACCESS(p, bytes, Kind::Read);                                          \
  }                                                                            \
  void __tsan_volatile_write##bytes(void *p) {                                 \
    MPT_ACCESS(p, bytes, Kind::Write);                                         \
  }                                                                            \
  void __tsan_unaligned_volatile_read##bytes(void *p) {                        \
    MPT_ACCESS(p, bytes, Kind::Read);                                          \
  }                                                                            \
  void __tsan_unaligned_volatile_write##bytes(void *p) {                       \
    MPT_ACCESS(p, bytes, Kind::Write);                                         \
  }                                                                            \
  void __tsan_read_write##bytes(void *p) {                                     \
    MPT_ACCESS(p, bytes, Kind::Read);                                          \
    MPT_ACCESS(p, bytes, Kind::Write);                                         \
  }                                                                            \
  void __tsan_unaligned_read_write##bytes(void *p) {                           \
    MPT_ACCESS(p, bytes, Kind::Read);                                          \
    MPT_ACCESS(p, bytes, Kind::Write);                                         \
  }

// Host code's atomics (guards of static variables, reference counts).
#define MPT_FETCH(bits, name)                                                  \
  uint##bits##_t __tsan_atomic##bits##_fetch_##name(                           \
      volatile uint##bits##_t *p, uint##bits##_t value, int) {                 \
    return __atomic_fetch_##name(p, value, __ATOMIC_SEQ_CST);                  \
  }

#define MPT_EXCHANGE(bits, strength)                                           \
  int __tsan_atomic##bits##_compare_exchange_##strength(                       \
      volatile uint##bits##_t *p, uint##bits##_t *expected,                    \
      uint##bits##_t value, int, int) {                                        \
    return __atomic_compare_exchange_n(p, expected, value, false,              \
                                       __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);    \
  }

#define MPT_ATOMICS(bits)                                                      \
  uint##bits##_t __tsan_atomic##bits##_load(const volatile uint##bits##_t *p,  \
                                            int) {                             \
    return __atomic_load_n(p, __ATOMIC_SEQ_CST);                               \
  }                                                                            \
  void __tsan_atomic##bits##_store(volatile uint##bits##_t *p,                 \
                                   uint##bits##_t value, int) {                \
    __atomic_store_n(p, value, __ATOMIC_SEQ_CST);                              \
  }                                                                            \
  uint##bits##_t __tsan_atomic##bits##_exchange(volatile uint##bits##_t *p,    \
                                                uint##bits##_t value, int) {   \
    return __atomic_exchange_n(p, value, __ATOMIC_SEQ_CST);                    \
  }                                                                            \
  uint##bits##_t __tsan_atomic##bits##_compare_exchange_val(                   \
      volatile uint##bits##_t *p, uint##bits##_t expected,                     \
      uint##bits##_t value, int, int) {                                        \
    __atomic_compare_exchange_n(p, &expected, value, false, __ATOMIC_SEQ_CST,  \
                                __ATOMIC_SEQ_CST);                             \
    return expected;                                                           \
  }                                                                            \
  MPT_EXCHANGE(bits, strong)                                                   \
  MPT_EXCHANGE(bits, weak)                                                     \
  MPT_FETCH(bits, add)                                                         \
  MPT_FETCH(bits, sub)                                                         \
  MPT_FETCH(bits, and)                                                         \
  MPT_FETCH(bits, or)                                                          \
  MPT_FETCH(bits, xor)                                                         \
  MPT_FETCH(bits, nand)

extern "C" {
void __tsan_init() {}
void __tsan_func_entry(void *) {}
void __tsan_func_exit() {}
void __tsan_ignore_thread_begin() {}
void __tsan_ignore_thread_end() {}
void __tsan_vptr_update(void **, void *) {}
void __tsan_vptr_read(void **) {}
void __tsan_atomic_thread_fence(int) {}
void __tsan_atomic_signal_fence(int) {}

MPT_HOOKS(1)
MPT_HOOKS(2)
MPT_HOOKS(4)
MPT_HOOKS(8)
MPT_HOOKS(16)
MPT_ATOMICS(8)
MPT_ATOMICS(16)
MPT_ATOMICS(32)
MPT_ATOMICS(64)

void __tsan_read_range(void *p, size_t bytes) {
  MPT_ACCESS(p, bytes, Kind::Read);
}
void __tsan_write_range(void *p, size_t bytes) {
  MPT_ACCESS(p, bytes, Kind::Write);
}
void *__tsan_memcpy(void *to, const void *from, size_t bytes) {
  MPT_ACCESS(from, bytes, Kind::Read);
  MPT_ACCESS(to, bytes, Kind::Write);
  return std::memcpy(to, from, bytes);
}
void *__tsan_memmove(void *to, const void *from, size_t bytes) {
  MPT_ACCESS(from, bytes, Kind::Read);
  MPT_ACCESS(to, bytes, Kind::Write);
  return std::memmove(to, from, bytes);
}
void *__tsan_memset(void *to, int value, size_t bytes) {
  MPT_ACCESS(to, bytes, Kind::Write);
  return std::memset(to, value, bytes);
}
} // extern "C"
