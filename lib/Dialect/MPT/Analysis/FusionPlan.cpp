//===- FusionPlan.cpp - which ops share a kernel --------------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// See FusionPlan.h. Units get levels: an edge between two units goes to a
// higher level, so merging ops into one unit of a level never makes a cycle.
//
//===----------------------------------------------------------------------===//

#include "mpt/Dialect/MPT/Analysis/FusionPlan.h"
#include "mpt/Dialect/MPT/IR/Signature.h"
#include "llvm/ADT/DenseSet.h"

using namespace mlir;
using namespace mpt;

bool mpt::isFreeLeaf(Operation *op) {
  if (isa<IotaOp>(op))
    return true;
  auto constant = dyn_cast<ConstantOp>(op);
  if (!constant)
    return false;
  auto splat = dyn_cast<SplatElementsAttr>(constant.getValue());
  // Integer scalars (dropout's ids) stay outside, else layers would not share.
  return splat && splat.getElementType().isF32();
}

static Domain domainOf(Type type) {
  auto tensor = cast<RankedTensorType>(type);
  int64_t columns = tensor.getRank() ? tensor.getShape().back() : 1;
  return {columns ? tensor.getNumElements() / columns : 0, columns};
}

std::optional<Domain> mpt::getDomain(Operation *op) {
  if (isFreeLeaf(op))
    return std::nullopt;
  if (isa<ReduceOp, ReduceChunksOp>(op)) {
    // Sums over axis 0 of [R', C] run over one row of columns.
    if (auto reduce = dyn_cast<ReduceOp>(op);
        reduce && reduce.getAxes()[0] + 1 != reduce.getX().getType().getRank())
      return domainOf(reduce.getType());
    return domainOf(op->getOperand(0).getType());
  }
  if (isa<ScalarBodyOpInterface, GatherOp>(op))
    return domainOf(op->getResult(0).getType());
  return std::nullopt;
}

//===----------------------------------------------------------------------===//
// Building
//===----------------------------------------------------------------------===//

namespace {

struct Cluster {
  Domain domain;
  int64_t level = 0;
  /// Whether some op outside reads one of its values: its level is then fixed.
  bool readOutside = false;
  SmallVector<Operation *> ops;
  Cluster *mergedInto = nullptr;
};

struct PlanBuilder {
  func::FuncOp step;
  std::vector<std::unique_ptr<Cluster>> clusters;
  DenseMap<Operation *, Cluster *> clusterOf;
  /// Level of ops that are units of their own.
  DenseMap<Operation *, int64_t> levelOf;
  DenseMap<Operation *, unsigned> position;

  explicit PlanBuilder(func::FuncOp step) : step(step) {}

