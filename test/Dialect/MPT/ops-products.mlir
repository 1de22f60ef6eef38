// Products, gather and scatter, reductions and losses print and parse as they are.
// RUN: mpt-opt %s | FileCheck %s

// CHECK-LABEL: func.func @matmul
// CHECK-NEXT: mpt.matmul %{{.*}}, %{{.*}} : (tensor<2x4x3x8xf32>, tensor<2x4x8x5xf32>) -> tensor<2x4x3x5xf32>
// CHECK-NEXT: mpt.matmul %{{.*}} {role = #mpt.role<fprop>, transpose_rhs} : (tensor<2x4x3x8xf32>, tensor<6x8xf32>) -> tensor<2x4x3x6xf32>
// CHECK-NEXT: mpt.matmul %{{.*}} {transpose_lhs} : (tensor<6x8xf32>, tensor<6x8xf32>) -> tensor<8x8xf32>
// CHECK-NEXT: mpt.matmul %{{.*}} {fold_batch, role = #mpt.role<wgrad>, transpose_lhs} : (tensor<2x4x3x8xf32>, tensor<2x4x3x8xf32>) -> tensor<8x8xf32>
func.func @matmul(%x: tensor<2x4x3x8xf32>, %y: tensor<2x4x8x5xf32>, %w: tensor<6x8xf32>) {
  %0 = mpt.matmul %x, %y : (tensor<2x4x3x8xf32>, tensor<2x4x8x5xf32>) -> tensor<2x4x3x5xf32>
  %1 = mpt.matmul %x, %w {transpose_rhs, role = #mpt.role<fprop>}
      : (tensor<2x4x3x8xf32>, tensor<6x8xf32>) -> tensor<2x4x3x6xf32>
  %2 = mpt.matmul %w, %w {transpose_lhs} : (tensor<6x8xf32>, tensor<6x8xf32>) -> tensor<8x8xf32>
  %3 = mpt.matmul %x, %x {fold_batch, transpose_lhs, role = #mpt.role<wgrad>}
      : (tensor<2x4x3x8xf32>, tensor<2x4x3x8xf32>) -> tensor<8x8xf32>
  return
}

// Operands may be held in a format; the result is f32 all the same.
// CHECK-LABEL: func.func @held
// CHECK: mpt.matmul %{{.*}} : (tensor<2x3xf32, #mpt.format<bf16>>, tensor<3x4xf32>) -> tensor<2x4xf32>
func.func @held(%x: tensor<2x3xf32>, %w: tensor<3x4xf32>) -> tensor<2x4xf32> {
  %low = mpt.cast %x : (tensor<2x3xf32>) -> tensor<2x3xf32, #mpt.format<bf16>>
  %0 = mpt.matmul %low, %w : (tensor<2x3xf32, #mpt.format<bf16>>, tensor<3x4xf32>) -> tensor<2x4xf32>
  return %0 : tensor<2x4xf32>
}

// CHECK-LABEL: func.func @scaled_matmul
// CHECK-NEXT: mpt.scaled_matmul %{{.*}}, %{{.*}}, %{{.*}} {operandSegmentSizes = array<i32: 1, 1, 1, 0>, role = #mpt.role<dgrad>} : (tensor<2x3xf8E5M2>, tensor<3x4xbf16>, tensor<f32>) -> tensor<2x4xf32>
func.func @scaled_matmul(%x: tensor<2x3xf8E5M2>, %w: tensor<3x4xbf16>, %s: tensor<f32>) {
  %0 = mpt.scaled_matmul %x, %w, %s {operandSegmentSizes = array<i32: 1, 1, 1, 0>, role = #mpt.role<dgrad>}
      : (tensor<2x3xf8E5M2>, tensor<3x4xbf16>, tensor<f32>) -> tensor<2x4xf32>
  return
}

// CHECK-LABEL: func.func @embedding
// CHECK-NEXT: mpt.gather %{{.*}} : (tensor<9x4xf32>, tensor<2x3xi64>) -> tensor<2x3x4xf32>
// CHECK-NEXT: mpt.scatter_add %{{.*}} : (tensor<9x4xf32>, tensor<2x3xi64>, tensor<2x3x4xf32>) -> tensor<9x4xf32>
func.func @embedding(%table: tensor<9x4xf32>, %ids: tensor<2x3xi64>) {
  %0 = mpt.gather %table, %ids : (tensor<9x4xf32>, tensor<2x3xi64>) -> tensor<2x3x4xf32>
  %1 = mpt.scatter_add %table, %ids, %0
      : (tensor<9x4xf32>, tensor<2x3xi64>, tensor<2x3x4xf32>) -> tensor<9x4xf32>
  return
}

// CHECK-LABEL: func.func @reductions
// CHECK-NEXT: mpt.reduce %{{.*}} {axes = array<i64: 1>, kind = #mpt.reduction<sum>} : (tensor<70x4xf32>) -> tensor<70x1xf32>
// CHECK-NEXT: mpt.reduce %{{.*}} {axes = array<i64: 0, 1>, kind = #mpt.reduction<absmax>} : (tensor<70x4xf32>) -> tensor<1x1xf32>
// CHECK-NEXT: mpt.reduce_chunks %{{.*}} : (tensor<70x4xf32>) -> tensor<2x4xf32>
// CHECK-NEXT: mpt.softmax %{{.*}} : (tensor<70x4xf32>) -> tensor<70x4xf32>
func.func @reductions(%x: tensor<70x4xf32>) {
  %0 = mpt.reduce %x {kind = #mpt.reduction<sum>, axes = array<i64: 1>} : (tensor<70x4xf32>) -> tensor<70x1xf32>
  %1 = mpt.reduce %x {kind = #mpt.reduction<absmax>, axes = array<i64: 0, 1>}
      : (tensor<70x4xf32>) -> tensor<1x1xf32>
  %2 = mpt.reduce_chunks %x : (tensor<70x4xf32>) -> tensor<2x4xf32>
  %3 = mpt.softmax %x : (tensor<70x4xf32>) -> tensor<70x4xf32>
  return
}

// CHECK-LABEL: func.func @composites
// CHECK-NEXT: %{{.*}}, %{{.*}}, %{{.*}} = mpt.layer_norm %{{.*}} {epsilon = 9.99999996E-13 : f32} : (tensor<2x3xf32>, tensor<3xf32>, tensor<3xf32>) -> (tensor<2x3xf32>, tensor<2x1xf32>, tensor<2x1xf32>)
// CHECK-NEXT: %{{.*}}, %{{.*}}, %{{.*}} = mpt.cross_entropy %{{.*}} {ignore_index = -100 : i64} : (tensor<2x3xf32>, tensor<2xi64>) -> (tensor<f32>, tensor<2x1xf32>, tensor<f32>)
func.func @composites(%x: tensor<2x3xf32>, %gain: tensor<3xf32>, %labels: tensor<2xi64>) {
  %y, %mean, %rstd = mpt.layer_norm %x, %gain, %gain {epsilon = 1.0e-12 : f32}
      : (tensor<2x3xf32>, tensor<3xf32>, tensor<3xf32>)
      -> (tensor<2x3xf32>, tensor<2x1xf32>, tensor<2x1xf32>)
  %loss, %lse, %count = mpt.cross_entropy %y, %labels {ignore_index = -100 : i64}
      : (tensor<2x3xf32>, tensor<2xi64>) -> (tensor<f32>, tensor<2x1xf32>, tensor<f32>)
  return
}

// CHECK-LABEL: func.func @adamw
// CHECK-NEXT: mpt.adamw %{{.*}} {beta1 = {{.*}} : f64, beta2 = {{.*}} : f64, epsilon = {{.*}} : f64, weight_decay = {{.*}} : f64}
func.func @adamw(%p: tensor<3xf32>, %s: tensor<f32>, %skip: tensor<i1>) {
  %0:3 = mpt.adamw %p, %p, %p, %p, %s, %s, %s, %s, %skip
      {beta1 = 0.9 : f64, beta2 = 0.999 : f64, epsilon = 1.0e-8 : f64, weight_decay = 0.01 : f64}
      : (tensor<3xf32>, tensor<3xf32>, tensor<3xf32>, tensor<3xf32>, tensor<f32>, tensor<f32>,
         tensor<f32>, tensor<f32>, tensor<i1>) -> (tensor<3xf32>, tensor<3xf32>, tensor<3xf32>)
  return
}

func.func private @epilogue(tensor<8xf32>, tensor<16x8xf32>) -> tensor<16x8xbf16>

// CHECK-LABEL: func.func @fused_matmul
// CHECK-NEXT: mpt.fused_matmul %{{.*}}, %{{.*}}, %{{.*}} {epilogue = @epilogue, keep, operandSegmentSizes = array<i32: 1, 1, 0, 0, 1>, position = 1 : i64} : (tensor<16x32xbf16>, tensor<32x8xbf16>, tensor<8xf32>) -> (tensor<16x8xf32>, tensor<16x8xbf16>)
func.func @fused_matmul(%x: tensor<16x32xbf16>, %w: tensor<32x8xbf16>, %bias: tensor<8xf32>) {
  %0:2 = mpt.fused_matmul %x, %w, %bias {epilogue = @epilogue, position = 1 : i64, keep, operandSegmentSizes = array<i32: 1, 1, 0, 0, 1>}
      : (tensor<16x32xbf16>, tensor<32x8xbf16>, tensor<8xf32>) -> (tensor<16x8xf32>, tensor<16x8xbf16>)
  return
}
