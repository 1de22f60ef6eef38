//===- CPUTarget.cpp - CPUs, and kernels to a shared library --------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Resolves the CPU to generate code for, drives the emission of a module's
// kernels, and links them.
//
//===----------------------------------------------------------------------===//

#include "mpt/Target/CPU/CPUTarget.h"
#include "KernelEmitter.h"
#include "ObjectEmitter.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/IR/Diagnostics.h"
#include "llvm/ADT/StringSet.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Program.h"
#include "llvm/TargetParser/Host.h"
#include "llvm/TargetParser/Triple.h"
#include "llvm/TargetParser/X86TargetParser.h"

using namespace mlir;
using namespace mpt;

//===----------------------------------------------------------------------===//
// CPUs
//===----------------------------------------------------------------------===//

/// The features that our code can profit from: a package asks for no others.
static constexpr StringLiteral kUsedFeatures[] = {
    "sse3",    "ssse3",    "sse4.1",   "sse4.2",   "popcnt",  "avx",
    "avx2",    "bmi",      "bmi2",     "fma",      "f16c",    "lzcnt",
    "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"};

FailureOr<CPUTarget> mpt::resolveCPU(Location location, StringRef cpu) {
  llvm::Triple triple(llvm::sys::getProcessTriple());
  if (triple.getArch() != llvm::Triple::x86_64)
    return emitError(location)
           << "target architecture '" << triple.getArchName()
           << "' is not supported, expected x86_64";
  CPUTarget target;
  target.arch = "x86_64";
  llvm::StringSet<> available;
  if (cpu == "host") {
    target.tune = llvm::sys::getHostCPUName().str();
    for (auto &feature : llvm::sys::getHostCPUFeatures())
      if (feature.second)
        available.insert(feature.first());
  } else {
    if (llvm::X86::parseArchX86(cpu, /*Only64Bit=*/true) == llvm::X86::CK_None)
      return emitError(location)
             << "unknown CPU '" << cpu
             << "', expected host or a name that LLVM knows, such as x86-64-v4";
    SmallVector<StringRef> features;
    llvm::X86::getFeaturesForCPU(cpu, features);
    for (StringRef feature : features)
      available.insert(feature);
    target.tune = cpu.starts_with("x86-64") ? "generic" : cpu.str();
  }
  for (StringRef feature : kUsedFeatures)
    if (available.contains(feature))
      target.features.push_back(feature.str());
  if (!available.contains("fma"))
    return emitError(location)
           << "CPU '" << cpu << "' lacks 'fma', which the numerics need";
  return target;
}

//===----------------------------------------------------------------------===//
// Kernels
//===----------------------------------------------------------------------===//

const CPUKernel *CPUKernelLibrary::find(StringRef name) const {
  for (const CPUKernel &kernel : kernels)
    if (kernel.name == name)
      return &kernel;
  return nullptr;
}

static void emitHash(ModuleOp module, StringRef hash) {
  OpBuilder b = OpBuilder::atBlockEnd(module.getBody());
  std::string text = hash.str();
  text.push_back('\0');
  auto type = LLVM::LLVMArrayType::get(b.getI8Type(), text.size());
  LLVM::GlobalOp::create(b, module.getLoc(), type, /*isConstant=*/true,
                         LLVM::Linkage::External, "mpt_graph_hash",
                         b.getStringAttr(text));
}

FailureOr<CPUKernelLibrary> mpt::emitCPUKernels(ModuleOp module,
                                                const CPUTargetOptions &options,
                                                StringRef objectPath) {
  CPUKernelLibrary library;
  auto target = resolveCPU(module.getLoc(), options.cpu);
  if (failed(target))
    return failure();
  library.target = *target;
  MLIRContext *context = module.getContext();
  context->getOrLoadDialect<LLVM::LLVMDialect>();
  OwningOpRef<ModuleOp> lowered = ModuleOp::create(module.getLoc());
  bool valid = true;
  for (auto function : module.getOps<func::FuncOp>()) {
    if (!function->hasAttr(kKernelAttr))
      continue;
    auto model = KernelModel::build(function);
    if (failed(model)) {
      valid = false;
      continue;
    }
    cpu::emitKernel(*model, *lowered);
    CPUKernel kernel;
    kernel.name = function.getName().str();
    kernel.tasks = model->tasks;
    kernel.stackBytes = cpu::getStackBytes(*model);
    kernel.model = std::move(*model);
    library.kernels.push_back(std::move(kernel));
  }
  if (!valid)
    return failure();
  emitHash(*lowered, options.graphHash);
  if (failed(cpu::emitObject(*lowered, library.target, options.llvmFile,
                             objectPath)))
    return failure();
  return library;
}

LogicalResult mpt::linkCPULibrary(Location location, StringRef objectPath,
                                  StringRef libraryPath) {
  static constexpr StringLiteral linkers[] = {
      "ld.lld-22", "ld.lld", "ld", "clang-22", "clang", "gcc", "cc"};
  for (StringRef name : linkers) {
    auto program = llvm::sys::findProgramByName(name);
    if (!program)
      continue;
    SmallVector<StringRef> arguments{name, "-shared", "-o", libraryPath,
                                     objectPath};
    if (!name.starts_with("ld"))
      arguments.push_back("-nostdlib");
    std::string error;
    int status =
        llvm::sys::ExecuteAndWait(*program, arguments, std::nullopt, {},
                                  /*SecondsToWait=*/60, 0, &error);
    if (status == 0)
      return success();
    return emitError(location) << "linker '" << *program << "' failed on '"
                               << objectPath << "' with status " << status
                               << (error.empty() ? "" : ": ") << error;
  }
  return emitError(location)
         << "no linker found on PATH, expected one of ld.lld-22, ld.lld, ld, "
            "clang-22, clang, gcc, cc: install lld or a C compiler";
}

FailureOr<CPUKernelLibrary>
mpt::buildCPULibrary(ModuleOp module, const CPUTargetOptions &options,
                     StringRef libraryPath) {
  std::string objectPath = (libraryPath + ".o").str();
  auto library = emitCPUKernels(module, options, objectPath);
  LogicalResult linked = failure();
  if (succeeded(library))
    linked = linkCPULibrary(module.getLoc(), objectPath, libraryPath);
  llvm::sys::fs::remove(objectPath);
  if (failed(linked))
    return failure();
  return library;
}
