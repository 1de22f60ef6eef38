// What the canonicalizer does to mpt's ops.
// RUN: mpt-opt %s --canonicalize --split-input-file | FileCheck %s

// Views that change nothing go, and chains of views become one.
// CHECK-LABEL: func.func @views
// CHECK-SAME: %[[X:.*]]: tensor<2x3x4xf32>
// CHECK-DAG: %[[RESHAPED:.*]] = mpt.reshape %[[X]] : (tensor<2x3x4xf32>) -> tensor<24xf32>
// CHECK-DAG: %[[TURNED:.*]] = mpt.transpose %[[X]] {permutation = array<i64: 2, 0, 1>} : (tensor<2x3x4xf32>) -> tensor<4x2x3xf32>
// CHECK: return %[[X]], %[[X]], %[[X]], %[[X]], %[[RESHAPED]], %[[TURNED]]
func.func @views(%x: tensor<2x3x4xf32>)
    -> (tensor<2x3x4xf32>, tensor<2x3x4xf32>, tensor<2x3x4xf32>, tensor<2x3x4xf32>,
        tensor<24xf32>, tensor<4x2x3xf32>) {
  %0 = mpt.reshape %x : (tensor<2x3x4xf32>) -> tensor<2x3x4xf32>
  %1 = mpt.broadcast %x : (tensor<2x3x4xf32>) -> tensor<2x3x4xf32>
  %2 = mpt.transpose %x {permutation = array<i64: 0, 1, 2>} : (tensor<2x3x4xf32>) -> tensor<2x3x4xf32>
  %3 = mpt.slice %x {offsets = array<i64: 0, 0, 0>} : (tensor<2x3x4xf32>) -> tensor<2x3x4xf32>
  %4 = mpt.reshape %x : (tensor<2x3x4xf32>) -> tensor<6x4xf32>
  %5 = mpt.reshape %4 : (tensor<6x4xf32>) -> tensor<24xf32>
  %6 = mpt.transpose %x {permutation = array<i64: 1, 0, 2>} : (tensor<2x3x4xf32>) -> tensor<3x2x4xf32>
  %7 = mpt.transpose %6 {permutation = array<i64: 2, 1, 0>} : (tensor<3x2x4xf32>) -> tensor<4x2x3xf32>
  return %0, %1, %2, %3, %5, %7
      : tensor<2x3x4xf32>, tensor<2x3x4xf32>, tensor<2x3x4xf32>, tensor<2x3x4xf32>, tensor<24xf32>, tensor<4x2x3xf32>
}

// -----

// A transpose and its inverse cancel.
// CHECK-LABEL: func.func @inverse
// CHECK-NEXT: return %arg0
func.func @inverse(%x: tensor<2x3x4xf32>) -> tensor<2x3x4xf32> {
  %0 = mpt.transpose %x {permutation = array<i64: 1, 2, 0>} : (tensor<2x3x4xf32>) -> tensor<3x4x2xf32>
  %1 = mpt.transpose %0 {permutation = array<i64: 2, 0, 1>} : (tensor<3x4x2xf32>) -> tensor<2x3x4xf32>
  return %1 : tensor<2x3x4xf32>
}

// -----

// Constants are reshaped at compile time, and equal ones are one.
// CHECK-LABEL: func.func @constants
// CHECK-NEXT: %[[C:.*]] = mpt.constant dense<[1.000000e+00, 2.000000e+00]> : tensor<2xf32>
// CHECK-NEXT: return %[[C]], %[[C]]
func.func @constants() -> (tensor<2xf32>, tensor<2xf32>) {
  %0 = mpt.constant dense<[[1.0], [2.0]]> : tensor<2x1xf32>
  %1 = mpt.reshape %0 : (tensor<2x1xf32>) -> tensor<2xf32>
  %2 = mpt.constant dense<[1.0, 2.0]> : tensor<2xf32>
  return %1, %2 : tensor<2xf32>, tensor<2xf32>
}

// -----

