//===- KernelLibrary.cpp - kernels of a module, without a step ------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// For tests and for reading: every kernel function of a module as CUDA, each
// with a launcher that takes pointers to device memory as the CPU's does.
//
//===----------------------------------------------------------------------===//

#include "ExpressionEmitter.h"
#include "KernelEmitter.h"
#include "mpt/Support/OutputDirectory.h"
#include "mpt/Target/CUDA/Package.h"

using namespace mlir;
using namespace mpt;
using namespace mpt::cuda;

/// `int name(void *const *args)`: arguments, then results, in device memory.
static void emitLauncher(const KernelModel &model, SourceWriter &w) {
  func::FuncOp kernel = model.function;
  LaunchShape shape = getLaunchShape(model);
  SmallVector<std::string> items{
      ("\"" + kernel.getName() + "\"").str(),
      (kernel.getName() + "_kernel").str(),
      shape.gridY == 1
          ? std::to_string(shape.gridX)
          : ("dim3(" + Twine(shape.gridX) + ", " + Twine(shape.gridY) + ")")
                .str(),
      std::to_string(shape.block),
      std::to_string(shape.sharedBytes),
      "nullptr"};
  SmallVector<Type> types(kernel.getArgumentTypes());
  llvm::append_range(types, kernel.getResultTypes());
  for (auto [i, type] : llvm::enumerate(types)) {
    StringRef memory =
        memoryType(cast<RankedTensorType>(type).getElementType());
    items.push_back(
        ("static_cast<" + memory + " *>(args[" + Twine(i) + "])").str());
  }
  w.open("MPT_EXPORT int " + kernel.getName() + "(void *const *args) {");
  w.list("mpt::launch", items, ";");
  w.line("mpt::check(cudaDeviceSynchronize(), \"" + kernel.getName() + "\");");
  w.line("return mpt::failed();");
  w.close();
}

LogicalResult mpt::writeCUDAKernels(ModuleOp module, StringRef directory) {
  std::string text;
  llvm::raw_string_ostream os(text);
  SourceWriter w(os);
  w.line("#include \"mpt/CUDA/Kernels.h\"");
  w.blank();
  w.line("namespace num = mpt::num;");
  w.blank();
  w.open("MPT_EXPORT const char *mpt_cuda_last_error() {");
  w.line("static thread_local std::string text;");
  w.line("text = mpt::takeError();");
  w.line("return text.c_str();");
  w.close();
  w.blank();
  w.open("MPT_EXPORT void *mpt_cuda_allocate(size_t bytes) {");
  w.line("void *memory = nullptr;");
  w.line("mpt::check(cudaMalloc(&memory, bytes), \"allocate\");");
  w.line("return memory;");
  w.close();
  bool valid = true;
  for (auto function : module.getOps<func::FuncOp>()) {
    if (!function->hasAttr(kKernelAttr))
      continue;
    auto model = KernelModel::build(function);
    if (failed(model)) {
      valid = false;
      continue;
    }
    w.blank();
    emitKernel(*model, (function.getName() + "_kernel").str(), "", w);
    w.blank();
    emitLauncher(*model, w);
  }
  OutputDirectory output(directory);
  if (!valid || failed(output.create(module.getLoc())))
    return failure();
  std::error_code error;
  llvm::raw_fd_ostream file(output.path("kernels.cu"), error);
  if (!error) {
    file << text;
    file.close();
    error = file.error();
  }
  if (error)
    return emitError(module.getLoc())
           << "cannot write '" << output.path("kernels.cu")
           << "': " << error.message();
  return output.commit(module.getLoc());
}
