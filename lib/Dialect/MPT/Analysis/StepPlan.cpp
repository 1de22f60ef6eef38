//===- StepPlan.cpp - buffers and launches of a training step -------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// See StepPlan.h. Values get buffers, then in-place updates join buffers, then
// live ranges get offsets (largest first, first fit).
//
//===----------------------------------------------------------------------===//

#include "mpt/Dialect/MPT/Analysis/StepPlan.h"
#include "GroupLaunches.h"
#include "mpt/Dialect/MPT/Analysis/Epilogue.h"
#include "mpt/Dialect/MPT/Analysis/KernelModel.h"
#include "mpt/Dialect/MPT/IR/Signature.h"
#include "llvm/ADT/StringMap.h"

using namespace mlir;
using namespace mpt;

int64_t mpt::getElementBytes(Type type) {
  return (type.getIntOrFloatBitWidth() + 7) / 8;
}

static int64_t byteSize(Type type) {
  auto tensor = cast<RankedTensorType>(type);
  return tensor.getNumElements() * getElementBytes(tensor.getElementType());
}

namespace {

constexpr int64_t kAlignment = 64;

struct Planner {
  func::FuncOp step;
  /// The step, or what computes derived arguments: what is being planned.
  func::FuncOp function;
  StepPlan plan;
  /// Root values to buffers.
  DenseMap<Value, unsigned> bufferOf;
  /// The last launch that reads a buffer (before offsets are given).
  std::vector<int64_t> lastRead;
  llvm::StringMap<std::unique_ptr<KernelModel>> models;

  StepPlanOptions options;

  Planner(func::FuncOp step, const StepPlanOptions &options)
      : step(step), function(step), options(options) {
    plan.step = step;
  }

