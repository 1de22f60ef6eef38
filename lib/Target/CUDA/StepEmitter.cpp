//===- StepEmitter.cpp - a step plan as one .cu file ----------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// The file reads from top to bottom as it runs: kernels, places in device
// memory, products, and the launch list, straight on. What every package does
// alike is in include/mpt/CUDA/Step.h.
//
//===----------------------------------------------------------------------===//

#include "StepEmitter.h"
#include "AttentionEmitter.h"
#include "ExpressionEmitter.h"
#include "GemmEmitter.h"
#include "GroupEmitter.h"
#include "KernelEmitter.h"
#include "llvm/ADT/MapVector.h"
#include "llvm/ADT/StringExtras.h"
#include <cstring>

using namespace mlir;
using namespace mpt;
using namespace mpt::cuda;

namespace {

/// Launches of one function of the launch list: compilers are not linear in the
/// length of a function.
constexpr size_t kLaunchesPerPart = 64;

struct StepEmitter {
  const StepPlan &plan;
  const DeviceMemory &memory;
  StringRef graphHash;
  SourceWriter w;
  /// Kernels by symbol, in order of their first launch.
  llvm::MapVector<StringRef, std::unique_ptr<KernelModel>> kernels;
  GemmEmitter own;
  std::optional<GroupEmitter> groups;
  unsigned nextProduct = 0;
  AttentionEmitter attention;

  StepEmitter(const StepPlan &plan, const DeviceMemory &memory,
              StringRef graphHash, llvm::raw_ostream &os)
      : plan(plan), memory(memory), graphHash(graphHash), w(os),
        own(plan, memory),
        attention(plan, [this](Type element, StepPlan::Access access) {
          return at(element, access);
        }) {}

  LogicalResult run();
  LogicalResult buildModels();
  void header();
  void emitKernels();
  void places();
  LogicalResult products();
  LogicalResult product(const StepPlan::Launch &launch);
  void launchList();
  void launchParts(ArrayRef<StepPlan::Launch> launches, StringRef name);
  void launch(const StepPlan::Launch &launch);
  void launchKernel(const StepPlan::Launch &launch);
  void launchProduct(const StepPlan::Launch &launch);
  void launchScatter(const StepPlan::Launch &launch);
  void copy(const std::string &to, const std::string &from, int64_t bytes,
            StringRef name);
  void tables();
  void constants();
  void interface();
  static bool isCublasLt(const StepPlan::Launch &launch) {
    return launch.kind == StepPlan::LaunchKind::Product &&
           !isOwnProduct(launch);
  }
  bool usesCublasLt() const { return llvm::any_of(plan.launches, isCublasLt); }
  bool hasProducts() const { return usesCublasLt() || !own.empty(); }

