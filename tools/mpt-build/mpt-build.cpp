//===- mpt-build.cpp - compiles a step into a package ---------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// mpt-build step.mlir --target=cpu -o DIR. With --kernels-only, the kernel
// functions of a module and nothing else: DIR/kernels.so and DIR/kernels.json.
//
//===----------------------------------------------------------------------===//

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Parser/Parser.h"
#include "mlir/Pass/PassManager.h"
#include "mpt/Dialect/MPT/IR/MPTDialect.h"
#include "mpt/Target/CPU/CPUTarget.h"
#include "mpt/Target/CPU/Package.h"
#include "mpt/Target/CUDA/Package.h"
#include "llvm/Support/CommandLine.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/InitLLVM.h"
#include "llvm/Support/JSON.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/SourceMgr.h"
#include "llvm/Support/raw_ostream.h"

namespace cl = llvm::cl;

static cl::OptionCategory category("mpt-build options");
static cl::opt<std::string> inputFile(cl::Positional, cl::Required,
                                      cl::desc("<step.mlir>"),
                                      cl::cat(category));
static cl::opt<std::string> outputDir("o", cl::Required,
                                      cl::desc("directory of the package"),
                                      cl::value_desc("DIR"), cl::cat(category));
static cl::opt<std::string> cpuName("cpu", cl::init("host"),
                                    cl::desc("CPU to compile for: host, or a "
                                             "name such as x86-64-v4"),
                                    cl::cat(category));
static cl::opt<bool> kernelsOnly("kernels-only",
                                 cl::desc("compile the kernel functions only"),
                                 cl::cat(category));
static cl::opt<std::string>
    targetName("target", cl::init("cpu"),
               cl::desc("what the package runs on: cpu\n"
                        "or cuda"),
               cl::cat(category));
static cl::opt<std::string> engine("engine", cl::init("blas"),
                                   cl::desc("CPU products: blas or reference"),
                                   cl::cat(category));
static cl::opt<mpt::ProductEngine> products(
    "products", cl::init(mpt::ProductEngine::Auto), cl::desc("CUDA products:"),
    cl::values(
        clEnumValN(mpt::ProductEngine::Own, "own",
                   "our kernels, but for products that they do not take"),
        clEnumValN(mpt::ProductEngine::CublasLt, "cublaslt", "cuBLASLt"),
        clEnumValN(mpt::ProductEngine::Auto, "auto",
                   "the faster one, as measured or predicted")),
    cl::cat(category));
static cl::opt<bool>
    epilogues("epilogues", cl::init(true),
              cl::desc("our products take in the kernels behind them"),
              cl::cat(category));
static cl::opt<std::string>
    gpuName("gpu", cl::init(mpt::precision::kDefaultTarget),
            cl::desc("GPU that --products=auto predicts for (h200, h100, or "
                     "the path of a description)"),
            cl::cat(category));
static cl::opt<std::string>
    tuningFile("tuning",
               cl::desc("measured times of products, for --products=auto"),
               cl::value_desc("FILE"), cl::cat(category));
static cl::opt<bool> fuseAttention(
    "fuse-attention", cl::init(true),
    cl::desc("CUDA: attention in BF16 in one kernel that stores no scores"),
    cl::cat(category));
static cl::opt<std::string>
    weightsFile("weights",
                cl::desc("initial parameters (default: the safetensors file "
                         "beside the input, if there is one)"),
                cl::cat(category));
static cl::opt<bool> carryCasts(
    "carry-casts",
    cl::desc("keep low copies of parameters between steps (mpt-carry-casts)"),
    cl::cat(category));
static cl::opt<bool>
    keepLLVM("emit-llvm", cl::desc("also leave kernels.ll in the directory"),
             cl::cat(category));

static llvm::json::Value describe(mlir::Type type) {
  auto tensor = llvm::cast<mlir::RankedTensorType>(type);
  std::string dtype;
  llvm::raw_string_ostream(dtype) << tensor.getElementType();
  return llvm::json::Object{{"dtype", dtype},
                            {"shape", llvm::json::Array(tensor.getShape())}};
}

