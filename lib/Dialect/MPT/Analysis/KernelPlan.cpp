//===- KernelPlan.cpp - phases and tasks of a kernel ----------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Where the loops of a kernel are, what they keep for each other, how the
// domain is split into tasks, and the model in text form.
//
//===----------------------------------------------------------------------===//

#include "KernelPlan.h"
#include "mpt/Dialect/MPT/Analysis/KernelModel.h"
#include "llvm/ADT/DenseMap.h"
#include "llvm/Support/raw_ostream.h"

using namespace mlir;
using namespace mpt;

namespace {
/// A value is worth a row buffer if computing it anew takes this many
/// instructions: a store and a load that hit the cache, with margin.
constexpr int64_t kKeepCost = 8;
/// Longest row that is kept, and all of a kernel's row buffers, in bytes.
constexpr int64_t kMaxKeptColumns = 16384;
constexpr int64_t kMaxKeptBytes = 256 * 1024;
/// Work of one task in instructions (16 elements at a time): ten to twenty
/// microseconds.
constexpr int64_t kTaskWork = 2048 * 1024;

class PhasePlanner {
public:
  explicit PhasePlanner(KernelModel &model)
      : model(model), firstPhase(model.nodes.size(), -1) {}

  void run() {
    unsigned count = 0;
    for (const KernelNode &node : model.nodes)
      if (node.kind == NodeKind::RowReduce)
        count = std::max(count, node.phase);
    for (const KernelResult &result : model.results)
      if (!isPerRow(result.kind))
        count = std::max(count, model.nodes[result.value.node].phase + 1);
    model.phases.resize(count);
    for (auto [id, node] : llvm::enumerate(model.nodes))
      if (node.kind == NodeKind::RowReduce)
        model.phases[node.phase - 1].reductions.push_back(id);
    for (unsigned phase = 0; phase < count; ++phase) {
      current.assign(model.nodes.size(), false);
      for (unsigned id : model.phases[phase].reductions)
        visit(model.nodes[id].operands[0], phase);
      if (phase + 1 == count)
        for (const KernelResult &result : model.results)
          if (!isPerRow(result.kind))
            visit(result.value, phase);
    }
  }

private:
  void visit(NodeUse use, unsigned phase) {
    const KernelNode &node = model.nodes[use.node];
    if (node.perRow || current[use.node])
      return;
    current[use.node] = true;
    if (firstPhase[use.node] >= 0 && keep(use)) {
      model.phases[phase].reused.push_back(use);
      return;
    }
    if (firstPhase[use.node] < 0)
      firstPhase[use.node] = phase;
    for (NodeUse operand : node.operands)
      visit(operand, phase);
  }

  /// Has the phase that computes the value first keep it, if that pays.
  bool keep(NodeUse use) {
    const KernelNode &node = model.nodes[use.node];
    auto &kept = model.phases[firstPhase[use.node]].kept;
    if (llvm::any_of(kept, [&](NodeUse k) { return k.node == use.node; }))
      return true;
    int64_t bytes = llvm::alignTo(model.columns, KernelModel::kLanes) * 4;
    if (node.cost < kKeepCost || !node.op || node.op->getNumResults() != 1 ||
        !model.getElementType(use).isF32() || model.columns > kMaxKeptColumns ||
        keptBytes + bytes > kMaxKeptBytes)
      return false;
    keptBytes += bytes;
    kept.push_back(use);
    return true;
  }

  KernelModel &model;
  SmallVector<int> firstPhase;
  SmallVector<bool> current;
  int64_t keptBytes = 0;
};
} // namespace

void mpt::planPhases(KernelModel &model) { PhasePlanner(model).run(); }