  std::string at(Type element, StepPlan::Access access) {
    const DeviceMemory::Buffer &buffer = memory.buffers[access.buffer];
    std::string text =
        ("at<" + memoryType(element) + ">(offset::").str() + buffer.name;
    if (access.offset)
      text += " + " + std::to_string(access.offset);
    return text + ")";
  }
};

Type elementOf(Value value) {
  return cast<RankedTensorType>(value.getType()).getElementType();
}

//===----------------------------------------------------------------------===//
// Kernels
//===----------------------------------------------------------------------===//

LogicalResult StepEmitter::buildModels() {
  LogicalResult status = success();
  plan.forEachCall([&](func::CallOp call, StringRef, auto) {
    std::unique_ptr<KernelModel> &model = kernels[call.getCallee()];
    if (model || failed(status))
      return;
    auto built =
        KernelModel::build(SymbolTable::lookupNearestSymbolFrom<func::FuncOp>(
            call, call.getCalleeAttr()));
    if (failed(built))
      status = failure();
    else
      model = std::make_unique<KernelModel>(std::move(*built));
  });
  if (succeeded(status))
    groups.emplace(plan, memory, [&](StringRef symbol) -> const KernelModel & {
      return *kernels[symbol];
    });
  return status;
}

void StepEmitter::header() {
  w.line("// A training step, written by mpt-build --target=cuda. See "
         "docs/cuda.md.");
  w.comment("Graph " + graphHash + ": " + Twine(kernels.size()) + " kernels, " +
                Twine(plan.launches.size()) + " launches, " +
                Twine(memory.bytes) + " bytes of device memory.",
            "// ");
  w.blank();
  if (!own.empty())
    w.line("#include \"mpt/CUDA/Gemm.h\"");
  if (!attention.empty())
    w.line("#include \"mpt/CUDA/HopperAttentionGrad.h\"");
  w.line("#include \"mpt/CUDA/Kernels.h\"");
  if (!memory.tables.empty())
    w.line("#include \"mpt/CUDA/Parts.h\"");
  if (usesCublasLt())
    w.line("#include \"mpt/CUDA/Products.h\"");
  w.line("#include \"mpt/CUDA/Step.h\"");
  w.blank();
  w.line("namespace {");
  w.blank();
  w.line("namespace num = mpt::num;");
  w.blank();
}

void StepEmitter::emitKernels() {
  llvm::StringMap<std::pair<StringRef, unsigned>> uses;
  for (const StepPlan::Launch &launch :
       llvm::concat<const StepPlan::Launch>(plan.launches, plan.init))
    if (launch.kind == StepPlan::LaunchKind::Kernel) {
      auto &entry = uses[cast<func::CallOp>(launch.op).getCallee()];
      if (entry.second++ == 0)
        entry.first = launch.name;
    }
  for (auto &[symbol, model] : kernels) {
    auto [first, count] = uses[symbol];
    if (count == 0)
      continue; // in groups only
    std::string text = ("For " + first).str();
    if (count > 1)
      text += " and " + std::to_string(count - 1) + " more";
    emitKernel(*model, symbol, text + ".", w);
    w.blank();
  }
  groups->emitKernels(w);
}

//===----------------------------------------------------------------------===//
// Memory
//===----------------------------------------------------------------------===//

void StepEmitter::places() {
  w.comment("Places in device memory, in bytes from its start. Those of the "
            "arena are shared by values that are never needed at once.");
  w.line("// clang-format off");
  w.line("namespace offset {");
  for (auto [index, buffer] : llvm::enumerate(memory.buffers))
    if (!buffer.name.empty() && plan.buffers[index].bytes > 0)
      w.line("constexpr size_t " + buffer.name + " = " + Twine(buffer.offset) +
             ";");
  for (const DeviceMemory::Buffer &table : memory.tables)
    w.line("constexpr size_t " + table.name + " = " + Twine(table.offset) +
           ";");
  w.line("} // namespace offset");
  w.line("// clang-format on");
  w.assign("constexpr size_t memoryBytes", Twine(memory.bytes));
  w.blank();
  w.line("mpt::Step step;");
  if (usesCublasLt())
    w.line("mpt::Products products;");
  w.blank();
  w.line("template <typename T> T *at(size_t offset) {");
  w.line("  return reinterpret_cast<T *>(step.memory() + offset);");
  w.line("}");
  w.blank();
}

//===----------------------------------------------------------------------===//
// Products
//===----------------------------------------------------------------------===//

StringRef productType(Type element) {
  if (element.isF32())
    return "F32";
  if (element.isBF16())
    return "BF16";
  if (isa<Float8E4M3FNType>(element))
    return "E4M3";
  return isa<Float8E5M2Type>(element) ? "E5M2" : "";
}
bool isFloat8(Type element) {
  return isa<Float8E4M3FNType, Float8E5M2Type>(element);
}

/// What cuBLASLt would refuse at load, in the words of the graph.
LogicalResult checkProduct(const StepPlan::Launch &launch) {
  std::string problem =
      whyNotCublasLt(cast<ProductOpInterface>(launch.op), *launch.product);
  if (problem.empty())
    return success();
  return launch.op->emitOpError()
         << "named '" << launch.name << "' " << problem;
}

LogicalResult StepEmitter::product(const StepPlan::Launch &launch) {
  if (failed(checkProduct(launch)))
    return failure();
  auto op = cast<ProductOpInterface>(launch.op);
  const ProductViews &views = *launch.product;
  auto operand = [&](const ProductView &view, Type element, bool unitRows,
                     StepPlan::Access access) {
    // Row-major if the columns follow each other, else held transposed.
    int64_t ld = unitRows ? view.columns : view.rows;
    int64_t at = memory.offsetOf(access);
    int64_t alignment = std::min<int64_t>(at ? at & -at : 256, 256);
    std::string text;
    llvm::raw_string_ostream os(text);
    os << "{Type::" << productType(element) << ", "
       << (unitRows ? "true" : "false") << ", " << ld << ", {" << view.batch[0]
       << ", " << view.batch[1] << "}, " << alignment << "}";
    return text;
  };
  bool lhsTransposed = views.lhs.columns != 1,
       rhsTransposed = views.rhs.columns != 1;
  Type lhs = elementOf(op.getLhsOperand().get());
  Type rhs = elementOf(op.getRhsOperand().get());
  if (isFloat8(lhs))
    rhsTransposed = true; // of a single row both hold
  bool fast = isFloat8(lhs) && op.getProductRole() == Role::Fprop;
  SmallVector<std::string> items{
      quoted(launch.name),
      std::to_string(views.m),
      std::to_string(views.n),
      std::to_string(views.k),
      ("{" + Twine(views.batch[0]) + ", " + Twine(views.batch[1]) + "}").str(),
      operand(views.lhs, lhs, lhsTransposed, launch.accesses[0]),
      operand(views.rhs, rhs, rhsTransposed, launch.accesses[1]),
      operand(views.result, elementOf(launch.op->getResult(0)), false,
              launch.accesses.back()),
      fast ? "true" : "false",
      "false"};
  ArrayRef<std::string> all = items;
  w.line("    {" + llvm::join(all.take_front(5), ", ") + ",");
  for (const std::string &each : all.slice(5, 3))
    w.line("     " + each + ",");
  w.line("     " + llvm::join(all.take_back(2), ", ") + "},");
  return success();
}

LogicalResult StepEmitter::products() {
  if (!own.empty())
    own.emitLoad(w);
  if (!usesCublasLt()) {
    if (!own.empty())
      w.line("void load() { loadOwn(); }");
    w.blank();
    return success();
  }
  w.comment("name, M, N, K, batch, then A, B and D as {type, held transposed, "
            "row stride, batch strides, alignment}, fast accumulation, add to "
            "D.");
  w.line("using Type = mpt::ProductType;");
  w.line("// clang-format off");
  w.line("const mpt::ProductDesc productTable[] = {");
  for (const StepPlan::Launch &launch : plan.launches)
    if (isCublasLt(launch) && failed(product(launch)))
      return failure();
  w.line("};");
  w.line("// clang-format on");
  w.blank();
  w.comment("Refuses, by name, a product that cuBLASLt does not take.");
  w.open("void load() {");
  w.line("std::string error = products.open();");
  w.line("for (const mpt::ProductDesc &product : productTable)");
  w.line("  if (error.empty())");
  w.line("    error = products.add(product);");
  w.line("if (!error.empty())");
  w.line("  mpt::fail(error);");
  if (!own.empty())
    w.line("loadOwn();");
  w.close();
  w.blank();
  return success();
}

//===----------------------------------------------------------------------===//
// Launch list
//===----------------------------------------------------------------------===//

void StepEmitter::launchKernel(const StepPlan::Launch &launch) {
  auto call = cast<func::CallOp>(launch.op);
  LaunchShape shape = getLaunchShape(*kernels[call.getCallee()]);
  SmallVector<std::string> items{
      quoted(launch.name),
      call.getCallee().str(),
      shape.gridY == 1
          ? std::to_string(shape.gridX)
          : ("dim3(" + Twine(shape.gridX) + ", " + Twine(shape.gridY) + ")")
                .str(),
      std::to_string(shape.block),
      std::to_string(shape.sharedBytes),
      "stream"};
  for (auto [i, access] : llvm::enumerate(launch.accesses)) {
    Value value = i < call.getNumOperands()
                      ? call.getOperand(i)
                      : call.getResult(i - call.getNumOperands());
    items.push_back(at(elementOf(value), access));
  }
  w.list("mpt::launch", items, ";");
}

/// A name inside a comment.
std::string safe(StringRef name) {
  std::string text = name.str();
  for (size_t at; (at = text.find("*/")) != std::string::npos;)
    text[at] = '+';
  return text;
}

void StepEmitter::launchProduct(const StepPlan::Launch &launch) {
  if (isOwnProduct(launch))
    return own.emitLaunch(launch, w);
  auto op = cast<ProductOpInterface>(launch.op);
  std::string scales[2] = {"nullptr", "nullptr"};
  if (auto scaled = dyn_cast<ScaledMatmulOp>(launch.op)) {
    Type f32 = elementOf(scaled.getY());
    unsigned next = 2;
    if (scaled.getLhsInverseScale())
      scales[0] = at(f32, launch.accesses[next++]);
    if (scaled.getRhsInverseScale())
      scales[1] = at(f32, launch.accesses[next++]);
  }
  w.list("products.run",
         {"/*" + safe(launch.name) + "*/ " + std::to_string(nextProduct++),
          at(elementOf(op.getLhsOperand().get()), launch.accesses[0]),
          at(elementOf(op.getRhsOperand().get()), launch.accesses[1]),
          at(elementOf(launch.op->getResult(0)), launch.accesses.back()),
          scales[0], scales[1], "stream"},
         ";");
}

void StepEmitter::copy(const std::string &to, const std::string &from,
                       int64_t bytes, StringRef name) {
  w.list("mpt::check",
         {"cudaMemcpyAsync(" + to + ", " + from + ", " + std::to_string(bytes) +
              ", cudaMemcpyDeviceToDevice, stream)",
          quoted(name)},
         ";");
}

void StepEmitter::launchScatter(const StepPlan::Launch &launch) {
  auto op = cast<ScatterAddOp>(launch.op);
  Type f32 = elementOf(op.getY()), id = elementOf(op.getIds());
  StepPlan::Access init = launch.accesses[0], result = launch.accesses[3];
  int64_t rows = op.getIds().getType().getNumElements();
  int64_t columns = op.getInit().getType().getDimSize(1);
  if (init.buffer != result.buffer || init.offset != result.offset)
    copy(at(f32, result), at(f32, init),
         op.getInit().getType().getNumElements() * 4, launch.name);
  w.list("mpt::launch",
         {quoted(launch.name),
          ("mpt::scatterAdd<" + memoryType(id) + ">").str(),
          std::to_string(llvm::divideCeil(columns, 128)), "128", "0", "stream",
          at(id, launch.accesses[1]), at(f32, launch.accesses[2]),
          at(f32, result), std::to_string(rows), std::to_string(columns)},
         ";");
}

void StepEmitter::launch(const StepPlan::Launch &launch) {
  Type bytes = IntegerType::get(func::FuncOp(plan.step).getContext(), 8);
  switch (launch.kind) {
  case StepPlan::LaunchKind::Kernel:
    launchKernel(launch);
    break;
  case StepPlan::LaunchKind::Product:
    launchProduct(launch);
    break;
  case StepPlan::LaunchKind::ScatterAdd:
    launchScatter(launch);
    break;
  case StepPlan::LaunchKind::Copy:
    copy(at(bytes, launch.accesses[1]), at(bytes, launch.accesses[0]),
         launch.bytes, launch.name);
    break;
  case StepPlan::LaunchKind::Fill:
    w.list("mpt::check",
           {"cudaMemsetAsync(" + at(bytes, launch.accesses[0]) + ", 0, " +
                std::to_string(launch.bytes) + ", stream)",
            quoted(launch.name)},
           ";");
    break;
  case StepPlan::LaunchKind::Attention:
  case StepPlan::LaunchKind::AttentionGrad:
    w.line(attention.launch(launch, safe(launch.name)));
    break;
  case StepPlan::LaunchKind::Group:
    groups->emitLaunch(launch, w);
    break;
  }
}

/// `launches` as functions that end in a number, and the one that calls them.
void StepEmitter::launchParts(ArrayRef<StepPlan::Launch> launches,
                              StringRef name) {
  size_t parts = llvm::divideCeil(launches.size(), kLaunchesPerPart);
  for (size_t part = 0; part < parts; ++part) {
    w.open("void " + name + Twine(part) + "(cudaStream_t stream) {");
    for (const StepPlan::Launch &each :
         launches.slice(part * kLaunchesPerPart).take_front(kLaunchesPerPart))
      launch(each);
    w.close();
    w.blank();
  }
  w.line("// clang-format on");
  w.blank();
  w.comment(name == "enqueue" ? "Queues one step; captured as a CUDA graph "
                                "when the step is opened."
                              : "Queues what computes the derived arguments.");
  if (parts == 1) {
    w.line("void " + name + "(cudaStream_t stream) { " + name + "0(stream); }");
  } else {
    w.open("void " + name + "(cudaStream_t stream) {");
    for (size_t part = 0; part < parts; ++part)
      w.line(name + Twine(part) + "(stream);");
    w.close();
  }
  w.blank();
}

void StepEmitter::launchList() {
  w.line("// clang-format off");
  w.blank();
  w.comment("The launch list: each launch ends before the next begins.");
  launchParts(plan.launches, "enqueue");
  if (plan.init.empty())
    return;
  w.line("// clang-format off");
  w.blank();
  w.comment("What computes the derived arguments from parameters and scale "
            "state.");
  launchParts(plan.init, "derive");
}

//===----------------------------------------------------------------------===//
// Tables and interface
//===----------------------------------------------------------------------===//

StringRef tensorType(Type element) {
  if (!productType(element).empty())
    return productType(element);
  switch (element.getIntOrFloatBitWidth()) {
  case 1:
    return "I1";
  case 8:
    return "I8";
  case 32:
    return "I32";
  default:
    return "I64";
  }
}

StringRef kindName(Kind kind) {
  switch (kind) {
  case Kind::Parameter:
    return "Parameter";
  case Kind::OptimizerState:
    return "OptimizerState";
  case Kind::ScaleState:
    return "ScaleState";
  case Kind::Derived:
    return "Derived";
  case Kind::Input:
    return "Input";
  case Kind::Label:
    return "Label";
  case Kind::Rng:
    return "Rng";
  case Kind::Hyper:
    return "Hyper";
  }
  llvm_unreachable("all kinds are listed");
}

/// The values of a constant as text, and their C++ type: integers where eight
/// bytes each are small ones (ids, positions), else bytes.
std::pair<StringRef, SmallVector<std::string>>
constantText(const StepPlan::Buffer &buffer) {
  SmallVector<std::string> integers, bytes;
  bool isInteger = buffer.data.size() % 8 == 0;
  for (size_t i = 0; isInteger && i < buffer.data.size(); i += 8) {
    int64_t value;
    std::memcpy(&value, buffer.data.data() + i, 8);
    isInteger = std::abs(value) < (int64_t(1) << 32);
    integers.push_back(std::to_string(value));
  }
  if (isInteger)
    return {"int64_t", integers};
  for (unsigned char byte : buffer.data)
    bytes.push_back(std::to_string(byte));
  return {"unsigned char", bytes};
}

/// Device memory is zero when the step is opened: constants of zeros are there.
bool isZero(const StepPlan::Buffer &buffer) {
  return llvm::all_of(buffer.data, [](char byte) { return byte == 0; });
}

void StepEmitter::constants() {
  SmallVector<std::string> table;
  for (auto [index, buffer] : llvm::enumerate(plan.buffers)) {
    if (buffer.kind != StepPlan::BufferKind::Constant || isZero(buffer))
      continue;
    std::string name = memory.buffers[index].name + "Data";
    auto [type, values] = constantText(buffer);
    w.initializer("const " + type + " " + name + "[]", values);
    table.push_back("{offset::" + memory.buffers[index].name + ", sizeof(" +
                    name + "), " + name + "}");
  }
  llvm::append_range(table, groups->emitTables(w));
  w.line("const std::vector<mpt::Constant> constants = {");
  for (const std::string &entry : table)
    w.line("    " + entry + ",");
  w.line("};");
  w.blank();
}

void StepEmitter::tables() {
  w.line("// clang-format off");
  w.blank();
  constants();
  w.comment(
      "Arguments and results: name, kind, type, place, elements, range of "
      "integers, and the value allowed besides.");
  w.line("const std::vector<mpt::Tensor> tensors = {");
  auto entry = [&](StringRef name, StringRef kind, RankedTensorType type,
                   std::string place, const StepPlan::Argument *argument) {
    auto range = argument && argument->range
                     ? *argument->range
                     : std::pair<int64_t, int64_t>(0, 0);
    bool ignores = argument && argument->ignoreIndex;
    w.line("    {" + quoted(name) + ", mpt::Kind::" + kind +
           ", mpt::Type::" + tensorType(type.getElementType()) + ",");
    w.line("     " + place + ", " + Twine(type.getNumElements()) + ", " +
           Twine(range.first) + ", " + Twine(range.second) + ", " +
           (ignores ? "true, " : "false, ") +
           Twine(ignores ? *argument->ignoreIndex : 0) + "},");
  };
  for (const StepPlan::Argument &argument : plan.arguments)
    entry(argument.name, kindName(argument.kind), argument.type,
          "offset::" + memory.buffers[argument.buffer].name, &argument);
  for (const StepPlan::Result &result : plan.results)
    if (!result.alias) {
      std::string place =
          "offset::" + memory.buffers[result.access.buffer].name;
      if (result.access.offset)
        place += " + " + std::to_string(result.access.offset);
      entry(result.name, "Result", result.type, place, nullptr);
    }
  w.line("};");
  w.blank();
  w.comment("For the simulator's reports.");
  w.line("const std::vector<mpt::NamedBuffer> buffers = {");
  for (auto [index, buffer] : llvm::enumerate(memory.buffers))
    if (!buffer.name.empty() && plan.buffers[index].bytes > 0)
      w.line("    {offset::" + buffer.name + ", " + Twine(buffer.bytes) +
             ", \"" + buffer.name + "\"},");
  for (const DeviceMemory::Buffer &table : memory.tables)
    w.line("    {offset::" + table.name + ", " + Twine(table.bytes) + ", \"" +
           table.name + "\"},");
  w.line("};");
  w.blank();
  w.line("// clang-format on");
  w.blank();
}

void StepEmitter::interface() {
  w.line("} // namespace");
  w.blank();
  w.line("// Functions return 0, or 1 once mpt_cuda_last_error() says why.");
  w.blank();
  w.line("extern \"C\" __attribute__((visibility(\"default\"))) const char "
         "mpt_graph_hash[] =");
  w.line("    " + quoted(graphHash) + ";");
  w.blank();
  w.open("MPT_EXPORT const char *mpt_cuda_last_error() {");
  w.line("static thread_local std::string text;");
  w.line("text = mpt::takeError();");
  w.line("return text.c_str();");
  w.close();
  w.blank();
  w.open("MPT_EXPORT int mpt_cuda_open() {");
  if (!plan.init.empty())
    w.line("step.deriveBy(derive);");
  w.list("return !step.open",
         {"memoryBytes", "tensors", "constants", "buffers",
          attention.loader(hasProducts() ? "load" : ""), "enqueue"},
         ";");
  w.close();
  w.blank();
  w.open("MPT_EXPORT void mpt_cuda_close() {");
  if (usesCublasLt())
    w.line("products.close();");
  w.line("step.close();");
  w.close();
  w.blank();
  auto access = [&](StringRef name, StringRef qualifier) {
    w.open("MPT_EXPORT int mpt_cuda_" + name + "(const char *name, " +
           qualifier + "void *data, size_t bytes) {");
    w.line("return !step." + name + "(name, data, bytes);");
    w.close();
    w.blank();
  };
  access("set", "const ");
  access("get", "");
  w.line("MPT_EXPORT int mpt_cuda_step() { return !step.run(); }");
  w.blank();
  w.line(
      "MPT_EXPORT int mpt_cuda_synchronize() { return !step.synchronize(); }");
  w.blank();
  w.comment("Device memory, laid out as in the manifest.", "// ");
  w.line("MPT_EXPORT void *mpt_cuda_memory() { return step.memory(); }");
  w.blank();
  w.comment("Steps taken, which key the random numbers.", "// ");
  w.line("MPT_EXPORT int64_t *mpt_cuda_step_number() { return "
         "&step.stepNumber(); }");
}

LogicalResult StepEmitter::run() {
  if (failed(buildModels()) || failed(own.build()))
    return failure();
  header();
  emitKernels();
  if (!own.empty())
    own.emitKernels(w);
  places();
  if (failed(products()))
    return failure();
  if (failed(attention.emit(w)))
    return failure();
  launchList();
  tables();
  interface();
  return success();
}

} // namespace

LogicalResult cuda::emitStep(const StepPlan &plan, const DeviceMemory &memory,
                             StringRef graphHash, llvm::raw_ostream &os) {
  return StepEmitter(plan, memory, graphHash, os).run();
}
