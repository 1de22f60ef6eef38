//===- KernelModel.cpp - what a fused kernel computes, ready to emit ------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Builds the model from its results backwards: a node is an op together with
// the map from the kernel's domain to the op's index, so a view becomes a
// change of the map and a value that is needed at two maps becomes two nodes.
//
//===----------------------------------------------------------------------===//

#include "mpt/Dialect/MPT/Analysis/KernelModel.h"
#include "KernelPlan.h"
#include "llvm/Support/raw_ostream.h"
#include <map>

using namespace mlir;
using namespace mpt;

namespace {

/// Looks at a scalar body without emitting it: its cost, and whether it asks
/// where in the iteration space it is.
class BodyProbe : public ScalarEmitter {
public:
  int64_t cost = 0;
  bool usesIndex = false;

  Scalar constant(float) override { return add(0); }
  Scalar constantInt(int64_t) override { return add(0); }
  Scalar unary(UnaryFn fn, Scalar) override {
    switch (fn) {
    case UnaryFn::Neg:
    case UnaryFn::Abs:
      return add(1);
    case UnaryFn::Sqrt:
      return add(8);
    case UnaryFn::Exp:
      return add(14);
    case UnaryFn::Log:
      return add(24);
    case UnaryFn::Tanh:
    case UnaryFn::Erf:
    case UnaryFn::Gelu:
    case UnaryFn::GeluGrad:
      return add(40);
    }
    llvm_unreachable("all functions are listed");
  }
  Scalar binary(BinaryFn fn, Scalar, Scalar) override {
    return add(fn == BinaryFn::Div ? 8 : 1);
  }
  Scalar fma(Scalar, Scalar, Scalar) override { return add(1); }
  Scalar compare(Predicate, Scalar, Scalar) override { return add(1); }
  Scalar logicalAnd(Scalar, Scalar) override { return add(1); }
  Scalar logicalOr(Scalar, Scalar) override { return add(1); }
  Scalar logicalNot(Scalar) override { return add(1); }
  Scalar select(Scalar, Scalar, Scalar) override { return add(1); }
  Scalar convert(Scalar, Type) override { return add(1); }
  Scalar columnIndex() override {
    usesIndex = true;
    return add(1);
  }
  Scalar dropoutKeep(Scalar, Scalar, Scalar, float) override {
    usesIndex = true;
    return add(40);
  }
  Scalar encode(Scalar, Type) override { return add(12); }
  Scalar encodeStochastic(Scalar, Type, Scalar, Scalar, Scalar) override {
    usesIndex = true;
    return add(52);
  }
  Scalar decode(Scalar) override { return add(8); }
  Scalar scaleOf(Scalar, Type, int64_t) override { return add(12); }
  Scalar scaleOr(Scalar, Type, int64_t, Scalar) override { return add(18); }

private:
  Scalar add(int64_t instructions) {
    cost += instructions;
    return Scalar{0};
  }
};

/// Maps of a node before the columns of the domain are known.
struct PendingMaps {
  std::optional<IndexMap> access, index, lastIndex;
  /// The table row of a gather: must not depend on the column.
  std::optional<IndexMap> rowOnly;
  int64_t bodyCost = 0;
};

/// The map from a copy's result to what it is a copy of, and back.
struct Rearrangement {
  Value source;
  IndexMap toSource, toCopy;
};

std::optional<Rearrangement> getRearrangement(CopyOp copy) {
  int64_t size = copy.getY().getType().getNumElements();
  IndexMap map = IndexMap::identity(size);
  Value value = copy.getX();
  while (auto view = value.getDefiningOp<ViewOpInterface>()) {
    std::optional<IndexMap> source = map.throughView(view);
    if (!source)
      return std::nullopt;
    map = *source;
    value = view.getViewSource();
  }
  auto type = cast<RankedTensorType>(value.getType());
  std::optional<IndexMap> back = map.inverse(size);
  if (!back || type.getNumElements() != size)
    return std::nullopt;
  return Rearrangement{value, map, *back};
}

/// The axes of a reduction that are not of size 1, as what they are.
enum class Axes { None, Last, Leading, Mixed };

Axes classifyAxes(ReduceOp op) {
  ArrayRef<int64_t> shape = op.getX().getType().getShape();
  bool last = false, leading = false, allLeading = true;
  for (int64_t d = 0, rank = shape.size(); d < rank; ++d) {
    bool reduced = llvm::is_contained(op.getAxes(), d);
    if (d == rank - 1)
      last = reduced && shape[d] != 1;
    else if (shape[d] != 1)
      (reduced ? leading : allLeading) = reduced;
  }
  if (last)
    return leading ? Axes::Mixed : Axes::Last;
  if (leading)
    return allLeading ? Axes::Leading : Axes::Mixed;
  return Axes::None;
}

/// What a returned value is computed from, through reshapes.
Value peelReshapes(Value value) {
  while (auto reshape = value.getDefiningOp<ReshapeOp>())
    value = reshape.getX();
  return value;
}

int64_t numElements(Value value) {
  return cast<RankedTensorType>(value.getType()).getNumElements();
}
ArrayRef<int64_t> shapeOf(Value value) {
  return cast<RankedTensorType>(value.getType()).getShape();
}

class ModelBuilder {
public:
  ModelBuilder(KernelModel &model, int64_t columns)
      : model(model), kernel(model.function), wantedColumns(columns) {}

