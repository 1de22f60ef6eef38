//===- TestKernelModel.cpp - shows the models of kernels ------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// The pass --test-mpt-kernel-model.
//
//===----------------------------------------------------------------------===//

#include "mlir/Pass/Pass.h"
#include "mpt/Dialect/MPT/Analysis/KernelModel.h"
#include "mpt/Dialect/MPT/Analysis/TestPasses.h"
#include "llvm/Support/raw_ostream.h"

using namespace mlir;
using namespace mpt;

namespace {
struct TestKernelModel : PassWrapper<TestKernelModel, OperationPass<ModuleOp>> {
  MLIR_DEFINE_EXPLICIT_INTERNAL_INLINE_TYPE_ID(TestKernelModel)

  StringRef getArgument() const final { return "test-mpt-kernel-model"; }
  StringRef getDescription() const final {
    return "print the models of kernels as remarks";
  }
  void runOnOperation() final {
    for (auto kernel : getOperation().getOps<func::FuncOp>()) {
      if (!kernel->hasAttr(kKernelAttr))
        continue;
      auto model = KernelModel::build(kernel);
      if (failed(model)) {
        signalPassFailure();
        continue;
      }
      std::string text;
      llvm::raw_string_ostream os(text);
      model->print(os);
      SmallVector<StringRef> lines;
      StringRef(text).split(lines, '\n', -1, /*KeepEmpty=*/false);
      for (StringRef line : lines)
        kernel.emitRemark() << line;
    }
  }
};
} // namespace

void mpt::registerTestKernelModelPass() { PassRegistration<TestKernelModel>(); }
