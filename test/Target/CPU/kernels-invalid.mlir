// A kernel that cannot be compiled, a CPU that nobody knows, one that is too
// old: a message each, exit code 1, no library.
// RUN: rm -rf %t && not mpt-build %s --kernels-only -o %t 2>&1 | FileCheck %s
// RUN: not ls %t/kernels.so
// RUN: not mpt-build %S/kernels.mlir --kernels-only --cpu=abacus -o %t 2>&1 | FileCheck %s --check-prefix=UNKNOWN
// RUN: not mpt-build %S/kernels.mlir --kernels-only --cpu=x86-64-v2 -o %t 2>&1 | FileCheck %s --check-prefix=OLD

// CHECK: kernels-invalid.mlir:[[#@LINE+5]]:{{.*}}error: 'mpt.matmul' op in kernel 'product' has no scalar body
// UNKNOWN: error: unknown CPU 'abacus', expected host or a name that LLVM knows
// OLD: error: CPU 'x86-64-v2' lacks 'fma', which the numerics need

func.func private @product(%x: tensor<4x4xf32>) -> tensor<4x4xf32> attributes {mpt.kernel} {
  %0 = mpt.matmul %x, %x : (tensor<4x4xf32>, tensor<4x4xf32>) -> tensor<4x4xf32>
  return %0 : tensor<4x4xf32>
}