  LogicalResult run() {
    if (failed(checkBody()) || failed(findDomain()) || failed(addResults()) ||
        failed(chooseColumns()) || failed(finishNodes()))
      return failure();
    planPhases(model);
    planTasks(model);
    return success();
  }

private:
  LogicalResult checkBody();
  LogicalResult findDomain();
  LogicalResult addResults();
  LogicalResult addResult(Value value, unsigned index);
  LogicalResult chooseColumns();
  enum class Fit { None, Segments, Strides };
  Fit fit(int64_t columns) const;
  LogicalResult finishNodes();
  LogicalResult finishNode(unsigned id);

  FailureOr<NodeUse> use(Value value, const IndexMap &map);
  FailureOr<unsigned> addNode(Operation *op, const IndexMap &map);
  LogicalResult fillReduce(ReduceOp op, const IndexMap &map, KernelNode &node,
                           PendingMaps &maps);
  LogicalResult fillGather(GatherOp op, const IndexMap &map, KernelNode &node,
                           PendingMaps &maps);
  LogicalResult fillScalar(ScalarBodyOpInterface op, const IndexMap &map,
                           KernelNode &node, PendingMaps &maps);
  unsigned append(KernelNode node, PendingMaps maps) {
    model.nodes.push_back(std::move(node));
    pending.push_back(std::move(maps));
    return model.nodes.size() - 1;
  }
  InFlightDiagnostic fail(Operation *op) {
    return op->emitOpError() << "in kernel '" << kernel.getName() << "' ";
  }