  LogicalResult run();
  void addArguments();
  LogicalResult addLaunches();
  LogicalResult addInit(func::FuncOp init);
  std::optional<unsigned> getUpdated(unsigned result);
  LogicalResult addLaunch(Operation *op);
  LogicalResult addConstant(ConstantOp op);
  LogicalResult addKernel(func::CallOp call);
  LogicalResult addProduct(ProductOpInterface op);
  LogicalResult addZeros(FusedMatmulOp op);
  LogicalResult addScatter(ScatterAddOp op);
  LogicalResult addAttention(Operation *op);
  FailureOr<KernelModel *> getModel(func::CallOp call);
  unsigned newBuffer(Value root);
  FailureOr<StepPlan::Access> read(Value value);
  DenseMap<unsigned, unsigned> getUpdatedState();
  LogicalResult group();
  void countReads();
  LogicalResult shareInPlace();
  bool canScatterInPlace(size_t index);
  std::optional<unsigned>
  findShared(size_t index, const KernelModel &model, const StepPlan::Part &part,
             unsigned result, const DenseMap<unsigned, unsigned> &stateOf);
  LogicalResult addResults();
  void replaceBuffer(unsigned from, unsigned to);
  void setLiveRanges();
  void setOffsets();
};

unsigned Planner::newBuffer(Value root) {
  StepPlan::Buffer buffer;
  buffer.bytes = byteSize(root.getType());
  plan.buffers.push_back(std::move(buffer));
  return bufferOf[root] = plan.buffers.size() - 1;
}

void Planner::addArguments() {
  for (BlockArgument arg : step.getArguments()) {
    unsigned index = arg.getArgNumber();
    StepPlan::Argument argument;
    argument.name = getArgumentName(step, index).str();
    argument.kind = getArgumentKind(step, index).value_or(Kind::Input);
    argument.type = cast<RankedTensorType>(arg.getType());
    argument.buffer = newBuffer(arg);
    plan.buffers[argument.buffer].kind = StepPlan::BufferKind::Argument;
    if (auto range =
            step.getArgAttrOfType<DenseI64ArrayAttr>(index, kRangeAttr))
      argument.range = {range[0], range[1]};
    if (auto ignore =
            step.getArgAttrOfType<IntegerAttr>(index, kIgnoreIndexAttr))
      argument.ignoreIndex = ignore.getInt();
    plan.arguments.push_back(std::move(argument));
  }
}

/// The root's buffer and the view's offset in it; callers know the strides.
FailureOr<StepPlan::Access> Planner::read(Value value) {
  auto view = getStorageView(value);
  if (!view || !bufferOf.count(view->root))
    return emitError(value.getLoc()) << "no buffer holds the value of type "
                                     << value.getType() << " in the step plan";
  int64_t bytes = getElementBytes(
      cast<RankedTensorType>(view->root.getType()).getElementType());
  return StepPlan::Access{bufferOf[view->root], view->layout.offset * bytes};
}

/// Small constants are data; zeros of any size are filled when they are needed.
LogicalResult Planner::addConstant(ConstantOp op) {
  auto elements = dyn_cast<DenseElementsAttr>(op.getValue());
  if (!elements)
    return op.emitOpError("has no dense value");
  unsigned index = newBuffer(op.getY());
  StepPlan::Buffer &buffer = plan.buffers[index];
  constexpr int64_t kMost = 1 << 20;
  if (buffer.bytes > kMost) {
    auto splat = dyn_cast<SplatElementsAttr>(elements);
    bool zero = splat && splat.getElementType().isF32() &&
                splat.getSplatValue<APFloat>().isPosZero();
    if (!zero)
      return op.emitOpError() << "of type " << op.getType()
                              << " is too large for a constant (limit 1 MiB)";
    StepPlan::Launch fill{StepPlan::LaunchKind::Fill, getStableName(op).str()};
    fill.accesses = {{index, 0}};
    fill.bytes = buffer.bytes;
    plan.launches.push_back(std::move(fill));
    return success();
  }
  buffer.kind = StepPlan::BufferKind::Constant;
  Type type = elements.getElementType();
  for (int64_t i = 0, e = elements.getNumElements(); i < e; ++i) {
    APInt bits = type.isF32()
                     ? elements.getValues<APFloat>()[i].bitcastToAPInt()
                     : elements.getValues<APInt>()[i];
    uint64_t raw = bits.getZExtValue();
    for (int64_t b = 0; b < getElementBytes(type); ++b)
      buffer.data.push_back(static_cast<char>(raw >> (8 * b)));
  }
  return success();
}

FailureOr<KernelModel *> Planner::getModel(func::CallOp call) {
  std::unique_ptr<KernelModel> &model = models[call.getCallee()];
  if (!model) {
    auto kernel = SymbolTable::lookupNearestSymbolFrom<func::FuncOp>(
        call, call.getCalleeAttr());
    auto built = KernelModel::build(kernel);
    if (failed(built))
      return failure();
    model = std::make_unique<KernelModel>(std::move(*built));
  }
  return model.get();
}

LogicalResult Planner::addKernel(func::CallOp call) {
  StepPlan::Launch launch{StepPlan::LaunchKind::Kernel,
                          getStableName(call).str(), call};
  for (Value operand : call.getOperands()) {
    auto access = read(operand);
    if (failed(access))
      return failure();
    launch.accesses.push_back(*access);
  }
  for (Value result : call.getResults())
    launch.accesses.push_back({newBuffer(result), 0});
  launch.numWritten = call.getNumResults();
  plan.launches.push_back(std::move(launch));
  return success();
}

LogicalResult Planner::addProduct(ProductOpInterface op) {
  unsigned problem = 0;
  auto views = getProductViews(op, problem);
  if (!views)
    return op.emitOpError() << "named '" << getStableName(op) << "': operand "
                            << problem << " has no strided form";
  StepPlan::Launch launch{StepPlan::LaunchKind::Product,
                          getStableName(op).str(), op};
  for (OpOperand *operand : {&op.getLhsOperand(), &op.getRhsOperand()}) {
    auto access = read(operand->get());
    if (failed(access))
      return failure();
    launch.accesses.push_back(*access);
  }
  // Inverse scales are read besides, and what an epilogue needs.
  for (Value other : op->getOperands().drop_front(2)) {
    auto access = read(other);
    if (failed(access))
      return failure();
    launch.accesses.push_back(*access);
  }
  if (auto fused = dyn_cast<FusedMatmulOp>(*op)) {
    for (Value result : fused.getResults())
      launch.accesses.push_back({newBuffer(result), 0});
    launch.numWritten = fused.getNumResults();
    if (failed(addZeros(fused)))
      return failure();
  } else {
    launch.accesses.push_back({newBuffer(views->result.root), 0});
  }
  launch.product = *views;
  plan.launches.push_back(std::move(launch));
  return success();
}

/// Maxima that an epilogue's tiles are added to begin as zeros.
LogicalResult Planner::addZeros(FusedMatmulOp op) {
  auto model = KernelModel::build(getEpilogueFunction(op));
  if (failed(model))
    return failure();
  for (unsigned index : getZeroedResults(*model)) {
    unsigned buffer = bufferOf[op.getResult(index + op.getKeep())];
    StepPlan::Launch fill{StepPlan::LaunchKind::Fill,
                          (getStableName(op) + "/amax").str()};
    fill.accesses = {{buffer, 0}};
    fill.bytes = plan.buffers[buffer].bytes;
    plan.launches.push_back(std::move(fill));
  }
  return success();
}

LogicalResult Planner::addScatter(ScatterAddOp op) {
  StepPlan::Launch launch{StepPlan::LaunchKind::ScatterAdd,
                          getStableName(op).str(), op};
  for (Value operand : op.getOperands()) {
    auto access = read(operand);
    if (failed(access))
      return failure();
    launch.accesses.push_back(*access);
  }
  launch.accesses.push_back({newBuffer(op.getY()), 0});
  plan.launches.push_back(std::move(launch));
  return success();
}

LogicalResult Planner::addAttention(Operation *op) {
  StepPlan::Launch launch{isa<AttentionOp>(op)
                              ? StepPlan::LaunchKind::Attention
                              : StepPlan::LaunchKind::AttentionGrad,
                          getStableName(op).str(), op};
  for (Value operand : op->getOperands()) {
    auto access = read(operand);
    if (failed(access))
      return failure();
    launch.accesses.push_back(*access);
  }
  for (Value result : op->getResults())
    launch.accesses.push_back({newBuffer(result), 0});
  launch.numWritten = op->getNumResults();
  plan.launches.push_back(std::move(launch));
  return success();
}

LogicalResult Planner::addLaunch(Operation *op) {
  if (isa<ViewOpInterface, func::ReturnOp>(op))
    return success();
  if (auto constant = dyn_cast<ConstantOp>(op))
    return addConstant(constant);
  if (auto call = dyn_cast<func::CallOp>(op))
    return addKernel(call);
  if (auto product = dyn_cast<ProductOpInterface>(op))
    return addProduct(product);
  if (auto scatter = dyn_cast<ScatterAddOp>(op))
    return addScatter(scatter);
  if (isa<AttentionOp, AttentionGradOp>(op))
    return addAttention(op);
  return op->emitOpError() << "named '" << getStableName(op)
                           << "' is no launch: run --mpt-fuse before planning";
}

void Planner::countReads() {
  lastRead.assign(plan.buffers.size(), -1);
  for (auto [index, launch] : llvm::enumerate(plan.launches))
    for (const StepPlan::Access &access :
         ArrayRef(launch.accesses).drop_back(launch.numWritten))
      lastRead[access.buffer] = index;
  auto *terminator = function.getBody().front().getTerminator();
  for (Value value : terminator->getOperands())
    if (auto view = getStorageView(value))
      if (auto it = bufferOf.find(view->root); it != bufferOf.end())
        lastRead[it->second] = plan.launches.size();
}

void Planner::replaceBuffer(unsigned from, unsigned to) {
  for (StepPlan::Launch &launch : plan.launches)
    for (StepPlan::Access &access : launch.accesses)
      if (access.buffer == from)
        access.buffer = to;
  for (auto &entry : bufferOf)
    if (entry.second == from)
      entry.second = to;
  lastRead[to] = std::max(lastRead[to], lastRead[from]);
  plan.buffers[from].bytes = 0; // gone
}

/// The argument that result `index` of the function leaves updated.
std::optional<unsigned> Planner::getUpdated(unsigned index) {
  if (auto alias = function.getResultAttrOfType<IntegerAttr>(index, kAliasAttr))
    return alias.getInt();
  auto name = function.getResultAttrOfType<StringAttr>(index, kNameAttr);
  if (function == step || !name)
    return std::nullopt;
  for (auto [i, argument] : llvm::enumerate(plan.arguments))
    if (argument.kind == Kind::Derived && argument.name == name.getValue())
      return i;
  return std::nullopt;
}

/// Which state argument a buffer must end up in.
DenseMap<unsigned, unsigned> Planner::getUpdatedState() {
  DenseMap<unsigned, unsigned> stateOf;
  auto *terminator = function.getBody().front().getTerminator();
  for (auto [index, value] : llvm::enumerate(terminator->getOperands()))
    if (auto updated = getUpdated(index))
      if (auto view = getStorageView(value))
        stateOf[bufferOf[view->root]] = plan.arguments[*updated].buffer;
  return stateOf;
}

/// A kernel's launch as the only part of itself.
static StepPlan::Part asPart(const StepPlan::Launch &launch) {
  unsigned numRead = launch.accesses.size() - launch.numWritten;
  return {launch.name, launch.op, 0, numRead, numRead, launch.numWritten};
}

/// The buffer that result `r` of one kernel of launch `index` can take: updated
/// state that of its argument once nothing reads the old state any more, else
/// that of an argument that dies there. `part` says which accesses of the
/// launch are the kernel's.
std::optional<unsigned>
Planner::findShared(size_t index, const KernelModel &model,
                    const StepPlan::Part &part, unsigned r,
                    const DenseMap<unsigned, unsigned> &stateOf) {
  const StepPlan::Launch &launch = plan.launches[index];
  auto readOnce = [&](unsigned buffer) {
    return llvm::count_if(launch.accesses, [&](const StepPlan::Access &a) {
             return a.buffer == buffer;
           }) == 1;
  };
  unsigned result = launch.accesses[part.firstWritten + r].buffer;
  auto wanted = stateOf.find(result);
  if (wanted != stateOf.end() &&
      lastRead[wanted->second] < static_cast<int64_t>(index) &&
      plan.buffers[wanted->second].bytes == plan.buffers[result].bytes)
    return wanted->second;
  for (unsigned a = 0; a < part.numRead; ++a) {
    StepPlan::Access access = launch.accesses[part.firstRead + a];
    const StepPlan::Buffer &buffer = plan.buffers[access.buffer];
    bool candidate = wanted != stateOf.end()
                         ? wanted->second == access.buffer
                         : buffer.kind == StepPlan::BufferKind::Arena &&
                               lastRead[result] != -1;
    bool dies = lastRead[access.buffer] == static_cast<int64_t>(index);
    if (candidate && access.offset == 0 && dies && readOnce(access.buffer) &&
        buffer.bytes == plan.buffers[result].bytes && model.canAlias(r, a))
      return access.buffer;
  }
  return std::nullopt;
}

/// Whether the launch's initial value dies there.
bool Planner::canScatterInPlace(size_t index) {
  const StepPlan::Launch &launch = plan.launches[index];
  unsigned init = launch.accesses[0].buffer;
  return plan.buffers[init].kind == StepPlan::BufferKind::Arena &&
         lastRead[init] == static_cast<int64_t>(index) &&
         llvm::count_if(launch.accesses, [&](const StepPlan::Access &a) {
           return a.buffer == init;
         }) == 1;
}

/// Has launches of kernels that the target can group share one.
LogicalResult Planner::group() {
  if (!options.canGroup || function != step)
    return success();
  GroupingInput input;
  input.stateOf = getUpdatedState();
  for (Value value : step.getBody().front().getTerminator()->getOperands())
    if (auto view = getStorageView(value))
      input.returned.push_back(bufferOf[view->root]);
  countReads();
  llvm::StringMap<std::string> families;
  for (auto [index, launch] : llvm::enumerate(plan.launches)) {
    std::string &family = input.families.emplace_back();
    if (launch.kind == StepPlan::LaunchKind::ScatterAdd &&
        canScatterInPlace(index))
      input.inPlace[launch.accesses[3].buffer] = launch.accesses[0].buffer;
    if (launch.kind != StepPlan::LaunchKind::Kernel)
      continue;
    auto call = cast<func::CallOp>(launch.op);
    FailureOr<KernelModel *> model = getModel(call);
    if (failed(model))
      return failure();
    auto [it, isNew] = families.try_emplace(call.getCallee());
    if (isNew && options.canGroup(**model))
      it->second = getLaunchFamily(**model);
    family = it->second;
    StepPlan::Part part = asPart(launch);
    for (unsigned r = 0; r < part.numWritten; ++r)
      if (auto buffer = findShared(index, **model, part, r, input.stateOf))
        input.inPlace[launch.accesses[part.firstWritten + r].buffer] = *buffer;
  }
  groupLaunches(plan, input);
  return success();
}

/// A kernel's result takes the buffer of an argument that dies there, a scatter
/// that of its initial value, updated state that of its argument: in place, or
/// once nothing reads the old state any more.
LogicalResult Planner::shareInPlace() {
  DenseMap<unsigned, unsigned> stateOf = getUpdatedState();
  for (size_t index = 0; index < plan.launches.size(); ++index) {
    StepPlan::Launch &launch = plan.launches[index];
    if (launch.kind == StepPlan::LaunchKind::ScatterAdd) {
      if (canScatterInPlace(index))
        replaceBuffer(launch.accesses[3].buffer, launch.accesses[0].buffer);
      continue;
    }
    std::vector<StepPlan::Part> parts = launch.parts;
    if (launch.kind == StepPlan::LaunchKind::Kernel)
      parts = {asPart(launch)};
    for (const StepPlan::Part &part : parts) {
      FailureOr<KernelModel *> model = getModel(cast<func::CallOp>(part.op));
      if (failed(model))
        return failure();
      for (unsigned r = 0; r < part.numWritten; ++r)
        if (auto buffer = findShared(index, **model, part, r, stateOf))
          replaceBuffer(launch.accesses[part.firstWritten + r].buffer, *buffer);
    }
  }
  return success();
}

/// Results in terms of buffers; state that could not be updated in place is
/// copied at the end.
LogicalResult Planner::addResults() {
  auto *terminator = function.getBody().front().getTerminator();
  for (auto [index, value] : llvm::enumerate(terminator->getOperands())) {
    auto access = read(value);
    if (failed(access))
      return failure();
    auto name = function.getResultAttrOfType<StringAttr>(index, kNameAttr);
    StepPlan::Result result{name ? name.getValue().str() : std::string(),
                            cast<RankedTensorType>(value.getType()), *access,
                            std::nullopt};
    if (auto updated = getUpdated(index)) {
      result.alias = *updated;
      unsigned target = plan.arguments[*updated].buffer;
      if (access->buffer != target) {
        StepPlan::Launch copy{StepPlan::LaunchKind::Copy, result.name};
        copy.accesses = {*access, {target, 0}};
        copy.bytes = plan.buffers[target].bytes;
        plan.launches.push_back(std::move(copy));
        result.access = {target, 0};
      }
    }
    plan.results.push_back(std::move(result));
  }
  return success();
}

/// The list that derives arguments runs between steps: after the last launch.
void Planner::setLiveRanges() {
  auto touch = [&](const StepPlan::Launch &launch, int64_t time) {
    for (const StepPlan::Access &access : launch.accesses) {
      StepPlan::Buffer &buffer = plan.buffers[access.buffer];
      if (buffer.begin < 0)
        buffer.begin = time;
      buffer.end = time;
    }
  };
  int64_t time = 0;
  for (const StepPlan::Launch &launch : plan.launches)
    touch(launch, time++);
  for (const StepPlan::Result &result : plan.results)
    plan.buffers[result.access.buffer].end = time;
  for (const StepPlan::Launch &launch : plan.init)
    touch(launch, ++time);
}

/// Largest first, each at the lowest offset that is free over its live range.
void Planner::setOffsets() {
  SmallVector<unsigned> order;
  std::vector<int64_t> change(plan.launches.size() + plan.init.size() + 2, 0);
  for (auto [index, buffer] : llvm::enumerate(plan.buffers)) {
    if (buffer.kind != StepPlan::BufferKind::Arena || buffer.begin < 0)
      continue;
    order.push_back(index);
    change[buffer.begin] += buffer.bytes;
    change[buffer.end + 1] -= buffer.bytes;
  }
  int64_t live = 0;
  for (int64_t delta : change)
    plan.liveBytes = std::max(plan.liveBytes, live += delta);
  llvm::sort(order, [&](unsigned a, unsigned b) {
    return std::pair(-plan.buffers[a].bytes, a) <
           std::pair(-plan.buffers[b].bytes, b);
  });
  SmallVector<unsigned> placed; // ascending offsets
  for (unsigned index : order) {
    StepPlan::Buffer &buffer = plan.buffers[index];
    int64_t offset = 0;
    for (unsigned other : placed) {
      const StepPlan::Buffer &o = plan.buffers[other];
      if (o.end < buffer.begin || o.begin > buffer.end)
        continue;
      if (o.offset >= offset + buffer.bytes)
        break;
      offset = std::max(offset, (o.offset + o.bytes + kAlignment - 1) /
                                    kAlignment * kAlignment);
    }
    buffer.offset = offset;
    placed.insert(llvm::upper_bound(placed, index,
                                    [&](unsigned a, unsigned b) {
                                      return plan.buffers[a].offset <
                                             plan.buffers[b].offset;
                                    }),
                  index);
    plan.arenaBytes = std::max(plan.arenaBytes, offset + buffer.bytes);
  }
}

LogicalResult Planner::addLaunches() {
  for (Operation &op : function.getBody().front())
    if (failed(addLaunch(&op)))
      return failure();
  if (failed(group()))
    return failure();
  countReads();
  if (failed(shareInPlace()))
    return failure();
  return addResults();
}

/// Plans the launches that compute derived arguments from other state, into
/// the same buffers.
LogicalResult Planner::addInit(func::FuncOp init) {
  llvm::StringMap<unsigned> indices;
  for (auto [index, argument] : llvm::enumerate(plan.arguments))
    indices[argument.name] = index;
  for (BlockArgument arg : init.getArguments()) {
    StringRef name = getArgumentName(init, arg.getArgNumber());
    auto it = indices.find(name);
    if (it == indices.end() || plan.arguments[it->second].type != arg.getType())
      return init.emitError()
             << "takes '" << name << "' of type " << arg.getType()
             << ", which the step has no argument for";
    bufferOf[arg] = plan.arguments[it->second].buffer;
  }
  std::vector<StepPlan::Launch> launches = std::move(plan.launches);
  SmallVector<StepPlan::Result> results = std::move(plan.results);
  plan.launches.clear();
  plan.results.clear();
  function = init;
  if (failed(addLaunches()))
    return failure();
  for (const StepPlan::Result &result : plan.results)
    if (!result.alias)
      return init.emitError() << "returns '" << result.name
                              << "', which is no derived argument of the step";
  plan.init = std::move(plan.launches);
  plan.launches = std::move(launches);
  plan.results = std::move(results);
  return success();
}

LogicalResult Planner::run() {
  addArguments();
  if (failed(addLaunches()))
    return failure();
  if (func::FuncOp init = getInit(step); init && failed(addInit(init)))
    return failure();
  setLiveRanges();
  setOffsets();
  return success();
}

} // namespace