  Cluster *find(Operation *op) {
    Cluster *cluster = clusterOf.lookup(op);
    while (cluster && cluster->mergedInto)
      cluster = cluster->mergedInto;
    return cluster;
  }
  int64_t levelBehind(Operation *producer);
  void visit(Operation *op);
  void visitKernelOp(Operation *op, Domain domain);
  SmallVector<Cluster *> joinable(Operation *op, Domain domain);
  Cluster *merge(Cluster *a, Cluster *b);
  FusionPlan finish();
};

/// The op that makes a value's content, and whether the way there keeps rows
/// and columns.
std::pair<Operation *, bool> producerOf(Value value) {
  bool keeps = true;
  while (auto view = value.getDefiningOp<ViewOpInterface>()) {
    Value source = view.getViewSource();
    keeps &= isa<ReshapeOp>(view.getOperation()) &&
             domainOf(source.getType()) == domainOf(value.getType());
    value = source;
  }
  return {value.getDefiningOp(), keeps};
}

/// Whether an op of `domain` can be part of a kernel over `kernel`: the same
/// rows, and its columns or one value per row.
bool fits(Domain domain, Domain kernel) {
  return domain.rows == kernel.rows &&
         (domain.columns == kernel.columns || domain.columns == 1);
}

/// The least level of a unit that reads `producer` from outside.
int64_t PlanBuilder::levelBehind(Operation *producer) {
  if (Cluster *cluster = find(producer))
    return cluster->level + 1;
  return levelOf.lookup(producer) + 1;
}

/// Clusters that `op` could join, each reached through an operand whose rows
/// and columns are the kernel's.
SmallVector<Cluster *> PlanBuilder::joinable(Operation *op, Domain domain) {
  SmallVector<Cluster *> result;
  bool readsMemory = isa<GatherOp>(op);
  if (auto reduce = dyn_cast<ReduceOp>(op))
    readsMemory |= reduce.getAxes()[0] + 1 != reduce.getX().getType().getRank();
  if (readsMemory)
    return result;
  for (Value operand : op->getOperands()) {
    auto [producer, keeps] = producerOf(operand);
    Cluster *cluster = producer ? find(producer) : nullptr;
    if (!cluster || !keeps || llvm::is_contained(result, cluster))
      continue;
    bool chunked = isa<ReduceChunksOp>(producer);
    Domain operandDomain = domainOf(operand.getType());
    bool aligned =
        operandDomain == domain ||
        (operandDomain.rows == domain.rows && operandDomain.columns == 1);
    // Scalars are combined apart: kernels over rows stay alike in all layers.
    Domain scalar;
    bool likeWithLike = (domain == scalar) == (cluster->domain == scalar);
    if (!chunked && aligned && likeWithLike &&
        (fits(domain, cluster->domain) || fits(cluster->domain, domain)))
      result.push_back(cluster);
  }
  return result;
}

Cluster *PlanBuilder::merge(Cluster *a, Cluster *b) {
  if (a == b)
    return a;
  if (a->ops.size() < b->ops.size())
    std::swap(a, b);
  a->ops.append(b->ops.begin(), b->ops.end());
  a->domain.columns = std::max(a->domain.columns, b->domain.columns);
  a->level = std::max(a->level, b->level);
  a->readOutside |= b->readOutside;
  b->mergedInto = a;
  b->ops.clear();
  return a;
}

void PlanBuilder::visitKernelOp(Operation *op, Domain domain) {
  SmallVector<Cluster *> candidates = joinable(op, domain);
  // The level that the operands from outside each choice of clusters ask for.
  auto outsideLevel = [&](ArrayRef<Cluster *> inside) {
    int64_t level = 0;
    for (Value operand : op->getOperands()) {
      Operation *producer = producerOf(operand).first;
      if (!producer || isFreeLeaf(producer))
        continue;
      Cluster *cluster = find(producer);
      if (!cluster || !llvm::is_contained(inside, cluster))
        level = std::max(level, levelBehind(producer));
    }
    return level;
  };
  // Join the highest clusters first; a lower one comes along if nothing outside
  // has read it yet (its level may still rise).
  llvm::sort(candidates, [&](Cluster *a, Cluster *b) {
    return std::pair(-a->level, position[a->ops.front()]) <
           std::pair(-b->level, position[b->ops.front()]);
  });
  SmallVector<Cluster *> chosen;
  for (Cluster *cluster : candidates) {
    SmallVector<Cluster *> next(chosen);
    next.push_back(cluster);
    int64_t level = next.front()->level;
    bool sameDomain = llvm::all_of(chosen, [&](Cluster *c) {
      return fits(c->domain, cluster->domain) ||
             fits(cluster->domain, c->domain);
    });
    if (sameDomain && (cluster->level == level || !cluster->readOutside))
      chosen = next;
  }
  while (!chosen.empty()) {
    int64_t level = std::max(outsideLevel(chosen), chosen.front()->level);
    auto stuck = llvm::find_if(
        chosen, [&](Cluster *c) { return c->level < level && c->readOutside; });
    if (stuck == chosen.end()) {
      Cluster *cluster = chosen.front();
      for (Cluster *other : ArrayRef(chosen).drop_front())
        cluster = merge(cluster, other);
      cluster->level = level;
      cluster->domain.columns =
          std::max(cluster->domain.columns, domain.columns);
      cluster->ops.push_back(op);
      clusterOf[op] = cluster;
      return;
    }
    chosen.erase(stuck);
  }
  clusters.push_back(std::make_unique<Cluster>());
  Cluster *cluster = clusters.back().get();
  cluster->domain = domain;
  cluster->level = outsideLevel({});
  cluster->ops.push_back(op);
  clusterOf[op] = cluster;
}

void PlanBuilder::visit(Operation *op) {
  position[op] = position.size();
  if (isFreeLeaf(op) || isa<ViewOpInterface>(op))
    return;
  if (auto domain = getDomain(op)) {
    visitKernelOp(op, *domain);
  } else {
    int64_t level = 0;
    for (Value operand : op->getOperands())
      if (Operation *producer = producerOf(operand).first;
          producer && !isFreeLeaf(producer))
        level = std::max(level, levelBehind(producer));
    levelOf[op] = level;
  }
  Cluster *own = find(op);
  for (Value operand : op->getOperands())
    if (Operation *producer = producerOf(operand).first)
      if (Cluster *cluster = find(producer); cluster && cluster != own)
        cluster->readOutside = true;
}

/// Units in an order close to the program's: a unit when its last op comes,
/// what it needs before it.
FusionPlan PlanBuilder::finish() {
  FusionPlan plan;
  DenseSet<void *> emitted;
  std::function<void(Operation *)> emit = [&](Operation *op) {
    Cluster *cluster = find(op);
    void *key = cluster ? static_cast<void *>(cluster) : op;
    if (!emitted.insert(key).second)
      return;
    FusionPlan::Unit unit;
    unit.isKernel = cluster != nullptr;
    if (cluster) {
      unit.ops = cluster->ops;
      llvm::sort(unit.ops, [&](Operation *a, Operation *b) {
        return position[a] < position[b];
      });
    } else {
      unit.ops = {op};
    }
    for (Operation *member : unit.ops)
      for (Value operand : member->getOperands())
        if (Operation *producer = producerOf(operand).first;
            producer && !isFreeLeaf(producer) &&
            !(cluster && find(producer) == cluster))
          emit(producer);
    plan.units.push_back(std::move(unit));
  };
  for (Operation &op : step.getBody().front().without_terminator()) {
    if (isFreeLeaf(&op) || isa<ViewOpInterface>(op))
      continue;
    Cluster *cluster = find(&op);
    bool last = !cluster || llvm::all_of(cluster->ops, [&](Operation *other) {
      return position[other] <= position[&op];
    });
    if (last)
      emit(&op);
  }
  return plan;
}

} // namespace

