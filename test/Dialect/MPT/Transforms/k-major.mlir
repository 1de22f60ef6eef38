// FP8 operands end up contiguous along the contraction; a transposed copy serves
// all products that need it.
// RUN: mpt-opt %s --mpt-k-major -split-input-file | FileCheck %s

// Forward: the weight [K, N] turns. Its gradient's product contracts over rows:
// both operands turn.
// CHECK-LABEL: func.func @step
// CHECK: %[[XT:.*]] = mpt.transpose %arg0 {permutation = array<i64: 1, 0>}
// CHECK: %[[XC:.*]] = mpt.copy %[[XT]] {mpt.name = "x/transposed"} : (tensor<32x16xf8E4M3FN>) -> tensor<32x16xf8E4M3FN>
// CHECK: %[[WC:.*]] = mpt.copy {{.*}} : (tensor<48x32xf8E4M3FN>) -> tensor<48x32xf8E4M3FN>
// CHECK: mpt.scaled_matmul %arg0, %[[WC]], %arg3, %arg3 {{{.*}}mpt.name = "a", {{.*}}transpose_rhs}
// CHECK: mpt.scaled_matmul %arg0, %[[WC]], %arg3, %arg3 {{{.*}}mpt.name = "b", {{.*}}transpose_rhs}
// CHECK: mpt.scaled_matmul %[[XC]], %{{.*}}, %arg3, %arg3 {{{.*}}mpt.name = "a/wgrad", {{.*}}transpose_rhs}
// CHECK-NOT: mpt.copy
func.func @step(%x: tensor<16x32xf8E4M3FN> {mpt.name = "x"}, %w: tensor<32x48xf8E4M3FN>, %dy: tensor<16x48xf8E5M2>, %s: tensor<f32>)
    -> (tensor<16x48xf32>, tensor<16x48xf32>, tensor<32x48xf32>) {
  %0 = mpt.scaled_matmul %x, %w, %s, %s {mpt.name = "a", operandSegmentSizes = array<i32: 1, 1, 1, 1>}
      : (tensor<16x32xf8E4M3FN>, tensor<32x48xf8E4M3FN>, tensor<f32>, tensor<f32>) -> tensor<16x48xf32>
  %1 = mpt.scaled_matmul %x, %w, %s, %s {mpt.name = "b", operandSegmentSizes = array<i32: 1, 1, 1, 1>}
      : (tensor<16x32xf8E4M3FN>, tensor<32x48xf8E4M3FN>, tensor<f32>, tensor<f32>) -> tensor<16x48xf32>
  %2 = mpt.scaled_matmul %x, %dy, %s, %s {mpt.name = "a/wgrad", transpose_lhs, operandSegmentSizes = array<i32: 1, 1, 1, 1>}
      : (tensor<16x32xf8E4M3FN>, tensor<16x48xf8E5M2>, tensor<f32>, tensor<f32>) -> tensor<32x48xf32>
  return %0, %1, %2 : tensor<16x48xf32>, tensor<16x48xf32>, tensor<32x48xf32>
}

// -----

// Batches that belong to the contraction become part of K.
// CHECK-LABEL: func.func @step
// CHECK-DAG: mpt.reshape %arg0 : (tensor<2x8x32xf8E4M3FN>) -> tensor<16x32xf8E4M3FN>
// CHECK-DAG: mpt.copy {{.*}} : (tensor<32x16xf8E4M3FN>)
// CHECK-DAG: mpt.copy {{.*}} : (tensor<48x16xf8E5M2>)
// CHECK: mpt.scaled_matmul {{.*}} : (tensor<32x16xf8E4M3FN>, tensor<48x16xf8E5M2>, tensor<f32>, tensor<f32>) -> tensor<32x48xf32>
func.func @step(%x: tensor<2x8x32xf8E4M3FN>, %dy: tensor<2x8x48xf8E5M2>, %s: tensor<f32>) -> tensor<32x48xf32> {
  %0 = mpt.scaled_matmul %x, %dy, %s, %s {mpt.name = "a", transpose_lhs, fold_batch, operandSegmentSizes = array<i32: 1, 1, 1, 1>}
      : (tensor<2x8x32xf8E4M3FN>, tensor<2x8x48xf8E5M2>, tensor<f32>, tensor<f32>) -> tensor<32x48xf32>
  return %0 : tensor<32x48xf32>
}

// -----

// What lies right already stays, views included, and so does BF16.
// CHECK-LABEL: func.func @step
// CHECK-NOT: mpt.copy
func.func @step(%q: tensor<2x16x4x16xf8E4M3FN>, %k: tensor<2x16x4x16xf8E4M3FN>, %x: tensor<8x8xbf16>, %s: tensor<f32>)
    -> (tensor<2x4x16x16xf32>, tensor<8x8xf32>) {
  %0 = mpt.transpose %q {permutation = array<i64: 0, 2, 1, 3>} : (tensor<2x16x4x16xf8E4M3FN>) -> tensor<2x4x16x16xf8E4M3FN>
  %1 = mpt.transpose %k {permutation = array<i64: 0, 2, 3, 1>} : (tensor<2x16x4x16xf8E4M3FN>) -> tensor<2x4x16x16xf8E4M3FN>
  %2 = mpt.scaled_matmul %0, %1, %s, %s {mpt.name = "scores", operandSegmentSizes = array<i32: 1, 1, 1, 1>}
      : (tensor<2x4x16x16xf8E4M3FN>, tensor<2x4x16x16xf8E4M3FN>, tensor<f32>, tensor<f32>) -> tensor<2x4x16x16xf32>
  %3 = mpt.scaled_matmul %x, %x {mpt.name = "c", transpose_lhs, operandSegmentSizes = array<i32: 1, 1, 0, 0>}
      : (tensor<8x8xbf16>, tensor<8x8xbf16>) -> tensor<8x8xf32>
  return %2, %3 : tensor<2x4x16x16xf32>, tensor<8x8xf32>
}