void mpt::planTasks(KernelModel &model) {
  int64_t cost = 1;
  for (const KernelNode &node : model.nodes)
    if (!node.perRow)
      cost = std::max(cost, node.cost);
  cost += model.results.size() + model.phases.size();
  int64_t elements = std::clamp<int64_t>(kTaskWork / cost, 1024, 65536);
  model.rowsPerTask = 1;
  model.columnsPerTask = model.columns;
  if (model.hasChunks()) {
    model.rowsPerTask = KernelModel::kChunkRows;
  } else if (model.rows > 1) {
    int64_t tasks = llvm::divideCeil(model.rows * model.columns, elements);
    model.rowsPerTask =
        llvm::divideCeil(model.rows, std::min(tasks, model.rows));
  } else {
    bool reduces = llvm::any_of(model.nodes, [](const KernelNode &node) {
      return node.kind == NodeKind::RowReduce;
    });
    bool allFull = llvm::all_of(model.results, [](const KernelResult &result) {
      return result.kind == ResultKind::Full;
    });
    if (!reduces && allFull) {
      int64_t tasks = llvm::divideCeil(model.columns, elements);
      int64_t columns = llvm::divideCeil(model.columns, tasks);
      model.columnsPerTask = llvm::alignTo(columns, KernelModel::kLanes);
      model.tasks = llvm::divideCeil(model.columns, model.columnsPerTask);
      return;
    }
  }
  model.tasks = llvm::divideCeil(model.rows, model.rowsPerTask);
}

//===----------------------------------------------------------------------===//
// Text form
//===----------------------------------------------------------------------===//

static void printAccess(llvm::raw_ostream &os, const AccessMap &access) {
  os << '[' << access.offset;
  for (const IndexTerm &term : access.rowTerms)
    os << " + r/" << term.div << '%' << term.mod << '*' << term.stride;
  if (access.columnStride)
    os << " + c*" << access.columnStride;
  for (const IndexTerm &term : access.columnTerms)
    os << " + c/" << term.div << '%' << term.mod << '*' << term.stride;
  os << ']';
}

static void printNode(llvm::raw_ostream &os, const KernelNode &node) {
  switch (node.kind) {
  case NodeKind::Argument:
    os << "argument " << node.argument << ' ';
    printAccess(os, node.access);
    break;
  case NodeKind::LeadingReduce:
    os << node.op->getName() << " argument " << node.argument << ' ';
    printAccess(os, node.access);
    os << " + " << node.length << " x " << node.stride;
    break;
  case NodeKind::Gather:
    os << node.op->getName() << " argument " << node.argument << ' ';
    printAccess(os, node.access);
    os << " + " << node.stride << " *";
    break;
  case NodeKind::Constant:
  case NodeKind::Scalar:
  case NodeKind::RowReduce:
    os << node.op->getName();
    break;
  }
  for (NodeUse use : node.operands) {
    os << " #" << use.node;
    if (use.result)
      os << ':' << use.result;
  }
  os << (node.perRow ? " per row" : "") << " phase " << node.phase;
}

static void printUses(llvm::raw_ostream &os, StringRef what,
                      ArrayRef<NodeUse> uses) {
  if (uses.empty())
    return;
  os << ' ' << what;
  for (NodeUse use : uses)
    os << " #" << use.node;
}

void KernelModel::print(llvm::raw_ostream &os) const {
  os << rows << " x " << columns << " in " << tasks << " tasks of "
     << rowsPerTask << " x " << columnsPerTask << '\n';
  for (auto [id, node] : llvm::enumerate(nodes)) {
    os << '#' << id << " = ";
    printNode(os, node);
    os << '\n';
  }
  for (auto [i, phase] : llvm::enumerate(phases)) {
    os << "phase " << i << ':';
    SmallVector<NodeUse> reductions;
    for (unsigned id : phase.reductions)
      reductions.push_back({id, 0});
    printUses(os, "reduces", reductions);
    printUses(os, "keeps", phase.kept);
    printUses(os, "reuses", phase.reused);
    if (i + 1 == phases.size())
      os << " stores";
    os << '\n';
  }
  func::FuncOp kernel = function;
  for (auto [i, result] : llvm::enumerate(results)) {
    static constexpr StringLiteral kinds[] = {"full", "per row", "chunk",
                                              "chunk per row", "transposed"};
    os << "result " << i << ": " << kinds[static_cast<int>(result.kind)] << " #"
       << result.value.node << ':' << result.value.result;
    if (result.kind == ResultKind::Transposed) {
      os << " at ";
      printAccess(os, result.access);
    }
    for (unsigned a = 0; a < kernel.getNumArguments(); ++a)
      if (canAlias(i, a))
        os << ", may be argument " << a;
    os << '\n';
  }
}