FailureOr<StepPlan> StepPlan::build(func::FuncOp step,
                                    const StepPlanOptions &options) {
  Planner planner(step, options);
  if (failed(planner.run()))
    return failure();
  if (failed(planner.plan.verify()))
    return failure();
  return std::move(planner.plan);
}

SmallVector<StepPlan::Access, 8>
StepPlan::Launch::getAccesses(const Part &part) const {
  SmallVector<Access, 8> result(
      ArrayRef(accesses).slice(part.firstRead, part.numRead));
  llvm::append_range(
      result, ArrayRef(accesses).slice(part.firstWritten, part.numWritten));
  return result;
}

void StepPlan::forEachCall(
    llvm::function_ref<void(func::CallOp, StringRef, ArrayRef<Access>)> visit)
    const {
  for (const Launch &launch : llvm::concat<const Launch>(launches, init)) {
    if (launch.kind == LaunchKind::Kernel)
      visit(cast<func::CallOp>(launch.op), launch.name, launch.accesses);
    for (const Part &part : launch.parts)
      visit(cast<func::CallOp>(part.op), part.name, launch.getAccesses(part));
  }
}

/// Parts run at once: what one writes, no other reads or writes.
static LogicalResult verifyParts(Location loc, const StepPlan::Launch &group) {
  DenseMap<unsigned, const StepPlan::Part *> writer;
  auto refuse = [&](const StepPlan::Part &part, const StepPlan::Part &other) {
    return emitError(loc) << "step plan: parts '" << part.name << "' and '"
                          << other.name << "' of one launch share a buffer";
  };
  for (const StepPlan::Part &part : group.parts)
    for (StepPlan::Access access :
         ArrayRef(group.accesses).slice(part.firstWritten, part.numWritten))
      if (auto [it, isNew] = writer.try_emplace(access.buffer, &part); !isNew)
        return refuse(part, *it->second);
  for (const StepPlan::Part &part : group.parts)
    for (StepPlan::Access access :
         ArrayRef(group.accesses).slice(part.firstRead, part.numRead))
      if (const StepPlan::Part *other = writer.lookup(access.buffer);
          other && other != &part)
        return refuse(part, *other);
  return success();
}