  KernelModel &model;
  func::FuncOp kernel;
  func::ReturnOp terminator;
  int64_t size = 1;         ///< points of the domain
  int64_t wantedColumns;    ///< unless something settles them
  int64_t fixedColumns = 0; ///< as reductions demand, or 0
  SmallVector<PendingMaps, 16> pending;
  /// Where transposed results go, before the columns are known.
  SmallVector<std::pair<unsigned, IndexMap>, 2> pendingResults;
  std::map<std::pair<void *, std::vector<int64_t>>, unsigned> known;
};

LogicalResult ModelBuilder::checkBody() {
  if (kernel.isExternal() || !llvm::hasSingleElement(kernel.getBody()))
    return kernel.emitOpError("is a kernel and needs a body of one block");
  terminator =
      dyn_cast<func::ReturnOp>(kernel.getBody().front().getTerminator());
  if (!terminator || terminator.getNumOperands() == 0)
    return kernel.emitOpError("is a kernel and must return a tensor");
  for (BlockArgument argument : kernel.getArguments()) {
    auto type = dyn_cast<RankedTensorType>(argument.getType());
    if (!type || !type.hasStaticShape())
      return kernel.emitOpError()
             << "argument " << argument.getArgNumber()
             << " must be a statically shaped tensor, found "
             << argument.getType();
    Type element = type.getElementType();
    if (!element.isF32() && !element.isBF16() &&
        !isa<Float8E4M3FNType, Float8E5M2Type>(element) &&
        !element.isSignlessInteger(1) && !element.isSignlessInteger(8) &&
        !element.isSignlessInteger(32) && !element.isSignlessInteger(64))
      return kernel.emitOpError()
             << "argument " << argument.getArgNumber()
             << " has elements that no kernel can hold: " << element;
  }
  return success();
}

/// Points of the domain, and its columns where reductions or smaller results
/// settle them.
LogicalResult ModelBuilder::findDomain() {
  int64_t chunkRows = 0, leastResult = 0, transposedColumns = 0;
  WalkResult walk = kernel.walk([&](Operation *op) {
    if (auto chunks = dyn_cast<ReduceChunksOp>(op)) {
      int64_t rows = shapeOf(chunks.getX())[0];
      if (llvm::any_of(chunks->getUsers(), [](Operation *user) {
            return !isa<func::ReturnOp, ReshapeOp>(user);
          })) {
        fail(op) << "can only be returned";
        return WalkResult::interrupt();
      }
      if (chunkRows && chunkRows != rows) {
        fail(op) << "sums chunks of " << rows << " rows, but another op of "
                 << chunkRows;
        return WalkResult::interrupt();
      }
      chunkRows = rows;
      size = std::max(size, numElements(chunks.getX()));
      return WalkResult::advance();
    }
    auto reduce = dyn_cast<ReduceOp>(op);
    if (!reduce || classifyAxes(reduce) != Axes::Last)
      return WalkResult::advance();
    int64_t columns = shapeOf(reduce.getX()).back();
    if (fixedColumns && fixedColumns != columns) {
      fail(op) << "reduces rows of " << columns
               << " elements, but another op of " << fixedColumns;
      return WalkResult::interrupt();
    }
    fixedColumns = columns;
    size = std::max(size, numElements(reduce.getX()));
    return WalkResult::advance();
  });
  if (walk.wasInterrupted())
    return failure();
  for (Value value : terminator.getOperands()) {
    if (peelReshapes(value).getDefiningOp<ReduceChunksOp>())
      continue;
    auto copy = peelReshapes(value).getDefiningOp<CopyOp>();
    if (Value source = copy ? getTransposedSource(copy) : Value())
      transposedColumns = shapeOf(source).back();
    size = std::max(size, numElements(value));
    if (leastResult == 0 || numElements(value) < leastResult)
      leastResult = numElements(value);
  }
  if (size == 0)
    return kernel.emitOpError("is a kernel on tensors without elements");
  int64_t rows = fixedColumns                        ? size / fixedColumns
                 : chunkRows                         ? chunkRows
                 : leastResult && leastResult < size ? leastResult
                 : transposedColumns                 ? size / transposedColumns
                                                     : 0;
  if (rows != 0) {
    if (size % rows != 0 || (fixedColumns && size != rows * fixedColumns) ||
        (chunkRows && chunkRows != rows))
      return kernel.emitOpError()
             << "is a kernel of " << size << " points that do not split into "
             << (chunkRows ? chunkRows : rows) << " rows"
             << (fixedColumns ? " of its reductions' columns" : "");
    fixedColumns = size / rows;
  } else if (wantedColumns && size % wantedColumns == 0) {
    fixedColumns = wantedColumns;
  }
  return success();
}

LogicalResult ModelBuilder::addResults() {
  for (auto [i, value] : llvm::enumerate(terminator.getOperands()))
    if (failed(addResult(value, i)))
      return failure();
  return success();
}

LogicalResult ModelBuilder::addResult(Value value, unsigned index) {
  int64_t columns = fixedColumns, rows = columns ? size / columns : 1;
  KernelResult result;
  IndexMap full = IndexMap::identity(size);
  IndexMap perRow = IndexMap::rowOf(rows, columns ? columns : size);
  Value demanded = value;
  auto copy = peelReshapes(value).getDefiningOp<CopyOp>();
  if (copy && numElements(value) == size && getTransposedSource(copy)) {
    auto rearrangement = *getRearrangement(copy);
    demanded = rearrangement.source;
    result.kind = ResultKind::Transposed;
    pendingResults.push_back({index, rearrangement.toCopy});
  } else if (auto chunks =
                 peelReshapes(value).getDefiningOp<ReduceChunksOp>()) {
    demanded = chunks.getX();
    int64_t width = shapeOf(demanded)[1];
    if (width != columns && width != 1)
      return fail(chunks) << "sums rows of " << width
                          << " elements in a domain of " << rows << " x "
                          << columns;
    result.kind = width == columns && columns != 1 ? ResultKind::Chunk
                                                   : ResultKind::ChunkPerRow;
  } else if (numElements(value) == size && (columns != 1)) {
    result.kind = ResultKind::Full;
  } else if (columns && numElements(value) == rows) {
    result.kind = ResultKind::PerRow;
  } else {
    return kernel.emitOpError()
           << "result " << index << " has " << numElements(value)
           << " elements, expected " << size << " or one for each of " << rows
           << " rows";
  }
  auto node = use(demanded, isPerRow(result.kind) ? perRow : full);
  if (failed(node))
    return failure();
  result.value = *node;
  model.results.push_back(result);
  return success();
}

/// The node of `value` at `map`, which takes the domain to the value's index.
FailureOr<NodeUse> ModelBuilder::use(Value value, const IndexMap &map) {
  Operation *op = value.getDefiningOp();
  if (auto view = dyn_cast_or_null<ViewOpInterface>(op)) {
    std::optional<IndexMap> source = map.throughView(view);
    if (!source)
      return fail(op) << "cannot be expressed by index arithmetic";
    return use(view.getViewSource(), *source);
  }
  std::vector<int64_t> key;
  if (!isa_and_nonnull<ConstantOp>(op)) {
    key.push_back(map.getOffset());
    for (const IndexTerm &t : map.getTerms())
      key.insert(key.end(), {t.div, t.mod, t.stride});
  }
  void *identity = op ? static_cast<void *>(op) : value.getAsOpaquePointer();
  unsigned result = op ? cast<OpResult>(value).getResultNumber() : 0;
  auto [entry, isNew] = known.try_emplace({identity, key}, 0);
  if (!isNew)
    return NodeUse{entry->second, result};
  if (!op) {
    KernelNode node{NodeKind::Argument};
    node.argument = cast<BlockArgument>(value).getArgNumber();
    PendingMaps maps;
    maps.access = map;
    entry->second = append(std::move(node), std::move(maps));
    return NodeUse{entry->second, 0};
  }
  auto id = addNode(op, map);
  if (failed(id))
    return failure();
  entry->second = *id;
  return NodeUse{*id, result};
}

FailureOr<unsigned> ModelBuilder::addNode(Operation *op, const IndexMap &map) {
  KernelNode node{NodeKind::Scalar};
  PendingMaps maps;
  node.op = op;
  if (auto constant = dyn_cast<ConstantOp>(op)) {
    if (!isa<SplatElementsAttr>(constant.getValue()))
      return fail(op) << "must be a splat; other constants are arguments";
    node.kind = NodeKind::Constant;
  } else if (auto reduce = dyn_cast<ReduceOp>(op)) {
    if (failed(fillReduce(reduce, map, node, maps)))
      return failure();
  } else if (auto gather = dyn_cast<GatherOp>(op)) {
    if (failed(fillGather(gather, map, node, maps)))
      return failure();
  } else if (auto scalar = dyn_cast<ScalarBodyOpInterface>(op)) {
    if (failed(fillScalar(scalar, map, node, maps)))
      return failure();
  } else if (isa<ReduceChunksOp>(op)) {
    return fail(op) << "can only be returned";
  } else {
    return fail(op) << "has no scalar body and is no reduction, gather or view";
  }
  return append(std::move(node), std::move(maps));
}

LogicalResult ModelBuilder::fillReduce(ReduceOp op, const IndexMap &map,
                                       KernelNode &node, PendingMaps &maps) {
  Value x = op.getX();
  Axes axes = classifyAxes(op);
  if (axes == Axes::Mixed)
    return fail(op) << "must reduce either the last axis or all others, found ["
                    << op.getAxes() << "] of " << x.getType();
  int64_t width = shapeOf(x).empty() ? 1 : shapeOf(x).back();
  if (axes == Axes::Last) {
    node.kind = NodeKind::RowReduce;
    auto row = map.alongRow(width);
    if (!row)
      return fail(op) << "is needed at a row that depends on the column";
    auto operand = use(x, *row);
    if (failed(operand))
      return failure();
    node.operands.push_back(*operand);
    return success();
  }
  auto source = dyn_cast<BlockArgument>(peelReshapes(x));
  if (!source)
    return fail(op) << "reduces rows of a computed value; only an argument of "
                       "the kernel can be reduced over its leading axes";
  node.kind = NodeKind::LeadingReduce;
  node.argument = source.getArgNumber();
  node.length = axes == Axes::None ? 1 : numElements(x) / width;
  node.stride = width;
  maps.access = map;
  return success();
}

LogicalResult ModelBuilder::fillGather(GatherOp op, const IndexMap &map,
                                       KernelNode &node, PendingMaps &maps) {
  auto table = dyn_cast<BlockArgument>(peelReshapes(op.getTable()));
  if (!table)
    return fail(op) << "reads a computed table; only an argument of the kernel "
                       "can be gathered from";
  int64_t width = op.getTable().getType().getDimSize(1);
  auto dims = map.splitDims({numElements(op.getIds()), width});
  if (!dims)
    return fail(op) << "cannot be expressed by index arithmetic";
  auto ids = use(op.getIds(), (*dims)[0]);
  if (failed(ids))
    return failure();
  node.kind = NodeKind::Gather;
  node.argument = table.getArgNumber();
  node.operands.push_back(*ids);
  node.stride = width;
  maps.access = (*dims)[1];
  maps.rowOnly = (*dims)[0];
  return success();
}

LogicalResult ModelBuilder::fillScalar(ScalarBodyOpInterface op,
                                       const IndexMap &map, KernelNode &node,
                                       PendingMaps &maps) {
  ArrayRef<int64_t> shape = shapeOf(op->getResult(0));
  for (Value operand : op->getOperands()) {
    auto operandMap = map.throughBroadcast(shapeOf(operand), shape);
    if (!operandMap)
      return fail(op) << "cannot be expressed by index arithmetic";
    auto operandUse = use(operand, *operandMap);
    if (failed(operandUse))
      return failure();
    node.operands.push_back(*operandUse);
  }
  BodyProbe probe;
  SmallVector<Scalar> operands(op->getNumOperands(), Scalar{0}), results;
  op.emitScalar(probe, operands, results);
  maps.bodyCost = probe.cost;
  if (probe.usesIndex) {
    auto dims = map.splitDims(shape);
    if (!dims)
      return fail(op) << "cannot be expressed by index arithmetic";
    maps.index = map;
    maps.lastIndex = dims->empty() ? IndexMap() : dims->back();
  }
  return success();
}

/// Whether rows of `columns` points can be accessed, and at single strides.
ModelBuilder::Fit ModelBuilder::fit(int64_t columns) const {
  Fit result = Fit::Strides;
  for (const PendingMaps &maps : pending) {
    for (const auto *map : {&maps.access, &maps.index, &maps.lastIndex}) {
      if (!*map)
        continue;
      auto access = (*map)->getAccess(columns);
      if (!access)
        return Fit::None;
      if (!access->columnTerms.empty())
        result = Fit::Segments;
    }
    if (maps.rowOnly) {
      auto access = maps.rowOnly->getAccess(columns);
      if (!access || access->dependsOnColumn())
        return Fit::None;
    }
  }
  for (const auto &[index, map] : pendingResults) {
    auto access = map.getAccess(columns);
    if (!access)
      return Fit::None;
    if (!access->columnTerms.empty())
      result = Fit::Segments;
  }
  return result;
}

/// The longest rows along which every access has one stride: all points in one
/// row if nothing is broadcast or rearranged. Rows that are too short for
/// vectors only if nothing else works.
LogicalResult ModelBuilder::chooseColumns() {
  constexpr int64_t shortRow = 8;
  SmallVector<int64_t> candidates{size};
  if (fixedColumns) {
    candidates = {fixedColumns};
  } else {
    for (const PendingMaps &maps : pending)
      for (const auto *map :
           {&maps.access, &maps.index, &maps.lastIndex, &maps.rowOnly})
        if (*map)
          for (const IndexTerm &term : (*map)->getTerms())
            candidates.append({term.div, term.div * term.mod});
    llvm::sort(candidates, std::greater<int64_t>());
  }
  int64_t withSegments = 0;
  for (int64_t columns : candidates) {
    if (size % columns != 0)
      continue;
    Fit found = fit(columns);
    if (found == Fit::Strides && (columns >= shortRow || !withSegments)) {
      model.columns = columns;
      model.rows = size / columns;
      return success();
    }
    if (found != Fit::None && withSegments == 0)
      withSegments = columns;
  }
  if (withSegments == 0)
    return kernel.emitOpError()
           << "is a kernel whose accesses have no common row of "
           << candidates.front() << " columns or less";
  model.columns = withSegments;
  model.rows = size / withSegments;
  return success();
}

LogicalResult ModelBuilder::finishNodes() {
  for (unsigned id = 0; id < model.nodes.size(); ++id)
    if (failed(finishNode(id)))
      return failure();
  for (const auto &[index, map] : pendingResults)
    model.results[index].access = *map.getAccess(model.columns);
  for (KernelResult &result : model.results)
    if (result.kind == ResultKind::Full && model.columns == 1)
      result.kind = ResultKind::PerRow;
  return success();
}

/// Fills in what follows from the operands, which come first.
LogicalResult ModelBuilder::finishNode(unsigned id) {
  KernelNode &node = model.nodes[id];
  const PendingMaps &maps = pending[id];
  bool perRow = true;
  node.cost = maps.bodyCost;
  for (auto [map, access] : {std::pair(&maps.access, &node.access),
                             std::pair(&maps.index, &node.index),
                             std::pair(&maps.lastIndex, &node.lastIndex)})
    if (*map) {
      *access = *(*map)->getAccess(model.columns);
      perRow &= !access->dependsOnColumn();
    }
  for (NodeUse use : node.operands) {
    const KernelNode &operand = model.nodes[use.node];
    node.phase = std::max(node.phase, operand.phase);
    perRow &= operand.perRow;
    if (!operand.perRow)
      node.cost += operand.cost;
  }
  switch (node.kind) {
  case NodeKind::Argument:
    node.cost = node.access.columnStride > 1      ? 32
                : node.access.columnTerms.empty() ? 1
                                                  : 4;
    break;
  case NodeKind::Gather:
    if (!model.nodes[node.operands[0].node].perRow)
      return fail(node.op) << "takes ids that depend on the column";
    node.cost = 2;
    break;
  case NodeKind::LeadingReduce:
    node.cost = node.length;
    break;
  case NodeKind::RowReduce:
    node.phase += 1;
    node.perRow = true;
    return success();
  case NodeKind::Constant:
  case NodeKind::Scalar:
    break;
  }
  node.perRow = perRow;
  return success();
}

} // namespace

