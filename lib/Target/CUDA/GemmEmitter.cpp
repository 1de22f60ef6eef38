//===- GemmEmitter.cpp - products of our own kernels ----------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// See GemmEmitter.h. Kernels have C linkage, so that the manifest can say what
// they are called in the machine code. Everything that a launch needs (tensor
// maps, sizes, the epilogue's pointers) is made when the package is opened.
//
//===----------------------------------------------------------------------===//

#include "GemmEmitter.h"
#include "EpilogueEmitter.h"
#include "ExpressionEmitter.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/ADT/StringSet.h"

using namespace mlir;
using namespace mpt;
using namespace mpt::cuda;

namespace {

/// Products that one function describes: compilers are not linear in the length
/// of a function.
constexpr size_t kLoadsPerPart = 64;

Type elementOf(Value value) {
  return cast<RankedTensorType>(value.getType()).getElementType();
}

StringRef formatOf(Type element) {
  if (element.isBF16())
    return "BF16";
  return isa<Float8E4M3FNType>(element) ? "E4M3" : "E5M2";
}

/// A launch as its kernel sees it.
struct Product {
  ProductOpInterface op;
  const ProductViews &views;
  OwnProduct own;
  Type lhs, rhs;

  explicit Product(const StepPlan::Launch &launch)
      : op(cast<ProductOpInterface>(launch.op)), views(*launch.product),
        own(getOwnProduct(op, views)), lhs(elementOf(op.getLhsOperand().get())),
        rhs(elementOf(op.getRhsOperand().get())) {}

  /// Elements from one row of an operand to the next, as held.
  int64_t lhsStride() const {
    return own.turnedLhs ? views.lhs.columns : views.lhs.rows;
  }
  int64_t rhsStride() const {
    return own.turnedRhs ? views.rhs.rows : views.rhs.columns;
  }
};

StringRef text(bool value) { return value ? "true" : "false"; }

} // namespace

bool cuda::isOwnProduct(const StepPlan::Launch &launch) {
  if (launch.kind != StepPlan::LaunchKind::Product)
    return false;
  auto who = launch.op->getAttrOfType<StringAttr>(kImplementationAttr);
  return who && who.getValue() == kOwn;
}

std::string cuda::getOwnKernelName(const StepPlan::Launch &launch) {
  Product product(launch);
  std::string name;
  llvm::raw_string_ostream os(name);
  os << "product_" << formatOf(product.lhs).lower()
     << (product.own.turnedLhs ? "t" : "") << "_"
     << formatOf(product.rhs).lower() << (product.own.turnedRhs ? "t" : "")
     << "_" << product.own.tileColumns;
  if (product.own.promote)
    os << "_promoted";
  if (auto fused = dyn_cast<FusedMatmulOp>(launch.op))
    os << "_" << StringRef(getEpilogueName(fused)).drop_front(9);
  return name;
}

/// The C++ type of the epilogue.
std::string GemmEmitter::epilogueOf(const Instance &instance) const {
  auto fused = dyn_cast<FusedMatmulOp>(instance.launches.front()->op);
  return "mpt::gemm::Chain<" +
         (fused ? getEpilogueName(fused) : "mpt::gemm::Store<float>") + ">";
}

LogicalResult GemmEmitter::addEpilogue(Instance &instance) {
  const StepPlan::Launch &launch = *instance.launches.front();
  auto fused = dyn_cast<FusedMatmulOp>(launch.op);
  if (!fused)
    return success();
  Epilogue epilogue =
      getEpilogue(getEpilogueFunction(fused), fused.getPosition(),
                  launch.product->m, launch.product->n);
  if (!epilogue.problem.empty())
    return fused.emitOpError()
           << "named '" << launch.name << "' cannot take in '"
           << fused.getEpilogue() << "': the kernel " << epilogue.problem;
  instance.epilogue = std::move(epilogue.model);
  return success();
}

LogicalResult GemmEmitter::build() {
  llvm::StringMap<size_t> known;
  for (const StepPlan::Launch &launch : plan.launches) {
    if (!isOwnProduct(launch))
      continue;
    auto op = cast<ProductOpInterface>(launch.op);
    std::string cannot = whyNotOwn(op, *launch.product);
    if (!cannot.empty())
      return launch.op->emitOpError()
             << "named '" << launch.name << "' is for an own kernel, but "
             << cannot;
    std::string name = getOwnKernelName(launch);
    auto [entry, isNew] = known.try_emplace(name, instances.size());
    if (isNew)
      instances.push_back({name, {}});
    Instance &instance = instances[entry->second];
    places[&launch] = {entry->second, instance.launches.size()};
    instance.launches.push_back(&launch);
    if (isNew && failed(addEpilogue(instance)))
      return failure();
  }
  return success();
}

std::string GemmEmitter::at(Type element, StepPlan::Access access) const {
  std::string text = ("at<" + memoryType(element) +
                      ">(offset::" + memory.buffers[access.buffer].name)
                         .str();
  if (access.offset)
    text += " + " + std::to_string(access.offset);
  return text + ")";
}

//===----------------------------------------------------------------------===//
// Kernels
//===----------------------------------------------------------------------===//

/// Of the types and tables that belong to a kernel.
static std::string tileOf(StringRef kernel) { return (kernel + "_tile").str(); }
static std::string callsOf(StringRef kernel) {
  return (kernel + "_calls").str();
}