FailureOr<FusionPlan> FusionPlan::build(func::FuncOp step) {
  for (Operation &op : step.getBody().front())
    if (isa<DecomposableOpInterface>(op))
      return op.emitOpError(
          "is a composite op: run --mpt-decompose before fusion");
  PlanBuilder builder(step);
  for (Operation &op : step.getBody().front().without_terminator())
    builder.visit(&op);
  return builder.finish();
}

LogicalResult FusionPlan::verify() const {
  DenseMap<Operation *, size_t> unitOf;
  for (auto [index, unit] : llvm::enumerate(units))
    for (Operation *op : unit.ops)
      if (!unitOf.try_emplace(op, index).second)
        return op->emitOpError("is in two units of the fusion plan");
  for (auto [index, unit] : llvm::enumerate(units))
    for (Operation *op : unit.ops)
      for (Value operand : op->getOperands()) {
        Operation *producer = producerOf(operand).first;
        if (!producer || isFreeLeaf(producer))
          continue;
        auto it = unitOf.find(producer);
        if (it == unitOf.end() || it->second > index)
          return op->emitOpError(
              "comes before what it reads in the fusion plan");
      }
  return success();
}

//===----------------------------------------------------------------------===//
// Preparation
//===----------------------------------------------------------------------===//

/// Whether an update reads the value as its gradient, directly or as a view.
static bool isGradient(Value value) {
  return llvm::any_of(value.getUsers(), [&](Operation *user) {
    if (auto update = dyn_cast<AdamWOp>(user))
      return update.getGrad() == value;
    return isa<ViewOpInterface>(user) && isGradient(user->getResult(0));
  });
}

/// Whether an op can be computed again from what is in memory anyway, without
/// reading more than its result. Gradients stay in memory, where the manifest
/// says they are.
static bool isRematerialisable(Operation &op) {
  auto body = dyn_cast<ScalarBodyOpInterface>(op);
  if (!body || !body.isCheap() || op.getNumResults() != 1 || isFreeLeaf(&op) ||
      isGradient(op.getResult(0)))
    return false;
  int64_t size =
      cast<RankedTensorType>(op.getResult(0).getType()).getNumElements();
  unsigned large = 0;
  for (Value operand : op.getOperands()) {
    Operation *producer = producerOf(operand).first;
    if (producer && getDomain(producer))
      return false;
    large += cast<RankedTensorType>(operand.getType()).getNumElements() == size;
  }
  return large <= 1;
}

