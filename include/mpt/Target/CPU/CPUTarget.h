//===- CPUTarget.h - kernels as a shared library for one CPU --------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// From kernel functions on tensors to object code: model, LLVM dialect, LLVM
// IR, object file, shared library. Why not through linalg and bufferization is
// argued in docs/rationale-cpu-kernels.md.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_TARGET_CPU_CPUTARGET_H
#define MPT_TARGET_CPU_CPUTARGET_H

#include "mlir/IR/BuiltinOps.h"
#include "mpt/Dialect/MPT/Analysis/KernelModel.h"
#include <string>
#include <vector>

namespace mpt {

struct CPUTargetOptions {
  /// "host", or a name that LLVM knows ("x86-64-v3", "znver4").
  std::string cpu = "host";
  /// Exported as `const char mpt_graph_hash[]`.
  std::string graphHash;
  /// If set, the optimized LLVM IR is written there, for people.
  std::string llvmFile;
};

/// A CPU that code is generated for.
struct CPUTarget {
  std::string arch; ///< "x86_64"
  std::string tune; ///< whose latencies to assume
  /// Features that the code may use, by LLVM's names: what a machine must have
  /// to load the package.
  llvm::SmallVector<std::string> features;
};

/// Resolves a CPU's name; reports unknown names, architectures other than
/// x86-64 and CPUs without fused multiply-add, at `location`.
mlir::FailureOr<CPUTarget> resolveCPU(mlir::Location location,
                                      llvm::StringRef cpu);

/// What a launch needs to know of a kernel, besides its function's type:
/// `void name(void *const *args, int64_t begin, int64_t end)` runs tasks
/// [begin, end), args being the arguments, then the results.
struct CPUKernel {
  std::string name;
  int64_t tasks = 1;
  /// Stack that one call takes for row buffers, in bytes.
  int64_t stackBytes = 0;
  KernelModel model;
};

struct CPUKernelLibrary {
  CPUTarget target;
  std::vector<CPUKernel> kernels;

  const CPUKernel *find(llvm::StringRef name) const;
};

/// Compiles every function with `mpt.kernel` of `module` into the object file
/// `objectPath`. Reports what cannot be compiled on the op in question.
mlir::FailureOr<CPUKernelLibrary>
emitCPUKernels(mlir::ModuleOp module, const CPUTargetOptions &options,
               llvm::StringRef objectPath);

/// Links the object into a shared library with the first linker found (ld.lld,
/// or a C compiler).
mlir::LogicalResult linkCPULibrary(mlir::Location location,
                                   llvm::StringRef objectPath,
                                   llvm::StringRef libraryPath);

/// Both steps; the object file lies beside the library and is removed.
mlir::FailureOr<CPUKernelLibrary>
buildCPULibrary(mlir::ModuleOp module, const CPUTargetOptions &options,
                llvm::StringRef libraryPath);

} // namespace mpt

#endif // MPT_TARGET_CPU_CPUTARGET_H
