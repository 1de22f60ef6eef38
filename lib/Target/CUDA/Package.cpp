//===- Package.cpp - CUDA packages and the pipeline that leads there ------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// See Package.h. Compiling the source is the Python front end's work
// (python/mpt/cuda.py): nvcc, or g++ against the simulator.
//
//===----------------------------------------------------------------------===//

#include "mpt/Target/CUDA/Package.h"
#include "GroupEmitter.h"
#include "StepEmitter.h"
#include "mlir/Pass/PassRegistry.h"
#include "mlir/Transforms/Passes.h"
#include "mpt/Dialect/MPT/Analysis/MemoryReport.h"
#include "mpt/Dialect/MPT/IR/Signature.h"
#include "mpt/Dialect/MPT/Transforms/Passes.h"
#include "mpt/Support/OutputDirectory.h"
#include "mpt/Target/Package/ManifestWriter.h"
#include "llvm/Support/FileSystem.h"

using namespace mlir;
using namespace mpt;

void mpt::buildCUDAPipeline(OpPassManager &manager,
                            const CUDAPipelineOptions &options) {
  manager.addPass(createCanonicalizerPass());
  manager.addPass(createCSEPass());
  manager.addPass(createMaterializeFormats());
  if (options.fuseAttention)
    manager.addPass(createFormAttention());
  manager.addPass(createHoistTransposes());
  manager.addPass(createDecompose());
  manager.addPass(createKMajor());
  if (options.carryCasts)
    manager.addPass(createCarryCasts());
  manager.addPass(createCanonicalizerPass());
  manager.addPass(createCSEPass());
  manager.addPass(createFuse());
  manager.addPass(
      createChooseProducts({options.products, options.target, options.tuning}));
  if (options.epilogues)
    manager.addPass(createFuseEpilogues());
}

void mpt::registerCUDAPipeline() {
  PassPipelineRegistration<CUDAPipelineOptions>(
      "mpt-cuda-pipeline",
      "from a training step to kernels and products for the CUDA back end",
      buildCUDAPipeline);
}

static LogicalResult writeFile(Location loc, StringRef path, StringRef text) {
  std::error_code error;
  llvm::raw_fd_ostream file(path, error);
  if (!error) {
    file << text;
    file.close();
    error = file.error();
  }
  if (error)
    return emitError(loc) << "cannot write '" << path
                          << "': " << error.message();
  return success();
}

LogicalResult mpt::writeCUDAPackage(ModuleOp module,
                                    const CUDAPackageOptions &options,
                                    StringRef directory) {
  Location loc = module.getLoc();
  func::FuncOp step = getStage(module, "step", "mpt-build");
  if (!step)
    return failure();
  StepPlanOptions planning;
  planning.canGroup = cuda::canBePart;
  FailureOr<StepPlan> plan = StepPlan::build(step, planning);
  if (failed(plan))
    return failure();
  auto hash = module->getAttrOfType<StringAttr>(kGraphHashAttr);
  std::string graphHash = hash ? hash.getValue().str() : std::string(16, '0');
  cuda::DeviceMemory memory(*plan);
  std::string source, manifest;
  llvm::raw_string_ostream sourceStream(source), manifestStream(manifest);
  if (failed(cuda::emitStep(*plan, memory, graphHash, sourceStream)) ||
      failed(cuda::writeManifest(*plan, memory, graphHash, hashText(source),
                                 manifestStream)))
    return failure();
  OutputDirectory output(directory);
  if (failed(output.create(loc)) ||
      failed(writeFile(loc, output.path("step.cu"), source)) ||
      failed(writeFile(loc, output.path("manifest.json"), manifest)))
    return failure();
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