// A conversion to the same type and a reduction over axes of size 1 are their
// operand; absmax still has to take the absolute value.
// CHECK-LABEL: func.func @nothing_to_do
// CHECK-SAME: %[[I:.*]]: tensor<2xi64>, %[[X:.*]]: tensor<2x1xf32>
// CHECK-NEXT: %[[A:.*]] = mpt.reduce %[[X]] {axes = array<i64: 1>, kind = #mpt.reduction<absmax>}
// CHECK-NEXT: return %[[I]], %[[X]], %[[A]]
func.func @nothing_to_do(%i: tensor<2xi64>, %x: tensor<2x1xf32>)
    -> (tensor<2xi64>, tensor<2x1xf32>, tensor<2x1xf32>) {
  %0 = mpt.convert %i : (tensor<2xi64>) -> tensor<2xi64>
  %1 = mpt.reduce %x {kind = #mpt.reduction<sum>, axes = array<i64: 1>} : (tensor<2x1xf32>) -> tensor<2x1xf32>
  %2 = mpt.reduce %x {kind = #mpt.reduction<absmax>, axes = array<i64: 1>} : (tensor<2x1xf32>) -> tensor<2x1xf32>
  return %0, %1, %2 : tensor<2xi64>, tensor<2x1xf32>, tensor<2x1xf32>
}

// -----

// A transpose of the last two dims becomes the product's flag, on either side.
// CHECK-LABEL: func.func @transposed_operands
// CHECK-NEXT: %[[Y:.*]] = mpt.matmul %arg0, %arg1 {transpose_lhs, transpose_rhs} : (tensor<2x4x3xf32>, tensor<2x5x4xf32>) -> tensor<2x3x5xf32>
// CHECK-NEXT: return %[[Y]]
func.func @transposed_operands(%x: tensor<2x4x3xf32>, %y: tensor<2x5x4xf32>) -> tensor<2x3x5xf32> {
  %0 = mpt.transpose %x {permutation = array<i64: 0, 2, 1>} : (tensor<2x4x3xf32>) -> tensor<2x3x4xf32>
  %1 = mpt.transpose %y {permutation = array<i64: 0, 2, 1>} : (tensor<2x5x4xf32>) -> tensor<2x4x5xf32>
  %2 = mpt.matmul %0, %1 : (tensor<2x3x4xf32>, tensor<2x4x5xf32>) -> tensor<2x3x5xf32>
  return %2 : tensor<2x3x5xf32>
}

// -----

// Not folded: a transpose that moves a batch dim, one in front of a batched lhs
// with a shared rhs, and one in front of fold_batch.
// CHECK-LABEL: func.func @transposes_that_stay
// CHECK: mpt.transpose
// CHECK: mpt.transpose
func.func @transposes_that_stay(%x: tensor<3x2x4xf32>, %y: tensor<2x4x5xf32>, %z: tensor<2x4x3xf32>,
                                %w: tensor<4x5xf32>)
    -> (tensor<2x3x5xf32>, tensor<2x3x5xf32>, tensor<4x4xf32>) {
  %0 = mpt.transpose %x {permutation = array<i64: 1, 0, 2>} : (tensor<3x2x4xf32>) -> tensor<2x3x4xf32>
  %1 = mpt.matmul %0, %y : (tensor<2x3x4xf32>, tensor<2x4x5xf32>) -> tensor<2x3x5xf32>
  %2 = mpt.transpose %z {permutation = array<i64: 0, 2, 1>} : (tensor<2x4x3xf32>) -> tensor<2x3x4xf32>
  %3 = mpt.matmul %2, %w : (tensor<2x3x4xf32>, tensor<4x5xf32>) -> tensor<2x3x5xf32>
  %4 = mpt.transpose %z {permutation = array<i64: 0, 2, 1>} : (tensor<2x4x3xf32>) -> tensor<2x3x4xf32>
  %5 = mpt.matmul %4, %4 {fold_batch, transpose_lhs}
      : (tensor<2x3x4xf32>, tensor<2x3x4xf32>) -> tensor<4x4xf32>
  return %1, %3, %5 : tensor<2x3x5xf32>, tensor<2x3x5xf32>, tensor<4x4xf32>
}

// -----

// A sum with a scatter into zeros scatters into the other term.
// CHECK-LABEL: func.func @scatter_into_sum
// CHECK-NEXT: %[[Y:.*]] = mpt.scatter_add %arg0, %arg1, %arg2 {mpt.name = "grad"} : (tensor<5x2xf32>, tensor<3xi64>, tensor<3x2xf32>) -> tensor<5x2xf32>
// CHECK-NEXT: return %[[Y]]
func.func @scatter_into_sum(%x: tensor<5x2xf32>, %ids: tensor<3xi64>, %u: tensor<3x2xf32>) -> tensor<5x2xf32> {
  %zero = mpt.constant dense<0.0> : tensor<5x2xf32>
  %0 = mpt.scatter_add %zero, %ids, %u {mpt.name = "grad"}
      : (tensor<5x2xf32>, tensor<3xi64>, tensor<3x2xf32>) -> tensor<5x2xf32>
  %1 = mpt.add %0, %x : (tensor<5x2xf32>, tensor<5x2xf32>) -> tensor<5x2xf32>
  return %1 : tensor<5x2xf32>
}
