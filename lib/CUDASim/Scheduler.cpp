//===- Scheduler.cpp - The threads of a block as fibers -------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Runs a launch block by block. Each thread of a block is a fiber that runs
// until it waits for others (barrier, warp function) or returns. Every wait is
// on other threads of the block, so "no thread can run" is a deadlock, known at
// once. The simulator is strict: threads that meet at two different places,
// lanes missing from a warp function, and a return in front of a barrier are
// faults, although some hardware gets away with them.
//
// A fault abandons the block's fibers where they are; device code has nothing
// that would need unwinding.
//
//===----------------------------------------------------------------------===//

#include "Internal.h"

#include <boost/context/detail/fcontext.hpp>

#include <algorithm>
#include <csetjmp>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <sys/mman.h>

using namespace mpt::sim;
namespace context = boost::context::detail;

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace {

constexpr unsigned maxThreads = 1024;
constexpr size_t stackBytes = 128 * 1024, guardBytes = 4096;

enum class State : uint8_t { Ready, AtBarrier, AtWarp, AtEvent, Exited };

const char *const warpOpNames[] = {"__syncwarp",
                                   "__shfl_sync",
                                   "__shfl_up_sync",
                                   "__shfl_down_sync",
                                   "__shfl_xor_sync",
                                   "__ballot_sync",
                                   "an aligned instruction"};

/// A place in the source at which a thread waits.
struct Site {
  const char *file;
  int line;
  bool operator==(const Site &other) const {
    return line == other.line &&
           (file == other.file || std::strcmp(file, other.file) == 0);
  }
  std::string text() const {
    return std::string(file) + ":" + std::to_string(line);
  }
};

struct Thread {
  context::fcontext_t context;
  uint3 index;
  State state;
  Site site;
  // What the thread offers to its warp, and what it gets back.
  WarpOp op;
  unsigned mask, operand;
  int width;
  uint64_t value;
  // What waitFor() was given.
  const void *key;
  const char *what;
};

struct Warp {
  /// Lanes that can run, and lanes that wait in a warp function.
  unsigned ready, waiting;
};

struct Block {
  const Launch *launch = nullptr;
  context::fcontext_t main;
  Thread threads[maxThreads];
  Warp warps[maxThreads / 32];
  unsigned count = 0, warpCount = 0, current = 0, atBarrier = 0, exited = 0;
  std::string fault;
  uint64_t random = 0;
  Range stacks;
  /// A thread runs, and not the simulator.
  bool inThread = false;
};

Block block;

unsigned laneOf(unsigned thread) { return thread % 32; }
Warp &warpOf(unsigned thread) { return block.warps[thread / 32]; }

/// SplitMix64: the next draw below `bound`.
unsigned draw(unsigned bound) {
  uint64_t z = block.random += 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return static_cast<unsigned>((z ^ (z >> 31)) % bound);
}

//===----------------------------------------------------------------------===//
// Switching
//===----------------------------------------------------------------------===//

void *stackTop(unsigned thread) {
  return reinterpret_cast<void *>(block.stacks.begin +
                                  (thread + 1) * (stackBytes + guardBytes));
}

void reserveStacks() {
  if (block.stacks.begin)
    return;
  size_t bytes = maxThreads * (stackBytes + guardBytes);
  void *base = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (base == MAP_FAILED) {
    std::fprintf(stderr, "cuda simulation: no memory for thread stacks\n");
    std::abort();
  }
  for (unsigned i = 0; i < maxThreads; ++i)
    mprotect(static_cast<char *>(base) + i * (stackBytes + guardBytes),
             guardBytes, PROT_NONE);
  block.stacks.begin = reinterpret_cast<uintptr_t>(base);
  block.stacks.end = block.stacks.begin + bytes;
}

/// Gives control back to runBlock() until the thread is resumed.
void yieldThread() {
  context::transfer_t from = context::jump_fcontext(block.main, nullptr);
  block.main = from.fctx;
}

void threadMain(context::transfer_t from) {
  block.main = from.fctx;
  block.launch->call->run();
  if (async().threadExit) {
    std::string left = async().threadExit(block.current);
    if (!left.empty())
      abandon(threadText(block.current) + " returns from the kernel " + left);
  }
  Thread &thread = block.threads[block.current];
  thread.state = State::Exited;
  warpOf(block.current).ready &= ~(1u << laneOf(block.current));
  ++block.exited;
  yieldThread();
  __builtin_unreachable();
}

void resume(unsigned index) {
  Thread &thread = block.threads[index];
  block.current = index;
  threadIdx = thread.index;
  block.inThread = true;
  context::transfer_t from = context::jump_fcontext(thread.context, nullptr);
  block.inThread = false;
  thread.context = from.fctx;
}

void wait(State state, const char *file, int line) {
  Thread &thread = block.threads[block.current];
  thread.state = state;
  thread.site = {file, line};
  warpOf(block.current).ready &= ~(1u << laneOf(block.current));
}

void wake(unsigned index) {
  block.threads[index].state = State::Ready;
  warpOf(index).ready |= 1u << laneOf(index);
}

//===----------------------------------------------------------------------===//
// Messages
//===----------------------------------------------------------------------===//

std::string waitText(const Thread &thread) {
  if (thread.state == State::AtEvent)
    return std::string(thread.what) + " at " + thread.site.text() +
           (async().describe ? async().describe(thread.key) : "");
  std::string what = thread.state == State::AtBarrier
                         ? "__syncthreads"
                         : warpOpNames[static_cast<int>(thread.op)];
  return what + "() at " + thread.site.text();
}

std::string countText(size_t count, const char *one, const char *many) {
  return std::to_string(count) + (count == 1 ? one : many);
}

/// Who waits where, when no thread can run.
std::string describeDeadlock() {
  std::vector<std::pair<std::string, std::vector<unsigned>>> groups;
  for (unsigned i = 0; i < block.count; ++i) {
    const Thread &thread = block.threads[i];
    std::string where = thread.state == State::Exited
                            ? "returned from the kernel"
                            : "in " + waitText(thread);
    auto it = std::find_if(groups.begin(), groups.end(),
                           [&](const auto &one) { return one.first == where; });
    if (it == groups.end())
      it = groups.insert(groups.end(), {where, {}});
    it->second.push_back(i);
  }
  std::string text = "threads wait for each other for ever:";
  for (const auto &[where, threads] : groups)
    text += " " + countText(threads.size(), " thread ", " threads ") + where +
            " (first " + threadText(threads.front()) + ");";
  text.pop_back();
  return text;
}

//===----------------------------------------------------------------------===//
// Warp functions
//===----------------------------------------------------------------------===//

/// Lane from which `lane` reads, -1 for its own value.
int sourceLane(const Thread &thread, int lane) {
  int width = thread.width, operand = static_cast<int>(thread.operand);
  int first = lane & ~(width - 1), last = first + width - 1;
  int source = lane;
  switch (thread.op) {
  case WarpOp::Shuffle:
    return first + (operand & (width - 1));
  case WarpOp::ShuffleUp:
    source = lane - operand;
    return source < first ? -1 : source;
  case WarpOp::ShuffleDown:
    source = lane + operand;
    return source > last ? -1 : source;
  case WarpOp::ShuffleXor:
    source = lane ^ operand;
    return source > last ? -1 : source;
  default:
    return -1;
  }
}

/// All lanes of `mask` are here: exchanges their values and lets them run.
void finishCollective(unsigned warp, unsigned mask) {
  Thread *lanes = block.threads + warp * 32;
  uint64_t results[32] = {};
  unsigned ballot = 0;
  for (unsigned lane = 0; lane < 32; ++lane)
    if (mask >> lane & 1 && lanes[lane].value)
      ballot |= 1u << lane;
  for (unsigned lane = 0; lane < 32; ++lane) {
    if (!(mask >> lane & 1))
      continue;
    int source = sourceLane(lanes[lane], static_cast<int>(lane));
    if (source >= 0 && !(mask >> source & 1))
      abandon(threadText(warp * 32 + lane) + " reads lane " +
              std::to_string(source) + " in " + waitText(lanes[lane]) +
              ", which is not in the mask");
    results[lane] = lanes[lane].op == WarpOp::Ballot
                        ? ballot
                        : lanes[source < 0 ? lane : source].value;
  }
  WarpOp op = lanes[laneOf(block.current)].op;
  if (op == WarpOp::Sync || op == WarpOp::Aligned)
    joinWarp(warp, mask);
  for (unsigned lane = 0; lane < 32; ++lane)
    if (mask >> lane & 1) {
      lanes[lane].value = results[lane];
      wake(warp * 32 + lane);
    }
  block.warps[warp].waiting &= ~mask;
}

/// Faults unless the lanes of `mask`, which all wait, wait for the same.
void checkCollective(unsigned warp, unsigned mask) {
  const Thread *lanes = block.threads + warp * 32;
  const Thread &mine = block.threads[block.current];
  for (unsigned lane = 0; lane < 32; ++lane) {
    const Thread &other = lanes[lane];
    if (!(mask >> lane & 1) ||
        (other.op == mine.op && other.mask == mask && other.site == mine.site))
      continue;
    char masks[64];
    std::snprintf(masks, sizeof(masks), "masks 0x%08x and 0x%08x", mask,
                  other.mask);
    abandon("lanes of one warp meet in different warp functions: " +
            threadText(block.current) + " in " + waitText(mine) + ", " +
            threadText(warp * 32 + lane) + " in " + waitText(other) + ", " +
            masks);
  }
}

//===----------------------------------------------------------------------===//
// Running a block
//===----------------------------------------------------------------------===//

/// One of the set bits (runnable lanes or warps), by the order in force.
unsigned pickBit(unsigned bits) {
  switch (options().order) {
  case Order::Forward:
    return static_cast<unsigned>(__builtin_ctz(bits));
  case Order::Reverse:
    return 31u - static_cast<unsigned>(__builtin_clz(bits));
  default:
    break;
  }
  for (unsigned skip = draw(static_cast<unsigned>(__builtin_popcount(bits)));
       skip; --skip)
    bits &= bits - 1;
  return static_cast<unsigned>(__builtin_ctz(bits));
}

/// The thread to resume, or -1 if none can run. Stays in `warp` while it can,
/// except in interleaved order.
int pickThread(unsigned &warp) {
  if (options().order == Order::Interleaved || !block.warps[warp].ready) {
    unsigned runnable = 0;
    for (unsigned i = 0; i < block.warpCount; ++i)
      if (block.warps[i].ready)
        runnable |= 1u << i;
    if (!runnable)
      return -1;
    warp = pickBit(runnable);
  }
  return static_cast<int>(warp * 32 + pickBit(block.warps[warp].ready));
}

void beginBlock(unsigned index) {
  const dim3 &grid = gridDim;
  blockIdx = {index % grid.x, index / grid.x % grid.y, index / grid.x / grid.y};
  block.atBarrier = block.exited = 0;
  for (unsigned w = 0; w < block.warpCount; ++w)
    block.warps[w] = {0, 0};
  for (unsigned i = 0; i < block.count; ++i) {
    Thread &thread = block.threads[i];
    thread.index = {i % blockDim.x, i / blockDim.x % blockDim.y,
                    i / blockDim.x / blockDim.y};
    thread.context =
        context::make_fcontext(stackTop(i), stackBytes, threadMain);
    wake(i);
  }
  beginSharedBlock();
  beginClocks(block.count);
  if (async().beginBlock)
    async().beginBlock();
  if (checker().beginBlock)
    checker().beginBlock();
}

/// Returns whether the block ran without a fault.
bool runBlock(unsigned index) {
  beginBlock(index);
  unsigned warp = 0;
  while (block.fault.empty()) {
    if (async().step)
      async().step(false);
    int next = pickThread(warp);
    if (next >= 0)
      resume(static_cast<unsigned>(next));
    else if (!async().step || !async().step(true))
      break;
  }
  if (block.fault.empty() && block.exited != block.count)
    block.fault = describeDeadlock();
  if (block.fault.empty() && async().endBlock)
    block.fault = async().endBlock();
  if (block.fault.empty())
    block.fault = endSharedBlock();
  return block.fault.empty();
}

//===----------------------------------------------------------------------===//
// Hardware faults of the host while a kernel runs
//===----------------------------------------------------------------------===//

sigjmp_buf faultReturn;
volatile int faultSignal;
void *volatile faultAddress;
void *volatile faultPlace;

void onSignal(int signal, siginfo_t *info, void *where) {
  faultSignal = signal;
  faultAddress = info->si_addr;
#if defined(__x86_64__)
  faultPlace = reinterpret_cast<void *>(
      static_cast<ucontext_t *>(where)->uc_mcontext.gregs[REG_RIP]);
#else
  (void)where;
  faultPlace = nullptr;
#endif
  siglongjmp(faultReturn, 1);
}

std::string describeSignal() {
  uintptr_t address = reinterpret_cast<uintptr_t>(faultAddress);
  std::string what = "accesses illegal address ";
  if (faultSignal == SIGFPE)
    what = "divides an integer by zero or overflows";
  else if (stackRange().contains(address))
    what = "overflows its stack of " + std::to_string(stackBytes) + " bytes";
  else
    what += describeAddress(address);
  return threadText(block.current) + " " + what + placeText(faultPlace);
}

/// Handlers, and a stack for them, for the time of a launch.
class SignalScope {
public:
  SignalScope() {
    static char stack[64 * 1024];
    stack_t own = {};
    own.ss_sp = stack;
    own.ss_size = sizeof(stack);
    sigaltstack(&own, &oldStack);
    struct sigaction action = {};
    action.sa_sigaction = onSignal;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigemptyset(&action.sa_mask);
    for (int i = 0; i < 3; ++i)
      sigaction(signals[i], &action, &old[i]);
  }
  ~SignalScope() {
    for (int i = 0; i < 3; ++i)
      sigaction(signals[i], &old[i], nullptr);
    sigaltstack(&oldStack, nullptr);
  }

private:
  static constexpr int signals[3] = {SIGSEGV, SIGBUS, SIGFPE};
  struct sigaction old[3];
  stack_t oldStack;
};

/// Runs all blocks; a hardware fault comes back here.
void runBlocks(unsigned blocks) {
  if (sigsetjmp(faultReturn, 1)) {
    block.inThread = false;
    block.fault = describeSignal();
    return;
  }
  bool reverse = options().order == Order::Reverse;
  for (unsigned i = 0; i < blocks; ++i)
    if (!runBlock(reverse ? blocks - 1 - i : i))
      return;
}

Options initialOptions() {
  Options value;
  const char *text = std::getenv("MPT_SIM_ORDER");
  if (text && !parseOrder(text, value))
    std::fprintf(stderr,
                 "cuda simulation: MPT_SIM_ORDER is '%s', expected forward, "
                 "reverse, random[:seed] or interleaved[:seed]\n",
                 text);
  return value;
}

} // namespace

