//===- GroupLaunches.cpp - kernel launches that can be one ----------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// See GroupLaunches.h. Every launch has a position, at first its number. A
// launch can stand anywhere between the last launch that it needs and the first
// that needs it, so a set of launches can be one where these ranges have a
// place in common. Sets grow greedily from the first launch on.
//
//===----------------------------------------------------------------------===//

#include "GroupLaunches.h"
#include "mpt/Dialect/MPT/Analysis/KernelModel.h"
#include "llvm/ADT/MapVector.h"
#include "llvm/ADT/SetVector.h"
#include <cmath>

using namespace mlir;
using namespace mpt;

namespace {
/// Kernels over so few elements are alike: none of them fills a processor.
constexpr int64_t kSmall = 4096;
/// Most parts of one launch.
constexpr size_t kMostParts = 1024;
} // namespace

std::string mpt::getLaunchFamily(const KernelModel &model) {
  std::string ops;
  llvm::raw_string_ostream os(ops);
  for (Operation &op : func::FuncOp(model.function).getBody().front()) {
    if (isa<AdamWOp>(op))
      return "update";
    if (isa<ViewOpInterface, ConstantOp>(op))
      continue;
    os << op.getName() << ' ';
    if (auto reduce = dyn_cast<ReduceOp>(op))
      os << stringifyReduction(reduce.getKind()) << ' ';
  }
  return model.rows * model.columns <= kSmall ? "small" : ops;
}

namespace {

class Grouper {
public:
  Grouper(StepPlan &plan, const GroupingInput &input)
      : plan(plan), input(input), launches(plan.launches),
        before(launches.size()), after(launches.size()) {}

  void run() {
    findOrder();
    findLive();
    for (auto [index, family] : llvm::enumerate(input.families))
      if (!family.empty())
        ofFamily[family].push_back(index);
    groupOf.assign(launches.size(), -1);
    for (auto &entry : ofFamily)
      for (size_t i = 0; i < entry.second.size(); ++i)
        if (groupOf[entry.second[i]] < 0)
          grow(ArrayRef(entry.second).drop_front(i));
    build();
  }

private:
  /// Where the launches of a set could stand, exclusive.
  struct Range {
    double low = -1, high = 0;
  };
  /// Bytes more that are live at the positions in (from, to].
  struct Extension {
    double from, to;
    unsigned buffer;
  };

  ArrayRef<StepPlan::Access> reads(unsigned index) const {
    return ArrayRef(launches[index].accesses)
        .drop_back(launches[index].numWritten);
  }
  ArrayRef<StepPlan::Access> writes(unsigned index) const {
    return ArrayRef(launches[index].accesses)
        .take_back(launches[index].numWritten);
  }
  /// Whether the buffer takes memory of its own: updated state does not.
  bool isArena(unsigned buffer) const {
    return plan.buffers[buffer].kind == StepPlan::BufferKind::Arena &&
           !input.stateOf.contains(buffer);
  }
  /// Whether one of the launch's results takes the buffer's place.
  bool isReplaced(unsigned index, unsigned buffer) const {
    return llvm::any_of(writes(index), [&](StepPlan::Access access) {
      auto it = input.inPlace.find(access.buffer);
      return it != input.inPlace.end() && it->second == buffer;
    });
  }

  void findOrder();
  void findLive();
  Range rangeOf(unsigned index) const;
  void grow(ArrayRef<unsigned> candidates);
  bool fits(ArrayRef<unsigned> members, double place);
  void move(ArrayRef<unsigned> members, double place);
  SmallVector<Extension> extensionsOf(ArrayRef<unsigned> members,
                                      double place) const;
  void build();
  StepPlan::Launch join(ArrayRef<unsigned> members);

