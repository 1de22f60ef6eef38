//===- ObjectEmitter.cpp - LLVM dialect to an object file -----------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// The kernels are vectorised by construction, so LLVM only cleans up: no loop
// or SLP vectoriser, no unrolling, no contraction of floating-point ops.
//
//===----------------------------------------------------------------------===//

#include "ObjectEmitter.h"
#include "mlir/Target/LLVMIR/Dialect/Builtin/BuiltinToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Dialect/LLVMIR/LLVMToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Export.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/IR/LLVMContext.h"
#include "llvm/IR/LegacyPassManager.h"
#include "llvm/IR/Module.h"
#include "llvm/MC/TargetRegistry.h"
#include "llvm/Passes/PassBuilder.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/TargetSelect.h"
#include "llvm/Support/raw_ostream.h"
#include "llvm/Target/TargetMachine.h"
#include "llvm/TargetParser/Host.h"

using namespace mlir;
using namespace mpt;

static constexpr const char *kPipeline =
    "function(early-cse<memssa>,instcombine,simplifycfg,"
    "loop-mssa(loop-rotate,licm),instcombine,gvn,simplifycfg)";

static std::string featureString(const CPUTarget &target) {
  std::string text;
  for (StringRef feature : target.features)
    text += (text.empty() ? "+" : ",+") + feature.str();
  return text;
}

static std::unique_ptr<llvm::TargetMachine>
createMachine(const CPUTarget &target, std::string &error) {
  llvm::InitializeNativeTarget();
  llvm::InitializeNativeTargetAsmPrinter();
  llvm::Triple triple(llvm::sys::getProcessTriple());
  auto *registered = llvm::TargetRegistry::lookupTarget(triple, error);
  if (!registered)
    return nullptr;
  llvm::TargetOptions options;
  options.AllowFPOpFusion = llvm::FPOpFusion::Strict;
  return std::unique_ptr<llvm::TargetMachine>(registered->createTargetMachine(
      triple, "x86-64", featureString(target), options, llvm::Reloc::PIC_,
      std::nullopt, llvm::CodeGenOptLevel::Default));
}

static void setAttributes(llvm::Module &module, const CPUTarget &target) {
  bool wide = llvm::is_contained(target.features, "avx512f");
  for (llvm::Function &function : module) {
    if (function.isDeclaration())
      continue;
    function.addFnAttr("target-cpu", "x86-64");
    function.addFnAttr("tune-cpu", target.tune);
    function.addFnAttr("target-features", featureString(target));
    function.addFnAttr("prefer-vector-width", wide ? "512" : "256");
    function.addFnAttr("min-legal-vector-width", wide ? "512" : "256");
    function.addFnAttr(llvm::Attribute::NoUnwind);
  }
}

static void optimize(llvm::Module &module, llvm::TargetMachine &machine) {
  llvm::LoopAnalysisManager loops;
  llvm::FunctionAnalysisManager functions;
  llvm::CGSCCAnalysisManager graphs;
  llvm::ModuleAnalysisManager modules;
  llvm::PassBuilder builder(&machine);
  builder.registerModuleAnalyses(modules);
  builder.registerCGSCCAnalyses(graphs);
  builder.registerFunctionAnalyses(functions);
  builder.registerLoopAnalyses(loops);
  builder.crossRegisterProxies(loops, functions, graphs, modules);
  llvm::ModulePassManager passes;
  llvm::cantFail(builder.parsePassPipeline(passes, kPipeline));
  passes.run(module, modules);
}

/// Opens `path` for writing, or reports why not.
static std::unique_ptr<llvm::raw_fd_ostream> openFile(Location location,
                                                      StringRef path) {
  std::error_code code;
  auto file = std::make_unique<llvm::raw_fd_ostream>(path, code);
  if (!code)
    return file;
  emitError(location) << "cannot write '" << path << "': " << code.message();
  return nullptr;
}

LogicalResult cpu::emitObject(ModuleOp module, const CPUTarget &target,
                              StringRef llvmFile, StringRef objectPath) {
  Location location = module.getLoc();
  registerBuiltinDialectTranslation(*module.getContext());
  registerLLVMDialectTranslation(*module.getContext());
  llvm::LLVMContext context;
  auto translated = translateModuleToLLVMIR(module, context, "kernels");
  if (!translated)
    return emitError(location) << "kernels could not be translated to LLVM IR";
  std::string error;
  auto machine = createMachine(target, error);
  if (!machine)
    return emitError(location) << "no LLVM target: " << error;
  translated->setTargetTriple(machine->getTargetTriple());
  translated->setDataLayout(machine->createDataLayout());
  setAttributes(*translated, target);
  optimize(*translated, *machine);
  if (!llvmFile.empty()) {
    auto file = openFile(location, llvmFile);
    if (!file)
      return failure();
    translated->print(*file, nullptr);
  }
  auto object = openFile(location, objectPath);
  if (!object)
    return failure();
  llvm::legacy::PassManager codegen;
  if (machine->addPassesToEmitFile(codegen, *object, nullptr,
                                   llvm::CodeGenFileType::ObjectFile))
    return emitError(location) << "the LLVM target writes no object files";
  codegen.run(*translated);
  object->flush();
  if (object->has_error()) {
    object->clear_error();
    return emitError(location) << "cannot write '" << objectPath << "'";
  }
  return success();
}