//===----------------------------------------------------------------------===//
// Interface
//===----------------------------------------------------------------------===//

Options &mpt::sim::options() {
  static Options value = initialOptions();
  return value;
}

bool mpt::sim::parseOrder(const char *text, Options &options) {
  static constexpr std::pair<const char *, Order> orders[] = {
      {"forward", Order::Forward},
      {"reverse", Order::Reverse},
      {"random", Order::Random},
      {"interleaved", Order::Interleaved}};
  for (const auto &[name, order] : orders) {
    size_t length = std::strlen(name);
    if (std::strncmp(text, name, length) != 0)
      continue;
    char *end = nullptr;
    uint64_t seed = 0;
    if (text[length] == ':')
      seed = std::strtoull(text + length + 1, &end, 10);
    if (text[length] != '\0' && (text[length] != ':' || *end != '\0'))
      return false;
    options = {order, seed};
    return true;
  }
  return false;
}

CheckerHooks &mpt::sim::checker() {
  static CheckerHooks hooks;
  return hooks;
}

AsyncHooks &mpt::sim::async() {
  static AsyncHooks hooks;
  return hooks;
}

unsigned mpt::sim::currentThread() { return block.current; }

Range mpt::sim::stackRange() { return block.stacks; }

static std::string tripleText(unsigned x, unsigned y, unsigned z) {
  return "(" + std::to_string(x) + "," + std::to_string(y) + "," +
         std::to_string(z) + ")";
}