  StepPlan &plan;
  const GroupingInput &input;
  std::vector<StepPlan::Launch> &launches;
  /// By launch: those that must come before and after it.
  std::vector<SmallVector<unsigned, 4>> before, after;
  std::vector<double> position;
  std::vector<int> groupOf;
  std::vector<SmallVector<unsigned>> groups;
  llvm::MapVector<StringRef, SmallVector<unsigned>> ofFamily;
  /// By buffer: the position of its last reader.
  std::vector<double> lastRead;
  /// Live bytes of the arena at each launch's first position, and how many
  /// there may be.
  std::vector<int64_t> live;
  int64_t limit = 0;
};

/// Whoever reads a buffer comes after who writes it; whoever reads old state,
/// if it does so now, comes before its update.
void Grouper::findOrder() {
  DenseMap<unsigned, unsigned> writer;
  DenseMap<unsigned, SmallVector<unsigned>> readers;
  auto order = [&](unsigned first, unsigned second) {
    after[first].push_back(second);
    before[second].push_back(first);
  };
  for (unsigned index = 0; index < launches.size(); ++index) {
    for (StepPlan::Access access : reads(index)) {
      readers[access.buffer].push_back(index);
      if (auto it = writer.find(access.buffer); it != writer.end())
        order(it->second, index);
    }
    for (StepPlan::Access access : writes(index)) {
      // Zeros that an epilogue adds its maxima to are written before.
      if (auto it = writer.find(access.buffer); it != writer.end())
        order(it->second, index);
      writer[access.buffer] = index;
      if (auto state = input.stateOf.find(access.buffer);
          state != input.stateOf.end())
        for (unsigned reader : readers[state->second])
          if (reader != index)
            order(reader, index);
    }
    position.push_back(index);
  }
}

/// A buffer is live from its writer to its last reader; one that takes the
/// place of another begins behind it.
void Grouper::findLive() {
  lastRead.assign(plan.buffers.size(), -1);
  std::vector<int64_t> begin(plan.buffers.size(), -1);
  for (unsigned index = 0; index < launches.size(); ++index) {
    for (StepPlan::Access access : reads(index))
      lastRead[access.buffer] = index;
    for (StepPlan::Access access : writes(index)) {
      if (begin[access.buffer] < 0)
        begin[access.buffer] = index + input.inPlace.contains(access.buffer);
      lastRead[access.buffer] = index;
    }
  }
  for (unsigned buffer : input.returned)
    lastRead[buffer] = launches.size();
  live.assign(launches.size() + 2, 0);
  for (size_t buffer = 0; buffer < plan.buffers.size(); ++buffer)
    if (isArena(buffer) && begin[buffer] >= 0 &&
        begin[buffer] <= lastRead[buffer]) {
      live[begin[buffer]] += plan.buffers[buffer].bytes;
      live[lastRead[buffer] + 1] -= plan.buffers[buffer].bytes;
    }
  for (size_t i = 1; i < live.size(); ++i)
    live[i] += live[i - 1];
  int64_t peak = *llvm::max_element(live);
  limit = peak + peak / 256;
}

Grouper::Range Grouper::rangeOf(unsigned index) const {
  Range range;
  range.high = launches.size();
  for (unsigned other : before[index])
    range.low = std::max(range.low, position[other]);
  for (unsigned other : after[index])
    range.high = std::min(range.high, position[other]);
  return range;
}

/// What stays live longer if `members` all stand at `place`: what they read
/// last, up to there, and what they write, from there on.
SmallVector<Grouper::Extension>
Grouper::extensionsOf(ArrayRef<unsigned> members, double place) const {
  SmallVector<Extension> result;
  llvm::SmallSetVector<unsigned, 16> seen;
  for (unsigned member : members) {
    for (StepPlan::Access access : reads(member))
      if (isArena(access.buffer) && lastRead[access.buffer] < place &&
          !isReplaced(member, access.buffer) && seen.insert(access.buffer))
        result.push_back({lastRead[access.buffer], place, access.buffer});
    if (place < position[member])
      for (StepPlan::Access access : writes(member))
        if (isArena(access.buffer) && !input.inPlace.contains(access.buffer))
          result.push_back({place - 1, position[member], access.buffer});
  }
  return result;
}

/// Whether moving `members` to `place` keeps within the limit.
bool Grouper::fits(ArrayRef<unsigned> members, double place) {
  SmallVector<Extension> extensions = extensionsOf(members, place);
  bool fit = true;
  for (int64_t sign : {1, -1})
    for (const Extension &each : extensions)
      for (int64_t at = std::floor(each.from) + 1; at <= each.to; ++at) {
        live[at] += sign * plan.buffers[each.buffer].bytes;
        fit &= sign < 0 || live[at] <= limit;
      }
  return fit;
}

void Grouper::move(ArrayRef<unsigned> members, double place) {
  for (const Extension &each : extensionsOf(members, place)) {
    for (int64_t at = std::floor(each.from) + 1; at <= each.to; ++at)
      live[at] += plan.buffers[each.buffer].bytes;
    lastRead[each.buffer] = std::max(lastRead[each.buffer], place);
  }
  for (unsigned member : members)
    position[member] = place;
}

/// A set around the first of `candidates`, with all later ones that can stand
/// where it stands.
void Grouper::grow(ArrayRef<unsigned> candidates) {
  SmallVector<unsigned> members{candidates.front()};
  int group = groups.size();
  groupOf[members.front()] = group;
  Range range = rangeOf(members.front());
  double latest = position[members.front()];
  for (unsigned candidate : candidates.drop_front()) {
    if (members.size() == kMostParts)
      break;
    auto inGroup = [&](unsigned other) { return groupOf[other] == group; };
    if (groupOf[candidate] >= 0 || llvm::any_of(before[candidate], inGroup) ||
        llvm::any_of(after[candidate], inGroup))
      continue;
    Range own = rangeOf(candidate);
    Range both{std::max(range.low, own.low), std::min(range.high, own.high)};
    if (!(both.low < both.high))
      continue;
    // At the last one's place, or right in front of who needs one of them.
    double last = std::max(latest, position[candidate]);
    double place = last;
    if (!(place < both.high))
      place = std::max(std::ceil(both.high) - 1, std::floor(both.low) + 1);
    if (!(both.low < place && place < both.high))
      place = (both.low + both.high) / 2;
    members.push_back(candidate);
    if (!fits(members, place)) {
      members.pop_back();
      continue;
    }
    move(members, place);
    groupOf[candidate] = group;
    range = both;
    latest = place;
  }
  if (members.size() == 1) {
    groupOf[members.front()] = -1;
    return;
  }
  groups.push_back(std::move(members));
}

StepPlan::Launch Grouper::join(ArrayRef<unsigned> members) {
  const StepPlan::Launch &first = launches[members.front()];
  StepPlan::Launch group{StepPlan::LaunchKind::Group,
                         first.name + " and " +
                             std::to_string(members.size() - 1) + " more"};
  for (unsigned member : members) {
    const StepPlan::Launch &launch = launches[member];
    StepPlan::Part part{launch.name, launch.op};
    part.firstRead = group.accesses.size();
    part.numRead = reads(member).size();
    llvm::append_range(group.accesses, reads(member));
    group.parts.push_back(std::move(part));
  }
  group.numWritten = 0;
  for (auto [part, member] : llvm::zip(group.parts, members)) {
    part.firstWritten = group.accesses.size();
    part.numWritten = launches[member].numWritten;
    group.numWritten += part.numWritten;
    llvm::append_range(group.accesses, writes(member));
  }
  return group;
}

/// The launches in their new order.
void Grouper::build() {
  SmallVector<unsigned> order;
  for (unsigned index = 0; index < launches.size(); ++index)
    if (groupOf[index] < 0 || groups[groupOf[index]].front() == index)
      order.push_back(index);
  llvm::sort(order, [&](unsigned a, unsigned b) {
    return std::pair(position[a], a) < std::pair(position[b], b);
  });
  std::vector<StepPlan::Launch> result;
  for (unsigned index : order)
    result.push_back(groupOf[index] < 0 ? std::move(launches[index])
                                        : join(groups[groupOf[index]]));
  launches = std::move(result);
}

} // namespace

void mpt::groupLaunches(StepPlan &plan, const GroupingInput &input) {
  Grouper(plan, input).run();
}
