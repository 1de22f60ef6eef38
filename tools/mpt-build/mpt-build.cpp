//===- mpt-build.cpp - from a graph to a package ---------------------------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Lowers a training step and writes the package of one target.
//
//===----------------------------------------------------------------------===//

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/MLIRContext.h"
#include "mlir/Parser/Parser.h"
#include "mlir/Pass/PassManager.h"
#include "mpt/Dialect/MPT/IR/MPTDialect.h"
#include "mpt/Target/CPU/CPUTarget.h"
#include "mpt/Target/CPU/Package.h"
#include "llvm/Support/CommandLine.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/InitLLVM.h"
#include "llvm/Support/Path.h"

namespace cl = llvm::cl;
using namespace mlir;

namespace {
enum class Target { CPU };

cl::OptionCategory category("mpt-build options");
cl::opt<std::string> input(cl::Positional, cl::desc("<step.mlir>"), cl::Required,
                           cl::cat(category));
cl::opt<std::string> output("o", cl::desc("Package directory"),
                            cl::value_desc("directory"), cl::Required,
                            cl::cat(category));
cl::opt<Target> target("target", cl::desc("What the package runs on"),
                       cl::values(clEnumValN(Target::CPU, "cpu", "this CPU")),
                       cl::init(Target::CPU), cl::cat(category));
cl::opt<std::string> engine("engine", cl::desc("CPU products: blas or reference"),
                            cl::init("blas"), cl::cat(category));
cl::opt<std::string> cpu("cpu", cl::desc("CPU to compile for"), cl::init("host"),
                         cl::cat(category));
cl::opt<std::string>
    weights("weights",
            cl::desc("Initial parameters (default: the safetensors file beside the "
                     "input, if there is one)"),
            cl::cat(category));
cl::opt<bool> kernelsOnly("kernels-only",
                          cl::desc("Compile the input's kernel functions to "
                                   "kernels.so and nothing else"),
                          cl::cat(category));

/// The weights to package: the option, or what lies beside the input.
std::string findWeights() {
  if (!weights.empty())
    return weights;
  llvm::SmallString<128> beside(input);
  llvm::sys::path::replace_extension(beside, "safetensors");
  return llvm::sys::fs::exists(beside) ? beside.str().str() : std::string();
}

LogicalResult buildKernels(ModuleOp module) {
  mpt::CPUTargetOptions options;
  options.cpu = cpu;
  if (std::error_code error = llvm::sys::fs::create_directories(output))
    return module.emitError() << "cannot create '" << output
                              << "': " << error.message();
  llvm::SmallString<128> library(output);
  llvm::sys::path::append(library, "kernels.so");
  return mpt::buildCPULibrary(module, options, library);
}

LogicalResult build(ModuleOp module) {
  if (kernelsOnly)
    return buildKernels(module);
  if (engine != "blas" && engine != "reference")
    return module.emitError() << "unknown engine '" << engine
                              << "', expected blas or reference";
  PassManager manager(module.getContext());
  mpt::buildCPUPipeline(manager);
  if (failed(manager.run(module)))
    return failure();
  return mpt::writeCPUPackage(module, {engine, cpu, findWeights()}, output);
}
} // namespace

int main(int argc, char **argv) {
  llvm::InitLLVM init(argc, argv);
  cl::HideUnrelatedOptions(category);
  cl::ParseCommandLineOptions(argc, argv, "mpt package builder\n");
  DialectRegistry registry;
  registry.insert<func::FuncDialect, mpt::MPTDialect>();
  MLIRContext context(registry);
  OwningOpRef<ModuleOp> module = parseSourceFile<ModuleOp>(input, &context);
  return module && succeeded(build(*module)) ? 0 : 1;
}