std::string mpt::sim::threadText(unsigned thread) {
  const uint3 &index = block.threads[thread].index;
  return "thread " + tripleText(index.x, index.y, index.z);
}

std::string mpt::sim::blockText() {
  return "block " + tripleText(blockIdx.x, blockIdx.y, blockIdx.z);
}

bool mpt::sim::threadRuns() { return block.inThread; }

void mpt::sim::abandon(std::string message) {
  block.inThread = false;
  block.fault = std::move(message);
  yieldThread();
  __builtin_unreachable();
}

std::string mpt::sim::runLaunch(const Launch &launch) {
  reserveStacks();
  block.launch = &launch;
  blockDim = launch.block;
  gridDim = launch.grid;
  block.count = blockDim.x * blockDim.y * blockDim.z;
  block.warpCount = (block.count + 31) / 32;
  block.fault.clear();
  block.random = options().seed;
  uint64_t blocks = uint64_t(gridDim.x) * gridDim.y * gridDim.z;
  beginSharedLaunch(launch.sharedBytes);
  if (checker().beginLaunch)
    checker().beginLaunch(launch);
  {
    SignalScope scope;
    runBlocks(static_cast<unsigned>(blocks));
  }
  std::string found = checker().endLaunch ? checker().endLaunch() : "";
  if (!block.fault.empty())
    return blockText() + ": " + block.fault +
           (found.empty() ? "" : "; before that: " + found);
  return found.empty() ? checkCanaries() : found;
}

