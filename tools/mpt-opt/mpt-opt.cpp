//===- mpt-opt.cpp - runs passes on graphs in text form ---------------------------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// The optimizer driver: every pass and pipeline of mpt, and upstream's cleanups.
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

int main(int argc, char **argv) {
  mlir::DialectRegistry registry;
  registry.insert<mlir::func::FuncDialect, mpt::MPTDialect>();
  mlir::registerCanonicalizerPass();
  mlir::registerCSEPass();
  mpt::registerMPTPasses();
  mpt::registerCPUPipeline();
  mpt::registerCUDAPipeline();
  mpt::registerTestKernelModelPass();
  return mlir::asMainReturnCode(
      mlir::MlirOptMain(argc, argv, "mpt optimizer driver\n", registry));
}
