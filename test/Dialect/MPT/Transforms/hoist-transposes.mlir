// Transposes and reshapes of a product's result move in front of its casts and
// maxima, so that the product writes the merged heads.
// RUN: mpt-opt %s --mpt-hoist-transposes -split-input-file | FileCheck %s

// All that reads the result merges the heads, as it is or behind the cast.
// CHECK-LABEL: func.func @step
// CHECK: %[[P:.*]] = mpt.matmul
// CHECK-NEXT: %[[T:.*]] = mpt.transpose %[[P]] {permutation = array<i64: 0, 2, 1, 3>}
// CHECK-NEXT: %[[M:.*]] = mpt.reshape %[[T]] {{.*}} -> tensor<2x4x6xf32>
// CHECK-NEXT: %[[A:.*]] = mpt.reduce %[[M]] {axes = array<i64: 0, 1, 2>, {{.*}}mpt.name = "c/amax"} : (tensor<2x4x6xf32>) -> tensor<1x1x1xf32>
// CHECK-NEXT: %[[R:.*]] = mpt.reshape %[[A]]
// CHECK-NEXT: %[[C:.*]] = mpt.quantize %[[M]], %arg2 {mpt.name = "c/cast"} : (tensor<2x4x6xf32>, tensor<f32>) -> tensor<2x4x6xf8E4M3FN>
// CHECK-NEXT: return %[[R]], %[[C]], %[[M]]
func.func @step(%p: tensor<2x3x4x4xf32>, %v: tensor<2x3x4x2xf32>, %s: tensor<f32>) -> (tensor<1x1x1x1xf32>, tensor<2x4x6xf8E4M3FN>, tensor<2x4x6xf32>) {
  %c = mpt.matmul %p, %v {mpt.name = "c"} : (tensor<2x3x4x4xf32>, tensor<2x3x4x2xf32>) -> tensor<2x3x4x2xf32>
  %amax = mpt.reduce %c {kind = #mpt.reduction<absmax>, axes = array<i64: 0, 1, 2, 3>, mpt.name = "c/amax"} : (tensor<2x3x4x2xf32>) -> tensor<1x1x1x1xf32>
  %q = mpt.quantize %c, %s {mpt.name = "c/cast"} : (tensor<2x3x4x2xf32>, tensor<f32>) -> tensor<2x3x4x2xf8E4M3FN>
  %t = mpt.transpose %q {permutation = array<i64: 0, 2, 1, 3>} : (tensor<2x3x4x2xf8E4M3FN>) -> tensor<2x4x3x2xf8E4M3FN>
  %m = mpt.reshape %t : (tensor<2x4x3x2xf8E4M3FN>) -> tensor<2x4x6xf8E4M3FN>
  %u = mpt.transpose %c {permutation = array<i64: 0, 2, 1, 3>} : (tensor<2x3x4x2xf32>) -> tensor<2x4x3x2xf32>
  %n = mpt.reshape %u : (tensor<2x4x3x2xf32>) -> tensor<2x4x6xf32>
  return %amax, %m, %n : tensor<1x1x1x1xf32>, tensor<2x4x6xf8E4M3FN>, tensor<2x4x6xf32>
}

// -----

// Something needs the heads apart: nothing moves.
// CHECK-LABEL: func.func @step
// CHECK: mpt.matmul
// CHECK-NEXT: mpt.quantize
// CHECK-NEXT: mpt.transpose
// CHECK-NEXT: mpt.exp
func.func @step(%p: tensor<2x3x4x4xf32>, %v: tensor<2x3x4x2xf32>, %s: tensor<f32>) -> (tensor<2x4x3x2xf8E4M3FN>, tensor<2x3x4x2xf32>) {
  %c = mpt.matmul %p, %v : (tensor<2x3x4x4xf32>, tensor<2x3x4x2xf32>) -> tensor<2x3x4x2xf32>
  %q = mpt.quantize %c, %s : (tensor<2x3x4x2xf32>, tensor<f32>) -> tensor<2x3x4x2xf8E4M3FN>
  %t = mpt.transpose %q {permutation = array<i64: 0, 2, 1, 3>} : (tensor<2x3x4x2xf8E4M3FN>) -> tensor<2x4x3x2xf8E4M3FN>
  %e = mpt.exp %c : (tensor<2x3x4x2xf32>) -> tensor<2x3x4x2xf32>
  return %t, %e : tensor<2x4x3x2xf8E4M3FN>, tensor<2x3x4x2xf32>
}

// -----

// The last dim would move: a product cannot write that. A scale per row goes by
// the row, random bits by the element's index: both stay.
// CHECK-LABEL: func.func @step
// CHECK-COUNT-3: mpt.matmul
// CHECK-NEXT: mpt.quantize
// CHECK-NEXT: mpt.transpose
// CHECK-NEXT: mpt.quantize
// CHECK-NEXT: mpt.transpose
// CHECK-NEXT: mpt.quantize_stochastic
// CHECK-NEXT: mpt.transpose
func.func @step(%p: tensor<3x4x4xf32>, %v: tensor<3x4x4xf32>, %s: tensor<f32>, %r: tensor<3x4x1xf32>, %i: tensor<i64>) -> (tensor<3x4x4xf8E4M3FN>, tensor<4x3x4xf8E4M3FN>, tensor<4x3x4xf8E4M3FN>) {
  %a = mpt.matmul %p, %v : (tensor<3x4x4xf32>, tensor<3x4x4xf32>) -> tensor<3x4x4xf32>
  %b = mpt.matmul %v, %p : (tensor<3x4x4xf32>, tensor<3x4x4xf32>) -> tensor<3x4x4xf32>
  %c = mpt.matmul %p, %p : (tensor<3x4x4xf32>, tensor<3x4x4xf32>) -> tensor<3x4x4xf32>
  %0 = mpt.quantize %a, %s : (tensor<3x4x4xf32>, tensor<f32>) -> tensor<3x4x4xf8E4M3FN>
  %1 = mpt.transpose %0 {permutation = array<i64: 0, 2, 1>} : (tensor<3x4x4xf8E4M3FN>) -> tensor<3x4x4xf8E4M3FN>
  %2 = mpt.quantize %b, %r : (tensor<3x4x4xf32>, tensor<3x4x1xf32>) -> tensor<3x4x4xf8E4M3FN>
  %3 = mpt.transpose %2 {permutation = array<i64: 1, 0, 2>} : (tensor<3x4x4xf8E4M3FN>) -> tensor<4x3x4xf8E4M3FN>
  %4 = mpt.quantize_stochastic %c, %i, %i, %i, %s : (tensor<3x4x4xf32>, tensor<i64>, tensor<i64>, tensor<i64>, tensor<f32>) -> tensor<3x4x4xf8E4M3FN>
  %5 = mpt.transpose %4 {permutation = array<i64: 1, 0, 2>} : (tensor<3x4x4xf8E4M3FN>) -> tensor<4x3x4xf8E4M3FN>
  return %1, %3, %5 : tensor<3x4x4xf8E4M3FN>, tensor<4x3x4xf8E4M3FN>, tensor<4x3x4xf8E4M3FN>
}