/// What a launch touches lies in its buffers; what it reads is in `written`, to
/// which it adds what it writes.
static LogicalResult verifyLaunch(const StepPlan &plan,
                                  const StepPlan::Launch &launch,
                                  std::vector<bool> &written) {
  Location loc = func::FuncOp(plan.step).getLoc();
  unsigned numRead = launch.accesses.size() - launch.numWritten;
  for (auto [i, access] : llvm::enumerate(launch.accesses)) {
    if (access.buffer >= plan.buffers.size() || access.offset < 0 ||
        access.offset > plan.buffers[access.buffer].bytes)
      return emitError(loc) << "step plan: launch '" << launch.name
                            << "' leaves buffer " << access.buffer;
    if (i < numRead && !written[access.buffer])
      return emitError(loc)
             << "step plan: launch '" << launch.name << "' reads buffer "
             << access.buffer << " before anything is in it";
  }
  if (failed(verifyParts(loc, launch)))
    return failure();
  for (const StepPlan::Access &access :
       ArrayRef(launch.accesses).take_back(launch.numWritten))
    written[access.buffer] = true;
  return success();
}

LogicalResult StepPlan::verify() const {
  Location loc = func::FuncOp(step).getLoc();
  std::vector<bool> written(buffers.size(), false);
  for (auto [index, buffer] : llvm::enumerate(buffers))
    written[index] = buffer.kind != BufferKind::Arena;
  for (const Launch &launch : launches)
    if (failed(verifyLaunch(*this, launch, written)))
      return failure();
  for (auto [index, buffer] : llvm::enumerate(buffers))
    written[index] = buffer.kind != BufferKind::Arena;
  for (const Launch &launch : init)
    if (failed(verifyLaunch(*this, launch, written)))
      return failure();
  SmallVector<unsigned> arena;
  for (auto [index, buffer] : llvm::enumerate(buffers))
    if (buffer.kind == BufferKind::Arena && buffer.begin >= 0 && buffer.bytes)
      arena.push_back(index);
  llvm::sort(arena, [&](unsigned a, unsigned b) {
    return buffers[a].offset < buffers[b].offset;
  });
  for (size_t i = 0; i < arena.size(); ++i) {
    const Buffer &a = buffers[arena[i]];
    if (a.offset + a.bytes > arenaBytes)
      return emitError(loc)
             << "step plan: buffer " << arena[i] << " leaves the arena";
    for (size_t j = i + 1; j < arena.size(); ++j) {
      const Buffer &b = buffers[arena[j]];
      if (b.offset >= a.offset + a.bytes)
        break;
      if (b.begin <= a.end && a.begin <= b.end)
        return emitError(loc) << "step plan: buffers " << arena[i] << " and "
                              << arena[j] << " overlap";
    }
  }
  return success();
}