FailureOr<KernelModel> KernelModel::build(func::FuncOp kernel,
                                          int64_t columns) {
  KernelModel model;
  model.function = kernel;
  if (failed(ModelBuilder(model, columns).run()))
    return failure();
  return model;
}

Value mpt::getTransposedSource(CopyOp copy) {
  auto rearrangement = getRearrangement(copy);
  if (!rearrangement || shapeOf(rearrangement->source).empty())
    return nullptr;
  int64_t columns = shapeOf(rearrangement->source).back();
  auto access = rearrangement->toCopy.getAccess(columns);
  if (!access || columns == 1)
    return nullptr;
  int64_t stride = access->columnTerms.empty()
                       ? access->columnStride
                       : access->columnTerms.front().stride;
  return stride == 1 ? Value() : rearrangement->source;
}

bool KernelModel::hasTransposed() const {
  return llvm::any_of(results, [](const KernelResult &result) {
    return result.kind == ResultKind::Transposed;
  });
}

bool KernelModel::hasPerRow() const {
  return llvm::any_of(results, [](const KernelResult &result) {
    return isPerRow(result.kind);
  });
}

bool KernelModel::hasChunks() const {
  return llvm::any_of(results, [](const KernelResult &result) {
    return result.kind == ResultKind::Chunk ||
           result.kind == ResultKind::ChunkPerRow;
  });
}

