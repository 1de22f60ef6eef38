// A product of codes becomes an f32 product of decoded operands, each decoded once.
// RUN: mpt-opt %s --split-input-file --mpt-emulate-products | FileCheck %s

// The second product reads a view of the same codes: it gets the view of what is decoded.
// CHECK-LABEL: func.func @step
// CHECK-SAME: %[[X:.*]]: tensor<2x8x4xf32>, %[[W:.*]]: tensor<4x4xf32>, %[[S:.*]]: tensor<f32>, %[[I:.*]]: tensor<f32>
// CHECK-NEXT: %[[X8:.*]] = mpt.quantize %[[X]], %[[S]]
// CHECK-NEXT: %[[D:.*]] = mpt.dequantize %[[X8]], %[[I]] {mpt.name = "x/cast.f8E4M3FN/decode"} : (tensor<2x8x4xf8E4M3FN>, tensor<f32>) -> tensor<2x8x4xf32>
// CHECK-NEXT: %[[W16:.*]] = mpt.quantize %[[W]]
// CHECK-NEXT: %[[E:.*]] = mpt.dequantize %[[W16]]
// CHECK-NEXT: mpt.matmul %[[D]], %[[E]] {mpt.name = "a", role = #mpt.role<fprop>, transpose_rhs} : (tensor<2x8x4xf32>, tensor<4x4xf32>) -> tensor<2x8x4xf32>
// CHECK-NEXT: %[[R:.*]] = mpt.reshape %[[D]] : (tensor<2x8x4xf32>) -> tensor<16x4xf32>
// CHECK-NEXT: mpt.matmul %[[R]], %[[E]] {mpt.name = "b"
// CHECK-NEXT: return
func.func @step(%x: tensor<2x8x4xf32>, %w: tensor<4x4xf32>, %s: tensor<f32>, %i: tensor<f32>)
    -> (tensor<2x8x4xf32>, tensor<16x4xf32>) {
  %x8 = mpt.quantize %x, %s {mpt.name = "x/cast.f8E4M3FN"} : (tensor<2x8x4xf32>, tensor<f32>) -> tensor<2x8x4xf8E4M3FN>
  %w16 = mpt.quantize %w {mpt.name = "w/cast.bf16"} : (tensor<4x4xf32>) -> tensor<4x4xbf16>
  %0 = mpt.scaled_matmul %x8, %w16, %i {mpt.name = "a", operandSegmentSizes = array<i32: 1, 1, 1, 0>, role = #mpt.role<fprop>, transpose_rhs}
      : (tensor<2x8x4xf8E4M3FN>, tensor<4x4xbf16>, tensor<f32>) -> tensor<2x8x4xf32>
  %r = mpt.reshape %x8 : (tensor<2x8x4xf8E4M3FN>) -> tensor<16x4xf8E4M3FN>
  %1 = mpt.scaled_matmul %r, %w16, %i {mpt.name = "b", operandSegmentSizes = array<i32: 1, 1, 1, 0>}
      : (tensor<16x4xf8E4M3FN>, tensor<4x4xbf16>, tensor<f32>) -> tensor<16x4xf32>
  return %0, %1 : tensor<2x8x4xf32>, tensor<16x4xf32>
}

// -----

// Codes that are an argument are decoded in front of the first product that reads them.
// CHECK-LABEL: func.func @step
// CHECK-SAME: %[[W:.*]]: tensor<4x4xbf16> {{.*}}, %[[X:.*]]: tensor<4x4xf32>
// CHECK-NEXT: mpt.tanh
// CHECK-NEXT: %[[D:.*]] = mpt.dequantize %[[W]] {mpt.name = "w/decode"}
// CHECK-NEXT: mpt.matmul %[[X]], %[[D]]
func.func @step(%w: tensor<4x4xbf16> {mpt.name = "w"}, %x: tensor<4x4xf32>) -> tensor<4x4xf32> {
  %0 = mpt.tanh %x : (tensor<4x4xf32>) -> tensor<4x4xf32>
  %1 = mpt.scaled_matmul %x, %w {operandSegmentSizes = array<i32: 1, 1, 0, 0>}
      : (tensor<4x4xf32>, tensor<4x4xbf16>) -> tensor<4x4xf32>
  return %1 : tensor<4x4xf32>
}

// -----

// Scales per row belong to the tensor that was quantized: decoding happens there, and views follow.
// CHECK-LABEL: func.func @step
// CHECK-SAME: %[[X:.*]]: tensor<4x8xf32>, %[[S:.*]]: tensor<4x1xf32>, %[[I:.*]]: tensor<4x1xf32>
// CHECK: %[[C:.*]] = mpt.quantize_stochastic
// CHECK-NEXT: %[[D:.*]] = mpt.dequantize %[[C]], %[[I]] {{.*}} : (tensor<4x8xi8>, tensor<4x1xf32>) -> tensor<4x8xf32>
// CHECK-NEXT: %[[V:.*]] = mpt.reshape %[[D]] : (tensor<4x8xf32>) -> tensor<2x2x8xf32>
// CHECK-NEXT: mpt.matmul %[[V]], %[[V]]
func.func @step(%x: tensor<4x8xf32>, %s: tensor<4x1xf32>, %i: tensor<4x1xf32>, %n: tensor<i64>) -> tensor<2x2x2xf32> {
  %c = mpt.quantize_stochastic %x, %n, %n, %n, %s {mpt.name = "x/cast.i8"}
      : (tensor<4x8xf32>, tensor<i64>, tensor<i64>, tensor<i64>, tensor<4x1xf32>) -> tensor<4x8xi8>
  %v = mpt.reshape %c : (tensor<4x8xi8>) -> tensor<2x2x8xi8>
  %0 = mpt.scaled_matmul %v, %v, %i, %i {operandSegmentSizes = array<i32: 1, 1, 1, 1>, transpose_rhs}
      : (tensor<2x2x8xi8>, tensor<2x2x8xi8>, tensor<4x1xf32>, tensor<4x1xf32>) -> tensor<2x2x2xf32>
  return %0 : tensor<2x2x2xf32>
}