void mpt::sim::blockBarrier(const char *file, int line) {
  wait(State::AtBarrier, file, line);
  ++block.atBarrier;
  if (block.atBarrier < block.count) {
    yieldThread();
    return;
  }
  const Thread &mine = block.threads[block.current];
  for (unsigned i = 0; i < block.count; ++i)
    if (!(block.threads[i].site == mine.site))
      abandon("threads of one block meet at different barriers: " +
              threadText(block.current) + " in " + waitText(mine) + ", " +
              threadText(i) + " in " + waitText(block.threads[i]));
  for (unsigned i = 0; i < block.count; ++i)
    wake(i);
  block.atBarrier = 0;
  joinBlock();
  yieldThread();
}

void mpt::sim::waitFor(const void *key, const char *what, const char *file,
                       int line) {
  Thread &thread = block.threads[block.current];
  thread.key = key;
  thread.what = what;
  wait(State::AtEvent, file, line);
  yieldThread();
}

void mpt::sim::wakeWaiters(const void *key) {
  for (unsigned i = 0; i < block.count; ++i)
    if (block.threads[i].state == State::AtEvent && block.threads[i].key == key)
      wake(i);
}

uint64_t mpt::sim::warpCollective(WarpOp op, unsigned mask, uint64_t value,
                                  unsigned operand, int width, const char *file,
                                  int line) {
  unsigned index = block.current, lane = laneOf(index);
  Thread &thread = block.threads[index];
  Warp &warp = warpOf(index);
  thread.op = op;
  thread.mask = mask;
  thread.value = value;
  thread.operand = operand;
  thread.width = width;
  wait(State::AtWarp, file, line);
  if (!(mask >> lane & 1))
    abandon(threadText(index) + " calls " + waitText(thread) +
            " with a mask that lacks its own lane " + std::to_string(lane));
  if (width <= 0 || width > 32 || (width & (width - 1)))
    abandon(waitText(thread) + " has width " + std::to_string(width) +
            ", expected a power of two up to 32");
  warp.waiting |= 1u << lane;
  if ((warp.waiting & mask) == mask) {
    checkCollective(index / 32, mask);
    finishCollective(index / 32, mask);
  }
  yieldThread();
  return thread.value;
}

void mpt::sim::atomicAccess(const void *address, size_t bytes, const char *file,
                            int line) {
  if (checker().atomicAccess)
    checker().atomicAccess(reinterpret_cast<uintptr_t>(address), bytes, file,
                           line);
}
