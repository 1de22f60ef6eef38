//===- ManifestWriter.cpp - what the manifests of all targets share -------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// See ManifestWriter.h.
//
//===----------------------------------------------------------------------===//

#include "mpt/Target/Package/ManifestWriter.h"
#include "mpt/Dialect/MPT/Analysis/MemoryReport.h"
#include "mpt/Dialect/MPT/Analysis/StepReport.h"
#include "mpt/Dialect/MPT/IR/Signature.h"
#include "llvm/Support/Format.h"

using namespace mlir;
using namespace mpt;

std::string mpt::hashText(StringRef bytes) {
  uint64_t hash = 0xcbf29ce484222325ull;
  for (unsigned char byte : bytes)
    hash = (hash ^ byte) * 0x100000001b3ull;
  std::string text;
  llvm::raw_string_ostream(text) << llvm::format_hex_no_prefix(hash, 16);
  return text;
}

StringRef mpt::getDtypeName(Type type) {
  if (type.isF32())
    return "f32";
  if (type.isBF16())
    return "bf16";
  if (isa<Float8E4M3FNType>(type))
    return "f8E4M3FN";
  if (isa<Float8E5M2Type>(type))
    return "f8E5M2";
  switch (type.getIntOrFloatBitWidth()) {
  case 1:
    return "i1";
  case 8:
    return "i8";
  case 32:
    return "i32";
  default:
    return "i64";
  }
}

void ManifestWriter::typed(RankedTensorType type) {
  json.attribute("dtype", getDtypeName(type.getElementType()));
  json.attributeArray("shape", [&] {
    for (int64_t size : type.getShape())
      json.value(size);
  });
}

void ManifestWriter::accessValues(StepPlan::Access access) {
  json.value(access.buffer);
  json.value(access.offset);
}

void ManifestWriter::batch(const int64_t (&values)[2]) {
  json.attributeArray("batch", [&] {
    json.value(values[0]);
    json.value(values[1]);
  });
}

/// A number for f32 (`mpt.init`, else 1: no scaling), zero for counters.
void ManifestWriter::scaleStateInit(const StepPlan::Argument &argument) {
  if (!argument.type.getElementType().isF32())
    return json.attribute("init", "zero");
  unsigned index = &argument - plan.arguments.data();
  auto init =
      func::FuncOp(plan.step).getArgAttrOfType<FloatAttr>(index, kInitAttr);
  json.attribute("init", init ? init.getValueAsDouble() : 1.0);
}

/// Moments and corrections start at zero, as does what the step derives before
/// it reads it, unless the plan has launches for it; parameters in a file; what
/// the caller binds has no initial value.
void ManifestWriter::argument(const StepPlan::Argument &argument) {
  json.attribute("name", argument.name);
  json.attribute("kind", stringifyKind(argument.kind));
  typed(argument.type);
  json.attribute("buffer", argument.buffer);
  if (argument.kind == Kind::Parameter)
    json.attribute("init", "file");
  else if (argument.kind == Kind::Derived && !plan.init.empty())
    json.attribute("init", "launches");
  else if (argument.kind == Kind::OptimizerState ||
           argument.kind == Kind::Derived)
    json.attribute("init", "zero");
  else if (argument.kind == Kind::ScaleState)
    scaleStateInit(argument);
  if (argument.range)
    json.attributeArray("range", [&] {
      json.value(argument.range->first);
      json.value(argument.range->second);
    });
  if (argument.ignoreIndex)
    json.attribute("ignore_index", *argument.ignoreIndex);
}

/// The parameter whose gradient `result` is in a step without an optimizer, as
/// --mpt-differentiate leaves it: under the parameter's name, with its type.
static const StepPlan::Argument *
findGradientResult(const StepPlan &plan, const StepPlan::Result &result) {
  if (result.alias)
    return nullptr;
  const auto *it =
      llvm::find_if(plan.arguments, [&](const StepPlan::Argument &argument) {
        return argument.kind == Kind::Parameter &&
               argument.name == result.name && argument.type == result.type;
      });
  return it == plan.arguments.end() ? nullptr : it;
}

