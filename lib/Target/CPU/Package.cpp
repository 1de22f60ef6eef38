//===- Package.cpp - CPU packages and the pipeline that leads there -------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// See Package.h.
//
//===----------------------------------------------------------------------===//

#include "mpt/Target/CPU/Package.h"
#include "mlir/Pass/PassRegistry.h"
#include "mlir/Transforms/Passes.h"
#include "mpt/Dialect/MPT/Analysis/MemoryReport.h"
#include "mpt/Dialect/MPT/IR/Signature.h"
#include "mpt/Dialect/MPT/Transforms/Passes.h"
#include "mpt/Support/OutputDirectory.h"
#include "mpt/Target/CPU/CPUTarget.h"
#include "mpt/Target/CPU/Manifest.h"
#include "mpt/Target/Package/ManifestWriter.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MemoryBuffer.h"

using namespace mlir;
using namespace mpt;

void mpt::buildCPUPipeline(OpPassManager &manager, bool carryCasts) {
  manager.addPass(createCanonicalizerPass());
  manager.addPass(createCSEPass());
  manager.addPass(createMaterializeFormats());
  if (carryCasts)
    manager.addPass(createCarryCasts());
  manager.addPass(createEmulateProducts());
  manager.addPass(createDecompose());
  manager.addPass(createCanonicalizerPass());
  manager.addPass(createCSEPass());
  manager.addPass(createFuse());
}

void mpt::registerCPUPipeline() {
  PassPipelineRegistration<StepPipelineOptions>(
      "mpt-cpu-pipeline",
      "from a training step to kernels and products for the CPU back end",
      [](OpPassManager &manager, const StepPipelineOptions &options) {
        buildCPUPipeline(manager, options.carryCasts);
      });
}

/// The hash of a file's bytes.
static FailureOr<std::string> hashFile(Location loc, StringRef path) {
  auto buffer = llvm::MemoryBuffer::getFile(path, /*IsText=*/false,
                                            /*RequiresNullTerminator=*/false);
  if (!buffer)
    return emitError(loc) << "cannot read '" << path
                          << "': " << buffer.getError().message();
  return hashText((*buffer)->getBuffer());
}

LogicalResult mpt::writeCPUPackage(ModuleOp module,
                                   const CPUPackageOptions &options,
                                   StringRef directory) {
  Location loc = module.getLoc();
  func::FuncOp step = getStage(module, "step", "mpt-build");
  if (!step)
    return failure();
  FailureOr<StepPlan> plan = StepPlan::build(step);
  if (failed(plan))
    return failure();
  OutputDirectory output(directory);
  if (failed(output.create(loc)))
    return failure();

  ManifestInfo info;
  info.engine = options.engine;
  auto hash = module->getAttrOfType<StringAttr>(kGraphHashAttr);
  info.graphHash = hash ? hash.getValue().str() : std::string(16, '0');
  CPUTargetOptions target;
  target.cpu = options.cpu;
  target.graphHash = info.graphHash;
  std::string library = output.path("kernels.so");
  FailureOr<CPUKernelLibrary> kernels =
      buildCPULibrary(module, target, library);
  if (failed(kernels))
    return failure();
  info.cpuFeatures.assign(kernels->target.features.begin(),
                          kernels->target.features.end());
  FailureOr<std::string> kernelsHash = hashFile(loc, library);
  if (failed(kernelsHash))
    return failure();
  info.kernelsHash = *kernelsHash;

  std::error_code error;
  llvm::raw_fd_ostream manifest(output.path("manifest.json"), error);
  if (error)
    return emitError(loc) << "cannot write '" << output.path("manifest.json")
                          << "': " << error.message();
  if (failed(writeManifest(*plan, info, manifest)))
    return failure();
  manifest.close();
  if (manifest.has_error())
    return emitError(loc) << "cannot write '" << output.path("manifest.json")
                          << "': " << manifest.error().message();
  if (!options.weights.empty())
    if (std::error_code copied = llvm::sys::fs::copy_file(
            options.weights, output.path("init.safetensors")))
      return emitError(loc) << "cannot copy weights '" << options.weights
                            << "': " << copied.message();
  if (failed(output.commit(loc)))
    return failure();
  if (options.report)
    MemoryReport::of(*plan).print(*options.report);
  return success();
}