void GemmEmitter::emitKernel(const Instance &instance, SourceWriter &w) const {
  const StepPlan::Launch &first = *instance.launches.front();
  Product product(first);
  std::string uses = first.name;
  if (instance.launches.size() > 1)
    uses += " and " + std::to_string(instance.launches.size() - 1) + " more";
  const OwnProduct &own = product.own;
  auto held = [](Type element, bool turned) {
    return (formatOf(element) + (turned ? " held along its rows" : "")).str();
  };
  w.comment(held(product.lhs, own.turnedLhs) + " x " +
            held(product.rhs, own.turnedRhs) + ", tiles of " +
            Twine(kOwnTileRows) + " x " + Twine(own.tileColumns) +
            (own.promote ? ", sums promoted each 128 k" : "") + ". For " +
            uses + ".");
  int64_t staging =
      instance.epilogue ? getEpilogueStaging(*instance.epilogue) : 0;
  w.line("using " + tileOf(instance.name) + " =");
  std::string a = ("num::Format::" + formatOf(product.lhs)).str();
  std::string b = ("num::Format::" + formatOf(product.rhs)).str();
  std::string config = "mpt::gemm::Config<" + a + ", " + b + ", " +
                       std::to_string(own.tileColumns) + ", " +
                       std::to_string(getStages(own, staging)) + ",";
  std::string flags = (text(own.promote) + ", " + text(own.turnedLhs) + ", " +
                       text(own.turnedRhs) + ">;")
                          .str();
  w.line("    " + config);
  w.line("                      " + flags);
  w.line("extern \"C\" __global__ void __launch_bounds__(mpt::gemm::threads, "
         "1)");
  w.list(instance.name,
         {"const __grid_constant__ mpt::TensorMap a",
          "const __grid_constant__ mpt::TensorMap b",
          "const __grid_constant__ mpt::gemm::Args args",
          "const __grid_constant__ " + epilogueOf(instance) + " epilogue"},
         " {", /*extra=*/4);
  w.enter();
  w.line("mpt::gemm::multiply<" + tileOf(instance.name) +
         ">(a, b, args, epilogue);");
  w.close();
  w.blank();
}

void GemmEmitter::emitKernels(SourceWriter &w) const {
  llvm::StringSet<> written;
  for (const Instance &instance : instances) {
    auto fused = dyn_cast<FusedMatmulOp>(instance.launches.front()->op);
    if (!fused || !written.insert(getEpilogueName(fused)).second)
      continue;
    emitEpilogue(fused, *instance.epilogue, w);
    w.blank();
  }
  w.line("} // namespace");
  w.blank();
  for (const Instance &instance : instances)
    emitKernel(instance, w);
  w.line("namespace {");
  w.blank();
}

//===----------------------------------------------------------------------===//
// Loads and launches
//===----------------------------------------------------------------------===//

void GemmEmitter::emitLoadOf(const Instance &instance, size_t index,
                             SourceWriter &w) const {
  const StepPlan::Launch &launch = *instance.launches[index];
  Product product(launch);
  unsigned next = 2;
  std::string factors[2] = {"nullptr", "nullptr"};
  for (int side : {0, 1})
    if (getInverseScale(launch.op, side))
      factors[side] = at(Float32Type::get(launch.op->getContext()),
                         launch.accesses[next++]);
  const ProductViews &views = product.views;
  std::string epilogue;
  if (auto fused = dyn_cast<FusedMatmulOp>(launch.op)) {
    SmallVector<std::string> others, results;
    for (Value other : fused.getOthers())
      others.push_back(at(elementOf(other), launch.accesses[next++]));
    for (Value result : fused.getResults())
      results.push_back(at(elementOf(result), launch.accesses[next++]));
    epilogue = getEpilogueName(fused) +
               getEpilogueValue(fused, *instance.epilogue, others, results);
  } else {
    epilogue = "mpt::gemm::Store<float>{{}, " +
               at(elementOf(launch.op->getResult(0)), launch.accesses.back()) +
               ", " + std::to_string(views.result.rows) + "}";
  }
  w.list("mpt::gemm::load<" + tileOf(instance.name) + ">",
         {callsOf(instance.name) + "[" + std::to_string(index) + "]",
          quoted(launch.name), at(product.lhs, launch.accesses[0]),
          std::to_string(product.lhsStride()),
          at(product.rhs, launch.accesses[1]),
          std::to_string(product.rhsStride()),
          ("{" + Twine(views.m) + ", " + Twine(views.n) + ", " +
           Twine(views.k) + ", 1.0f, " + factors[0] + ", " + factors[1] + "}")
              .str(),
          "mpt::gemm::chain(" + epilogue + ")"},
         ";");
}

void GemmEmitter::emitLoad(SourceWriter &w) const {
  w.comment("Products of own kernels: operands, sizes and epilogue of each.");
  w.line("// clang-format off");
  for (const Instance &instance : instances)
    w.line("mpt::gemm::Product<" + epilogueOf(instance) + "> " +
           callsOf(instance.name) + "[" + Twine(instance.launches.size()) +
           "];");
  size_t count = 0, parts = 0;
  for (const Instance &instance : instances)
    for (size_t i = 0; i < instance.launches.size(); ++i) {
      if (count++ % kLoadsPerPart == 0) {
        if (parts)
          w.close();
        w.open("void loadOwn" + Twine(parts++) + "() {");
      }
      emitLoadOf(instance, i, w);
    }
  w.close();
  w.line("// clang-format on");
  w.blank();
  w.comment("Describes the products of own kernels to the copy engine.");
  w.open("void loadOwn() {");
  for (size_t part = 0; part < parts; ++part)
    w.line("loadOwn" + Twine(part) + "();");
  w.close();
  w.blank();
}

void GemmEmitter::emitLaunch(const StepPlan::Launch &launch,
                             SourceWriter &w) const {
  auto [instance, index] = places.lookup(&launch);
  const std::string &name = instances[instance].name;
  w.list("mpt::gemm::run<" + tileOf(name) + ">",
         {quoted(launch.name), name,
          callsOf(name) + "[" + std::to_string(index) + "]", "stream"},
         ";");
}
