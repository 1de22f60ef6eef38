// Elementwise and row-wise ops that feed each other become one kernel; layers
// share kernels; products stay.
// RUN: mpt-opt %s --mpt-decompose --canonicalize --cse --mpt-fuse -split-input-file | FileCheck %s

// Two layers, one kernel each for bias + GELU: the same function.
// CHECK-LABEL: func.func @step
// CHECK: mpt.matmul
// CHECK: call @kernel_0({{.*}}) {mpt.name = "a.bias"}
// CHECK: mpt.matmul
// CHECK: call @kernel_0({{.*}}) {mpt.name = "b.bias"}
// CHECK: func.func private @kernel_0(%arg0: tensor<4x8xf32>, %arg1: tensor<8xf32>) -> tensor<4x8xf32> attributes {mpt.kernel}
// CHECK-NEXT: mpt.add %arg0, %arg1
// CHECK-NEXT: mpt.gelu
// CHECK-NEXT: return
// CHECK-NOT: @kernel_1
func.func @step(%x: tensor<4x8xf32>, %w: tensor<8x8xf32>, %b: tensor<8xf32>) -> tensor<4x8xf32> {
  %0 = mpt.matmul %x, %w {mpt.name = "a"} : (tensor<4x8xf32>, tensor<8x8xf32>) -> tensor<4x8xf32>
  %1 = mpt.add %0, %b {mpt.name = "a.bias"} : (tensor<4x8xf32>, tensor<8xf32>) -> tensor<4x8xf32>
  %2 = mpt.gelu %1 {mpt.name = "a.gelu"} : (tensor<4x8xf32>) -> tensor<4x8xf32>
  %3 = mpt.matmul %2, %w {mpt.name = "b"} : (tensor<4x8xf32>, tensor<8x8xf32>) -> tensor<4x8xf32>
  %4 = mpt.add %3, %b {mpt.name = "b.bias"} : (tensor<4x8xf32>, tensor<8xf32>) -> tensor<4x8xf32>
  %5 = mpt.gelu %4 {mpt.name = "b.gelu"} : (tensor<4x8xf32>) -> tensor<4x8xf32>
  return %5 : tensor<4x8xf32>
}

// -----

// Residual and layer norm in one kernel; the sum and the statistics it keeps for
// the backward pass come out of it too.
// CHECK-LABEL: func.func @step
// CHECK: call @kernel_0
// CHECK-NOT: call
// CHECK: func.func private @kernel_0
// CHECK-COUNT-2: mpt.reduce
func.func @step(%x: tensor<4x8xf32>, %r: tensor<4x8xf32>, %g: tensor<8xf32>, %b: tensor<8xf32>)
    -> (tensor<4x8xf32>, tensor<4x8xf32>, tensor<4x1xf32>) {
  %s = mpt.add %x, %r : (tensor<4x8xf32>, tensor<4x8xf32>) -> tensor<4x8xf32>
  %y, %mean, %rstd = mpt.layer_norm %s, %g, %b {epsilon = 1.0e-12 : f32} : (tensor<4x8xf32>, tensor<8xf32>, tensor<8xf32>) -> (tensor<4x8xf32>, tensor<4x1xf32>, tensor<4x1xf32>)
  return %s, %y, %rstd : tensor<4x8xf32>, tensor<4x8xf32>, tensor<4x1xf32>
}

// -----

// A bias added for two readers is added in both kernels rather than written.
// CHECK-LABEL: func.func @step
// CHECK: %[[P:.*]] = mpt.matmul
// CHECK: %[[A:.*]] = call @kernel_0(%[[P]], %arg2)
// CHECK: mpt.matmul %[[A]]
// CHECK: call @kernel_1(%[[P]], %arg2, %{{.*}})
func.func @step(%x: tensor<4x8xf32>, %w: tensor<8x8xf32>, %b: tensor<8xf32>) -> tensor<4x8xf32> {
  %0 = mpt.matmul %x, %w {mpt.name = "a"} : (tensor<4x8xf32>, tensor<8x8xf32>) -> tensor<4x8xf32>
  %1 = mpt.add %0, %b : (tensor<4x8xf32>, tensor<8xf32>) -> tensor<4x8xf32>
  %2 = mpt.gelu %1 : (tensor<4x8xf32>) -> tensor<4x8xf32>
  %3 = mpt.matmul %2, %w {mpt.name = "b"} : (tensor<4x8xf32>, tensor<8x8xf32>) -> tensor<4x8xf32>
  %4 = mpt.gelu_grad %1, %3 : (tensor<4x8xf32>, tensor<4x8xf32>) -> tensor<4x8xf32>
  return %4 : tensor<4x8xf32>
}

// -----

// The head split costs nothing: the product reads the transposed view, and the
// one that makes the context writes through its transpose.
// CHECK-LABEL: func.func @step
// CHECK-NOT: call
// CHECK: return
func.func @step(%q: tensor<2x4x6xf32>, %p: tensor<2x3x4x4xf32>) -> tensor<2x4x6xf32> {
  %h = mpt.reshape %q : (tensor<2x4x6xf32>) -> tensor<2x4x3x2xf32>
  %t = mpt.transpose %h {permutation = array<i64: 0, 2, 1, 3>} : (tensor<2x4x3x2xf32>) -> tensor<2x3x4x2xf32>
  %c = mpt.matmul %p, %t : (tensor<2x3x4x4xf32>, tensor<2x3x4x2xf32>) -> tensor<2x3x4x2xf32>
  %u = mpt.transpose %c {permutation = array<i64: 0, 2, 1, 3>} : (tensor<2x3x4x2xf32>) -> tensor<2x4x3x2xf32>
  %m = mpt.reshape %u : (tensor<2x4x3x2xf32>) -> tensor<2x4x6xf32>
  return %m : tensor<2x4x6xf32>
}
