// Ops that nothing reads are gone after fusion, without a canonicalizer before it.
// RUN: mpt-opt %s --mpt-decompose --mpt-fuse | FileCheck %s

// CHECK-LABEL: func.func @step
// CHECK-COUNT-1: call @kernel_
// CHECK-NOT: call
// CHECK: func.func private @kernel_0
// CHECK-NOT: func.func private
func.func @step(%x: tensor<4x8xf32>, %r: tensor<4x8xf32>, %g: tensor<8xf32>, %b: tensor<8xf32>)
    -> (tensor<4x8xf32>, tensor<4x1xf32>) {
  %s = mpt.add %x, %r : (tensor<4x8xf32>, tensor<4x8xf32>) -> tensor<4x8xf32>
  %y, %mean, %rstd = mpt.layer_norm %s, %g, %b {epsilon = 1.0e-12 : f32}
      : (tensor<4x8xf32>, tensor<8xf32>, tensor<8xf32>)
      -> (tensor<4x8xf32>, tensor<4x1xf32>, tensor<4x1xf32>)
  %unused = mpt.add %y, %b : (tensor<4x8xf32>, tensor<8xf32>) -> tensor<4x8xf32>
  return %s, %rstd : tensor<4x8xf32>, tensor<4x1xf32>
}