/// The layout's offset counts, besides the access's.
void ManifestWriter::gradient(StringRef parameter, StepPlan::Access access,
                              const Layout &layout) {
  json.object([&] {
    json.attribute("parameter", parameter);
    json.attribute("buffer", access.buffer);
    json.attribute("offset", access.offset + 4 * layout.offset); // f32
    if (!layout.isContiguous())
      json.attributeArray("strides", [&] {
        for (int64_t stride : layout.strides)
          json.value(stride);
      });
  });
}

/// `value` as a view of an argument of its function.
static std::optional<std::pair<unsigned, Layout>> getArgumentView(Value value) {
  auto view = getStorageView(value);
  auto argument = view ? dyn_cast<BlockArgument>(view->root) : BlockArgument();
  if (!argument)
    return std::nullopt;
  return std::pair(argument.getArgNumber(), view->layout);
}

/// An update reads parameter and gradient; which of the step's values they are,
/// the kernel's call says.
void ManifestWriter::gradientsOfUpdates(func::CallOp call,
                                        ArrayRef<StepPlan::Access> accesses) {
  auto kernel = SymbolTable::lookupNearestSymbolFrom<func::FuncOp>(
      call, call.getCalleeAttr());
  kernel.walk([&](AdamWOp update) {
    auto parameter = getArgumentView(update.getParam());
    auto grad = getArgumentView(update.getGrad());
    if (!parameter || !grad)
      return;
    // What the call passes: kernels see it dense, from the access's offset on.
    auto bound = getArgumentView(call.getOperand(parameter->first));
    auto source = getStorageView(call.getOperand(grad->first));
    if (!bound || !source || !source->layout.isContiguous())
      return;
    gradient(plan.arguments[bound->first].name, accesses[grad->first],
             grad->second);
  });
}

void ManifestWriter::gradients() {
  json.attributeArray("gradients", [&] {
    for (const StepPlan::Result &result : plan.results)
      if (findGradientResult(plan, result))
        gradient(result.name, result.access,
                 Layout::contiguous(result.type.getShape()));
    plan.forEachCall(
        [&](func::CallOp call, StringRef, ArrayRef<StepPlan::Access> accesses) {
          gradientsOfUpdates(call, accesses);
        });
  });
}

void ManifestWriter::memoryReport() {
  MemoryReport report = MemoryReport::of(plan);
  json.attributeObject("memory", [&] {
    json.attribute("total", report.total());
    report.forEach(
        [&](StringRef name, int64_t bytes) { json.attribute(name, bytes); });
    json.attribute("live", report.liveBytes);
    json.attribute("peak_at", report.peakAt);
  });
}

void ManifestWriter::traffic() {
  json.attributeArray("traffic", [&] {
    for (const LayerTraffic &layer : getLayerTraffic(plan))
      json.object([&] {
        json.attribute("layer", layer.name);
        for (unsigned i = 0; i < LayerTraffic::kClasses; ++i)
          json.attributeObject(stringify(static_cast<LaunchClass>(i)), [&] {
            json.attribute("launches", layer.launches[i]);
            json.attribute("bytes", layer.bytes[i]);
          });
      });
  });
}

void ManifestWriter::signature() {
  json.attributeArray("arguments", [&] {
    for (const StepPlan::Argument &entry : plan.arguments)
      json.object([&] { argument(entry); });
  });
  // Updated state is its argument. The gradient of a step without an optimizer
  // has its parameter's name, which is the argument's.
  json.attributeArray("results", [&] {
    for (const StepPlan::Result &result : plan.results)
      if (!result.alias)
        json.object([&] {
          json.attribute("name", findGradientResult(plan, result)
                                     ? result.name + "/grad"
                                     : result.name);
          typed(result.type);
          json.attribute("buffer", result.access.buffer);
        });
  });
}
