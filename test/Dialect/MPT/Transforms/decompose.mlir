// Composite ops and reductions as kernels run them.
// RUN: mpt-opt %s --mpt-decompose --canonicalize --cse -split-input-file | FileCheck %s

// CHECK-LABEL: func.func @softmax
func.func @softmax(%x: tensor<2x3x40xf32>) -> tensor<2x3x40xf32> {
  // CHECK: %[[MAX:.*]] = mpt.reduce %arg0 {axes = array<i64: 2>, kind = #mpt.reduction<max>, mpt.name = "p"}
  // CHECK: mpt.sub %arg0, %[[MAX]]
  // CHECK: mpt.exp
  // CHECK: mpt.reduce {{.*}} {axes = array<i64: 2>, kind = #mpt.reduction<sum>, mpt.name = "p"}
  // CHECK-NOT: mpt.softmax
  %y = mpt.softmax %x {mpt.name = "p"} : (tensor<2x3x40xf32>) -> tensor<2x3x40xf32>
  return %y : tensor<2x3x40xf32>
}

// -----

// A bias gradient: chunks of 64 rows, then the chunks.
// CHECK-LABEL: func.func @bias
func.func @bias(%dy: tensor<2x100x8xf32>) -> tensor<8xf32> {
  // CHECK: %[[ROWS:.*]] = mpt.reshape %arg0 : (tensor<2x100x8xf32>) -> tensor<200x8xf32>
  // CHECK: %[[CHUNKS:.*]] = mpt.reduce_chunks %[[ROWS]] : (tensor<200x8xf32>) -> tensor<4x8xf32>
  // CHECK: mpt.reduce %[[CHUNKS]] {axes = array<i64: 0>, kind = #mpt.reduction<sum>}
  %s = mpt.reduce %dy {kind = #mpt.reduction<sum>, axes = array<i64: 0, 1>} : (tensor<2x100x8xf32>) -> tensor<1x1x8xf32>
  %b = mpt.reshape %s : (tensor<1x1x8xf32>) -> tensor<8xf32>
  return %b : tensor<8xf32>
}

// -----

// All axes: along the rows, then over the rows.
// CHECK-LABEL: func.func @norm
func.func @norm(%g: tensor<16x8xf32>) -> tensor<1x1xf32> {
  // CHECK: mpt.reduce %arg0 {axes = array<i64: 1>, {{.*}} -> tensor<16x1xf32>
  // CHECK: mpt.reduce %{{.*}} {axes = array<i64: 1>, {{.*}} : (tensor<1x16xf32>) -> tensor<1x1xf32>
  %s = mpt.reduce %g {kind = #mpt.reduction<absmax>, axes = array<i64: 0, 1>} : (tensor<16x8xf32>) -> tensor<1x1xf32>
  return %s : tensor<1x1xf32>
}

// -----

// An axis in the middle comes first through a transpose.
// CHECK-LABEL: func.func @middle
func.func @middle(%x: tensor<2x3x4xf32>) -> tensor<2x1x4xf32> {
  // CHECK: mpt.transpose %arg0 {permutation = array<i64: 1, 0, 2>}
  // CHECK: mpt.reduce_chunks %{{.*}} : (tensor<3x8xf32>) -> tensor<1x8xf32>
  %s = mpt.reduce %x {kind = #mpt.reduction<sum>, axes = array<i64: 1>} : (tensor<2x3x4xf32>) -> tensor<2x1x4xf32>
  return %s : tensor<2x1x4xf32>
}

// -----

// The gradient of a slice of fused Q, K and V: rows of 4 move as a whole.
// CHECK-LABEL: func.func @pad
func.func @pad(%dy: tensor<2x4xf32>) -> tensor<2x12xf32> {
  // CHECK-DAG: %[[ROWS:.*]] = mpt.constant dense<[1, 4]> : tensor<2xi64>
  // CHECK-DAG: %[[ZEROS:.*]] = mpt.constant dense<0.000000e+00> : tensor<6x4xf32>
  // CHECK: mpt.scatter_add %[[ZEROS]], %[[ROWS]], %arg0
  // CHECK-NOT: mpt.pad
  %y = mpt.pad %dy {offsets = array<i64: 0, 4>} : (tensor<2x4xf32>) -> tensor<2x12xf32>
  return %y : tensor<2x12xf32>
}