/// Gives every use of `op` by a kernel op, directly or through one reshape, a
/// copy of its own; the first keeps the original.
static void copyToUses(Operation &op) {
  SmallVector<std::pair<OpOperand *, ReshapeOp>> uses;
  for (OpOperand &use : op.getResult(0).getUses()) {
    if (auto reshape = dyn_cast<ReshapeOp>(use.getOwner())) {
      for (OpOperand &viewUse : reshape.getY().getUses())
        if (getDomain(viewUse.getOwner()))
          uses.push_back({&viewUse, reshape});
    } else if (getDomain(use.getOwner())) {
      uses.push_back({&use, nullptr});
    }
  }
  for (auto [use, reshape] : ArrayRef(uses).drop_front(uses.empty() ? 0 : 1)) {
    OpBuilder builder(use->getOwner());
    Value copy = builder.clone(op)->getResult(0);
    if (reshape) {
      Operation *view = builder.clone(*reshape);
      view->setOperand(0, copy);
      copy = view->getResult(0);
    }
    use->set(copy);
  }
}

LogicalResult mpt::rematerialiseCheapOps(func::FuncOp step) {
  Block &block = step.getBody().front();
  for (Operation &op : llvm::make_early_inc_range(block.without_terminator()))
    if (isRematerialisable(op))
      copyToUses(op);
  // The block's own reverse iterators, which erasing the current op leaves
  // valid.
  for (Operation &op : llvm::make_early_inc_range(llvm::reverse(block)))
    if (!op.hasTrait<OpTrait::IsTerminator>() && op.use_empty() && isPure(&op))
      op.erase();
  return success();
}

/// A kernel of its own that lays a view out in row-major memory.
static Value makeCopy(Value value, Operation *before) {
  OpBuilder builder(before);
  auto copy = CopyOp::create(builder, before->getLoc(), value.getType(), value);
  setStableName(copy, (getStableName(before) + "/copy").str());
  return copy;
}

/// `value` with copies inside its chain of views wherever the next view is no
/// strided layout of what is in memory.
static FailureOr<Value> ensureStrided(Value value, Operation *before) {
  if (getStorageView(value))
    return value;
  auto view = cast<ViewOpInterface>(value.getDefiningOp());
  FailureOr<Value> source = ensureStrided(view.getViewSource(), before);
  if (failed(source))
    return failure();
  OpBuilder builder(before);
  Operation *rebuilt = builder.clone(*view);
  rebuilt->setOperand(0, *source);
  if (getStorageView(rebuilt->getResult(0)))
    return rebuilt->getResult(0);
  rebuilt->setOperand(0, makeCopy(*source, rebuilt));
  return rebuilt->getResult(0);
}

/// Gives a product operands that a BLAS call takes.
static LogicalResult prepareProduct(ProductOpInterface product) {
  unsigned problem = 0;
  for (int tries = 0; tries < 2 && !getProductViews(product, problem); ++tries)
    product->setOperand(problem,
                        makeCopy(product->getOperand(problem), product));
  if (!getProductViews(product, problem))
    return product->emitOpError()
           << "named '" << getStableName(product)
           << "' has no strided form: operand " << problem;
  return success();
}

LogicalResult mpt::copyAwkwardViews(func::FuncOp step) {
  for (Operation &op :
       llvm::make_early_inc_range(step.getBody().front().getOperations())) {
    if (isa<ViewOpInterface>(op))
      continue;
    for (OpOperand &operand : op.getOpOperands()) {
      FailureOr<Value> strided = ensureStrided(operand.get(), &op);
      if (failed(strided))
        return failure();
      auto view = getStorageView(*strided);
      // Kernels and products read any strides, attention those that it was
      // formed with, the rest plain buffers.
      bool plain = view->layout.isContiguous() && view->layout.offset == 0;
      if (!plain && !getDomain(&op) &&
          !isa<ProductOpInterface, AttentionOp, AttentionGradOp>(op))
        strided = makeCopy(*strided, &op);
      operand.set(*strided);
    }
    if (auto product = dyn_cast<ProductOpInterface>(op))
      if (failed(prepareProduct(product)))
        return failure();
  }
  return success();
}