static llvm::json::Value describe(const mpt::CPUKernel &kernel) {
  mlir::func::FuncOp function = kernel.model.function;
  llvm::json::Array arguments, results;
  for (mlir::Type type : function.getArgumentTypes())
    arguments.push_back(describe(type));
  for (mlir::Type type : function.getResultTypes())
    results.push_back(describe(type));
  return llvm::json::Object{{"symbol", kernel.name},
                            {"tasks", kernel.tasks},
                            {"stack_bytes", kernel.stackBytes},
                            {"arguments", std::move(arguments)},
                            {"results", std::move(results)}};
}

static mlir::LogicalResult buildKernels(mlir::ModuleOp module) {
  mpt::CPUTargetOptions options;
  options.cpu = cpuName;
  if (keepLLVM)
    options.llvmFile = outputDir + "/kernels.ll";
  auto library =
      mpt::buildCPULibrary(module, options, outputDir + "/kernels.so");
  if (failed(library))
    return mlir::failure();
  llvm::json::Array kernels;
  for (const mpt::CPUKernel &kernel : library->kernels)
    kernels.push_back(describe(kernel));
  llvm::json::Object root{
      {"cpu", llvm::json::Object{{"arch", library->target.arch},
                                 {"features", llvm::json::Array(
                                                  library->target.features)}}},
      {"kernels", std::move(kernels)}};
  std::error_code error;
  std::string path = outputDir + "/kernels.json";
  llvm::raw_fd_ostream file(path, error);
  if (error)
    return mlir::emitError(module.getLoc())
           << "cannot write '" << path << "': " << error.message();
  file << llvm::formatv("{0:2}", llvm::json::Value(std::move(root))) << '\n';
  return mlir::success();
}

/// The weights to package: the option, or what lies beside the input.
static std::string findWeights() {
  if (!weightsFile.empty())
    return weightsFile;
  llvm::SmallString<128> beside(inputFile);
  llvm::sys::path::replace_extension(beside, "safetensors");
  return llvm::sys::fs::exists(beside) ? beside.str().str() : std::string();
}

static mlir::LogicalResult buildCUDAPackage(mlir::ModuleOp module) {
  mlir::PassManager manager(module.getContext());
  mpt::CUDAPipelineOptions options;
  options.products = products;
  options.target = gpuName;
  options.tuning = tuningFile;
  options.epilogues = epilogues;
  options.fuseAttention = fuseAttention;
  options.carryCasts = carryCasts;
  mpt::buildCUDAPipeline(manager, options);
  if (failed(manager.run(module)))
    return mlir::failure();
  return mpt::writeCUDAPackage(module, {findWeights(), &llvm::outs()},
                               outputDir);
}

static mlir::LogicalResult buildPackage(mlir::ModuleOp module) {
  if (targetName == "cuda")
    return buildCUDAPackage(module);
  if (targetName != "cpu")
    return mlir::emitError(module.getLoc())
           << "unknown target '" << targetName << "', expected cpu or cuda";
  if (engine != "blas" && engine != "reference")
    return mlir::emitError(module.getLoc())
           << "unknown engine '" << engine << "', expected blas or reference";
  mlir::PassManager manager(module.getContext());
  mpt::buildCPUPipeline(manager, carryCasts);
  if (failed(manager.run(module)))
    return mlir::failure();
  return mpt::writeCPUPackage(
      module, {engine, cpuName, findWeights(), &llvm::outs()}, outputDir);
}

static mlir::LogicalResult buildKernelsInto(mlir::ModuleOp module) {
  if (targetName == "cuda")
    return mpt::writeCUDAKernels(module, outputDir);
  if (std::error_code error = llvm::sys::fs::create_directories(outputDir))
    return mlir::emitError(module.getLoc())
           << "cannot create '" << outputDir.getValue()
           << "': " << error.message();
  return buildKernels(module);
}

int main(int argc, char **argv) {
  llvm::InitLLVM init(argc, argv);
  cl::HideUnrelatedOptions(category);
  cl::ParseCommandLineOptions(argc, argv, "mpt package builder\n");
  mlir::DialectRegistry registry;
  registry.insert<mlir::func::FuncDialect, mpt::MPTDialect>();
  mlir::MLIRContext context(registry);
  llvm::SourceMgr sources;
  mlir::SourceMgrDiagnosticHandler handler(sources, &context);
  auto module =
      mlir::parseSourceFile<mlir::ModuleOp>(inputFile, sources, &context);
  if (!module)
    return 1;
  return failed(kernelsOnly ? buildKernelsInto(*module)
                            : buildPackage(*module));
}
