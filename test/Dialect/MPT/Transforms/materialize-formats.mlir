// Casts become codes with their scales; products and views go over to storage types.
// RUN: mpt-opt %s --split-input-file --mpt-materialize-formats | FileCheck %s

#e4m3 = #mpt.format<f8E4M3FN>
#e5m2 = #mpt.format<f8E5M2>
#bf16 = #mpt.format<bf16>

// One amax serves both formats of x; BF16 takes no scale.
// CHECK-LABEL: func.func @step
// CHECK-SAME: %[[X:.*]]: tensor<32x64xf32> {{.*}}, %[[W:.*]]: tensor<64x16xf32> {{.*}}, %[[DY:[^:]*]]: tensor<32x16xf32>
// CHECK-NEXT: %[[MAX:.*]] = mpt.reduce %[[X]] {axes = array<i64: 0, 1>, kind = #mpt.reduction<absmax>, mpt.name = "x/amax"} : (tensor<32x64xf32>) -> tensor<1x1xf32>
// CHECK-NEXT: %[[AMAX:.*]] = mpt.reshape %[[MAX]] {mpt.name = "x/amax"} : (tensor<1x1xf32>) -> tensor<f32>
// CHECK-NEXT: %[[XS:.*]], %[[XI:.*]] = mpt.scale %[[AMAX]] {mpt.name = "x/scale.f8E4M3FN", storage = f8E4M3FN} : (tensor<f32>) -> (tensor<f32>, tensor<f32>)
// CHECK-NEXT: %[[X8:.*]] = mpt.quantize %[[X]], %[[XS]] {mpt.name = "x/cast.f8E4M3FN"} : (tensor<32x64xf32>, tensor<f32>) -> tensor<32x64xf8E4M3FN>
// CHECK: mpt.reduce %[[W]]
// CHECK: %{{.*}}, %[[WI:.*]] = mpt.scale {{.*}}"layer.weight/scale.f8E4M3FN"
// CHECK: %[[W8:.*]] = mpt.quantize %[[W]]
// CHECK-NEXT: %[[YS:.*]], %[[YI:.*]] = mpt.scale %[[AMAX]] {mpt.name = "x/scale.f8E5M2", storage = f8E5M2}
// CHECK-NEXT: %[[Y8:.*]] = mpt.quantize %[[X]], %[[YS]] {mpt.name = "x/cast.f8E5M2"}
// CHECK-NEXT: %[[X16:.*]] = mpt.quantize %[[X]] {mpt.name = "x/cast.bf16"} : (tensor<32x64xf32>) -> tensor<32x64xbf16>
// CHECK-NEXT: %[[DY16:.*]] = mpt.quantize %[[DY]] {mpt.name = "dy/cast.bf16"}
// CHECK-NEXT: mpt.scaled_matmul %[[X8]], %[[W8]], %[[XI]], %[[WI]] {mpt.name = "layer", operandSegmentSizes = array<i32: 1, 1, 1, 1>, role = #mpt.role<fprop>} : (tensor<32x64xf8E4M3FN>, tensor<64x16xf8E4M3FN>, tensor<f32>, tensor<f32>) -> tensor<32x16xf32>
// CHECK-NEXT: mpt.scaled_matmul %[[Y8]], %[[W8]], %[[YI]], %[[WI]] {mpt.name = "layer/dgrad", operandSegmentSizes = array<i32: 1, 1, 1, 1>, role = #mpt.role<dgrad>}
// CHECK-NEXT: mpt.scaled_matmul %[[X16]], %[[DY16]] {mpt.name = "layer/wgrad", operandSegmentSizes = array<i32: 1, 1, 0, 0>, role = #mpt.role<wgrad>, transpose_lhs} : (tensor<32x64xbf16>, tensor<32x16xbf16>) -> tensor<64x16xf32>
// CHECK-NEXT: mpt.matmul %[[X]], %[[W]] {mpt.name = "full"
func.func @step(%x: tensor<32x64xf32> {mpt.name = "x"}, %w: tensor<64x16xf32> {mpt.name = "layer.weight"},
                %dy: tensor<32x16xf32> {mpt.name = "dy"}) -> tensor<32x16xf32> {
  %x8 = mpt.cast %x : (tensor<32x64xf32>) -> tensor<32x64xf32, #e4m3>
  %w8 = mpt.cast %w : (tensor<64x16xf32>) -> tensor<64x16xf32, #e4m3>
  %y8 = mpt.cast %x : (tensor<32x64xf32>) -> tensor<32x64xf32, #e5m2>
  %x16 = mpt.cast %x : (tensor<32x64xf32>) -> tensor<32x64xf32, #bf16>
  %dy16 = mpt.cast %dy : (tensor<32x16xf32>) -> tensor<32x16xf32, #bf16>
  %0 = mpt.matmul %x8, %w8 {mpt.name = "layer", role = #mpt.role<fprop>}
      : (tensor<32x64xf32, #e4m3>, tensor<64x16xf32, #e4m3>) -> tensor<32x16xf32>
  %1 = mpt.matmul %y8, %w8 {mpt.name = "layer/dgrad", role = #mpt.role<dgrad>}
      : (tensor<32x64xf32, #e5m2>, tensor<64x16xf32, #e4m3>) -> tensor<32x16xf32>
  %2 = mpt.matmul %x16, %dy16 {mpt.name = "layer/wgrad", role = #mpt.role<wgrad>, transpose_lhs}
      : (tensor<32x64xf32, #bf16>, tensor<32x16xf32, #bf16>) -> tensor<64x16xf32>
  %3 = mpt.matmul %x, %w {mpt.name = "full", role = #mpt.role<fprop>}
      : (tensor<32x64xf32>, tensor<64x16xf32>) -> tensor<32x16xf32>
  return %3 : tensor<32x16xf32>
}

// -----

#bf16 = #mpt.format<bf16>

// Views are rebuilt on the codes; what is no product reads decoded values, decoded once.
// CHECK-LABEL: func.func @step
// CHECK: %[[X:.*]] = mpt.tanh
// CHECK-NEXT: %[[X16:.*]] = mpt.quantize %[[X]] {mpt.name = "x/cast.bf16"}
// CHECK-NEXT: %[[R:.*]] = mpt.reshape %[[X16]] : (tensor<2x8x4xbf16>) -> tensor<16x4xbf16>
// CHECK-NEXT: %[[D:.*]] = mpt.dequantize %[[R]] {mpt.name = "{{.*}}/decode"} : (tensor<16x4xbf16>) -> tensor<16x4xf32>
// CHECK-NEXT: %[[T:.*]] = mpt.transpose %[[R]] {permutation = array<i64: 1, 0>} : (tensor<16x4xbf16>) -> tensor<4x16xbf16>
// CHECK-NEXT: mpt.scaled_matmul %[[R]], %[[T]]
// CHECK-NEXT: mpt.add %[[D]], %[[D]]
func.func @step(%in: tensor<2x8x4xf32>) -> (tensor<16x16xf32>, tensor<16x4xf32>) {
  %x = mpt.tanh %in {mpt.name = "x"} : (tensor<2x8x4xf32>) -> tensor<2x8x4xf32>
  %x16 = mpt.cast %x : (tensor<2x8x4xf32>) -> tensor<2x8x4xf32, #bf16>
  %r = mpt.reshape %x16 : (tensor<2x8x4xf32, #bf16>) -> tensor<16x4xf32, #bf16>
  %t = mpt.transpose %r {permutation = array<i64: 1, 0>} : (tensor<16x4xf32, #bf16>) -> tensor<4x16xf32, #bf16>
  %0 = mpt.matmul %r, %t : (tensor<16x4xf32, #bf16>, tensor<4x16xf32, #bf16>) -> tensor<16x16xf32>
  %1 = mpt.add %r, %r : (tensor<16x4xf32, #bf16>, tensor<16x4xf32, #bf16>) -> tensor<16x4xf32>
  return %0, %1 : tensor<16x16xf32>, tensor<16x4xf32>
}

// -----

// A cast to f32 rounds nothing; a step without casts stays as it is.
// CHECK-LABEL: func.func @step
// CHECK-SAME: %[[X:.*]]: tensor<4x4xf32>
// CHECK-NEXT: mpt.matmul %[[X]], %[[X]] :
// CHECK-NEXT: return
func.func @step(%x: tensor<4x4xf32>) -> tensor<4x4xf32> {
  %0 = mpt.cast %x : (tensor<4x4xf32>) -> tensor<4x4xf32, #mpt.format<f32>>
  %1 = mpt.matmul %0, %x : (tensor<4x4xf32, #mpt.format<f32>>, tensor<4x4xf32>) -> tensor<4x4xf32>
  return %1 : tensor<4x4xf32>
}