Type KernelModel::getElementType(NodeUse use) const {
  const KernelNode &node = nodes[use.node];
  func::FuncOp kernel = function;
  Type type = node.op ? node.op->getResult(use.result).getType()
                      : kernel.getArgumentTypes()[node.argument];
  return cast<RankedTensorType>(type).getElementType();
}

bool KernelModel::canAlias(unsigned result, unsigned argument) const {
  func::FuncOp kernel = function;
  auto written = cast<RankedTensorType>(kernel.getResultTypes()[result]);
  auto read = cast<RankedTensorType>(kernel.getArgumentTypes()[argument]);
  bool full = results[result].kind == ResultKind::Full;
  if (written.getElementType() != read.getElementType() ||
      written.getNumElements() != read.getNumElements() ||
      (!full && results[result].kind != ResultKind::PerRow))
    return false;
  int64_t stride = full ? columns : 1;
  for (const KernelNode &node : nodes) {
    bool reads = node.kind == NodeKind::Argument ||
                 node.kind == NodeKind::Gather ||
                 node.kind == NodeKind::LeadingReduce;
    if (!reads || node.argument != argument)
      continue;
    ArrayRef<IndexTerm> terms = node.access.rowTerms;
    bool sameRow = rows == 1 ? terms.empty()
                             : terms == ArrayRef(IndexTerm{1, rows, stride});
    if (node.kind != NodeKind::Argument || !sameRow ||
        node.access.offset != 0 || node.access.columnStride != (full ? 1 : 0) ||
        !node.access.columnTerms.empty())
      return false;
  }
  return true;
}
