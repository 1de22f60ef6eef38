//===- StepReport.cpp - what a step launches and moves --------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// See StepReport.h.
//
//===----------------------------------------------------------------------===//

#include "mpt/Dialect/MPT/Analysis/StepReport.h"
#include "mpt/Dialect/MPT/Analysis/KernelModel.h"
#include "llvm/ADT/MapVector.h"
#include "llvm/ADT/StringExtras.h"

using namespace mlir;
using namespace mpt;

static int64_t bytesOf(Type type) {
  auto tensor = cast<RankedTensorType>(type);
  return tensor.getNumElements() * getElementBytes(tensor.getElementType());
}

/// Operands of a small launch: one amax a row, of a million rows at most.
constexpr int64_t kMostSmallBytes = 4 << 20;

static func::FuncOp getKernel(Operation *op) {
  auto call = dyn_cast_or_null<func::CallOp>(op);
  return call ? SymbolTable::lookupNearestSymbolFrom<func::FuncOp>(
                    call, call.getCalleeAttr())
              : func::FuncOp();
}

//===----------------------------------------------------------------------===//
// One launch
//===----------------------------------------------------------------------===//

/// What a kernel reads of one argument.
static int64_t bytesRead(BlockArgument argument) {
  int64_t whole = bytesOf(argument.getType()), gathered = 0;
  for (Operation *user : argument.getUsers()) {
    auto gather = dyn_cast<GatherOp>(user);
    if (!gather || gather.getTable() != argument)
      return whole;
    gathered += bytesOf(gather->getResult(0).getType());
  }
  return std::min(whole, gathered);
}

/// Three kernels: the rows' products, the gradient of queries, and those of
/// keys and values, of which the last two read everything but the output.
static int64_t attentionGradReads(AttentionGradOp op) {
  int64_t output = bytesOf(op.getOutput().getType());
  int64_t inputs = bytesOf(op.getRowProducts().getType());
  for (Value operand : op->getOperands())
    inputs += bytesOf(operand.getType());
  return output + bytesOf(op.getGradOutput().getType()) + 2 * (inputs - output);
}

int64_t mpt::countKernels(const StepPlan::Launch &launch) {
  return launch.kind == StepPlan::LaunchKind::AttentionGrad ? 3 : 1;
}

static Traffic getTraffic(Operation *op) {
  Traffic traffic;
  if (auto scatter = dyn_cast<ScatterAddOp>(op)) {
    traffic.written = bytesOf(scatter.getUpdates().getType());
    traffic.read = 2 * traffic.written + bytesOf(scatter.getIds().getType());
    return traffic;
  }
  for (Type type : op->getResultTypes())
    traffic.written += bytesOf(type);
  if (auto grad = dyn_cast<AttentionGradOp>(op)) {
    traffic.read = attentionGradReads(grad);
    return traffic;
  }
  if (func::FuncOp kernel = getKernel(op)) {
    for (BlockArgument argument : kernel.getArguments())
      traffic.read += bytesRead(argument);
    return traffic;
  }
  for (Type type : op->getOperandTypes())
    traffic.read += bytesOf(type);
  return traffic;
}

Traffic mpt::getTraffic(const StepPlan::Launch &launch) {
  if (launch.op)
    return ::getTraffic(launch.op);
  Traffic traffic;
  for (const StepPlan::Part &part : launch.parts) {
    Traffic each = ::getTraffic(part.op);
    traffic.read += each.read;
    traffic.written += each.written;
  }
  if (launch.parts.empty()) { // copies read what they write, fills do not
    traffic.written = launch.bytes;
    traffic.read = launch.kind == StepPlan::LaunchKind::Copy ? launch.bytes : 0;
  }
  return traffic;
}

StringRef mpt::stringify(LaunchClass which) {
  static constexpr StringLiteral names[] = {
      "products", "kernels", "small", "stand_alone", "optimizer", "memory"};
  return names[static_cast<int>(which)];
}

/// Whether every op only casts, transposes or finds an amax.
static bool isStandAlone(func::FuncOp kernel) {
  for (Operation &op : kernel.getBody().front().without_terminator()) {
    if (isa<ViewOpInterface, ConstantOp, CopyOp, QuantizeOp,
            QuantizeStochasticOp, DequantizeOp>(op))
      continue;
    auto reduce = dyn_cast<ReduceOp>(op);
    if (!reduce || reduce.getKind() != Reduction::AbsMax)
      return false;
  }
  return true;
}

