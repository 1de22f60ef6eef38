// Attention and its gradient print and parse as they are.
// RUN: mpt-opt %s | FileCheck %s

// CHECK-LABEL: func.func @attention
// CHECK: mpt.attention %{{.*}} {operandSegmentSizes = array<i32: 1, 1, 1, 0, 0, 0>, scale = 1.250000e-01 : f32}
func.func @attention(%x: tensor<2x16x4x64xbf16>) -> tensor<2x16x4x64xbf16> {
  %o, %m, %l = mpt.attention %x, %x, %x {operandSegmentSizes = array<i32: 1, 1, 1, 0, 0, 0>, scale = 0.125 : f32}
      : (tensor<2x16x4x64xbf16>, tensor<2x16x4x64xbf16>, tensor<2x16x4x64xbf16>) -> (tensor<2x16x4x64xbf16>, tensor<2x4x16xf32>, tensor<2x4x16xf32>)
  return %o : tensor<2x16x4x64xbf16>
}

// With mask and dropout; f32 results.
// CHECK-LABEL: func.func @everything
// CHECK: mpt.attention %{{.*}} {dropout_id = 7 : i64, keep_probability = 0.899999976 : f32
// CHECK: mpt.attention_grad %{{.*}} {dropout_id = 7 : i64, keep_probability = 0.899999976 : f32
func.func @everything(%x: tensor<2x16x4x64xbf16>, %bias: tensor<1x1x1x16xf32>, %seed: tensor<i64>, %step: tensor<i64>) -> tensor<2x16x4x64xf32> {
  %o, %m, %l = mpt.attention %x, %x, %x, %bias, %seed, %step
      {operandSegmentSizes = array<i32: 1, 1, 1, 1, 1, 1>, scale = 0.125 : f32, keep_probability = 0.9 : f32, dropout_id = 7 : i64}
      : (tensor<2x16x4x64xbf16>, tensor<2x16x4x64xbf16>, tensor<2x16x4x64xbf16>, tensor<1x1x1x16xf32>, tensor<i64>, tensor<i64>)
      -> (tensor<2x16x4x64xf32>, tensor<2x4x16xf32>, tensor<2x4x16xf32>)
  %q, %k, %v, %r = mpt.attention_grad %x, %x, %x, %o, %x, %m, %l, %bias, %seed, %step
      {operandSegmentSizes = array<i32: 1, 1, 1, 1, 1, 1, 1, 1, 1, 1>, scale = 0.125 : f32, keep_probability = 0.9 : f32, dropout_id = 7 : i64}
      : (tensor<2x16x4x64xbf16>, tensor<2x16x4x64xbf16>, tensor<2x16x4x64xbf16>, tensor<2x16x4x64xf32>, tensor<2x16x4x64xbf16>,
         tensor<2x4x16xf32>, tensor<2x4x16xf32>, tensor<1x1x1x16xf32>, tensor<i64>, tensor<i64>)
      -> (tensor<2x16x4x64xf32>, tensor<2x16x4x64xf32>, tensor<2x16x4x64xf32>, tensor<2x4x16xf32>)
  return %q : tensor<2x16x4x64xf32>
}
