//===- mpt-opt.cpp - runs passes on graphs in text form -------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// The optimizer driver: every pass and pipeline of mpt, and upstream's
// cleanups.
//
//===----------------------------------------------------------------------===//

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Tools/mlir-opt/MlirOptMain.h"
#include "mlir/Transforms/Passes.h"
#include "mpt/Dialect/MPT/Analysis/TestPasses.h"
#include "mpt/Dialect/MPT/IR/MPTDialect.h"
#include "mpt/Dialect/MPT/Transforms/Passes.h"
#include "mpt/Target/CPU/Package.h"
#include "mpt/Target/CUDA/Package.h"

/// The command line with the op left out of diagnostics unless asked for: an
/// error about a step would print the whole step.
static std::vector<char *> quietArguments(int argc, char **argv) {
  static char quiet[] = "--mlir-print-op-on-diagnostic=false";
  std::vector<char *> arguments(argv, argv + argc);
  bool given = llvm::any_of(arguments, [](llvm::StringRef argument) {
    return argument.contains("mlir-print-op-on-diagnostic");
  });
  if (!given)
    arguments.insert(arguments.begin() + 1, quiet);
  return arguments;
}

int main(int argc, char **argv) {
  mlir::DialectRegistry registry;
  registry.insert<mlir::func::FuncDialect, mpt::MPTDialect>();
  mlir::registerCanonicalizerPass();
  mlir::registerCSEPass();
  mpt::registerMPTPasses();
  mpt::registerCPUPipeline();
  mpt::registerCUDAPipeline();
  mpt::registerTestKernelModelPass();
  std::vector<char *> arguments = quietArguments(argc, argv);
  return mlir::asMainReturnCode(mlir::MlirOptMain(
      arguments.size(), arguments.data(), "mpt optimizer driver\n", registry));
}