static LaunchClass classifyKernel(func::FuncOp kernel, StringRef name) {
  for (StringRef part : {"/update", "/grad_norm", "/amax_history."})
    if (name.contains(part))
      return LaunchClass::Optimizer;
  auto isVector = [](Type type) {
    auto shape = cast<RankedTensorType>(type).getShape();
    return bytesOf(type) <= kMostSmallBytes &&
           llvm::count_if(shape, [](int64_t size) { return size > 1; }) <= 1;
  };
  if (llvm::all_of(kernel.getArgumentTypes(), isVector))
    return LaunchClass::Small;
  return isStandAlone(kernel) ? LaunchClass::StandAlone : LaunchClass::Kernel;
}

/// The class whose parts move most.
static LaunchClass classifyParts(ArrayRef<StepPlan::Part> parts) {
  int64_t bytes[LayerTraffic::kClasses] = {};
  for (const StepPlan::Part &part : parts) {
    Traffic traffic = ::getTraffic(part.op);
    auto which = classifyKernel(getKernel(part.op), part.name);
    bytes[static_cast<unsigned>(which)] += traffic.read + traffic.written;
  }
  return static_cast<LaunchClass>(llvm::max_element(bytes) - bytes);
}

LaunchClass mpt::classify(const StepPlan::Launch &launch) {
  using LaunchKind = StepPlan::LaunchKind;
  if (llvm::is_contained({LaunchKind::Product, LaunchKind::Attention,
                          LaunchKind::AttentionGrad},
                         launch.kind))
    return LaunchClass::Product;
  if (launch.kind == LaunchKind::Group)
    return classifyParts(launch.parts);
  func::FuncOp kernel = getKernel(launch.op);
  return kernel ? classifyKernel(kernel, launch.name) : LaunchClass::Memory;
}

StringRef mpt::getLayerName(StringRef name) {
  size_t begin = 0, previous = StringRef::npos;
  while (begin < name.size()) {
    size_t end = std::min(name.find_first_of("./", begin), name.size());
    StringRef word = name.slice(begin, end);
    bool isNumber = !word.empty() && llvm::all_of(word, llvm::isDigit);
    if (end == name.size() || name[end] == '/')
      return "";
    if (isNumber && previous != StringRef::npos)
      return name.slice(previous, end);
    previous = begin;
    begin = end + 1;
  }
  return "";
}

std::string mpt::describeKernel(func::FuncOp kernel) {
  SmallVector<std::pair<std::string, unsigned>> words;
  for (Operation &op : kernel.getBody().front().without_terminator()) {
    if (isa<ViewOpInterface, ConstantOp>(op))
      continue;
    std::string word = op.getName().stripDialect().str();
    if (auto reduce = dyn_cast<ReduceOp>(op))
      word = stringifyReduction(reduce.getKind()).str();
    if (auto copy = dyn_cast<CopyOp>(op); copy && getTransposedSource(copy))
      word = "transposed";
    if (words.empty() || words.back().first != word)
      words.push_back({word, 0});
    ++words.back().second;
  }
  std::string text;
  for (const auto &[word, count] : words) {
    text += (text.empty() ? "" : " ") + word;
    if (count > 1)
      text += "*" + std::to_string(count);
  }
  return text;
}

//===----------------------------------------------------------------------===//
// Layers
//===----------------------------------------------------------------------===//

/// The layer of a launch; a group's is that of all its parts.
static StringRef getLayer(const StepPlan::Launch &launch) {
  if (launch.parts.empty())
    return getLayerName(launch.name);
  StringRef layer = getLayerName(launch.parts.front().name);
  bool same = llvm::all_of(launch.parts, [&](const StepPlan::Part &part) {
    return getLayerName(part.name) == layer;
  });
  return same ? layer : "";
}

std::vector<LayerTraffic> mpt::getLayerTraffic(const StepPlan &plan) {
  llvm::MapVector<StringRef, LayerTraffic> layers;
  LayerTraffic rest;
  for (const StepPlan::Launch &launch : plan.launches) {
    StringRef name = getLayer(launch);
    LayerTraffic &layer = name.empty() ? rest : layers[name];
    layer.name = name.str();
    auto which = static_cast<unsigned>(classify(launch));
    Traffic traffic = getTraffic(launch);
    layer.launches[which] += countKernels(launch);
    layer.bytes[which] += traffic.read + traffic.written;
  }
  std::vector<LayerTraffic> all;
  for (auto &[name, layer] : layers)
    all.push_back(std::move(layer));
  all.push_back(std::move(rest));
  return all;
}
