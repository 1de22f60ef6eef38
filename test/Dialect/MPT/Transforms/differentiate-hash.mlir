// The hash names the model: it is that of another batch size, not that of other names or shapes.
// RUN: mpt-opt %s --split-input-file --mpt-differentiate | FileCheck %s

// CHECK: mpt.graph_hash = "[[HASH:[0-9a-f]+]]"
func.func @forward(%x: tensor<4x8xf32> {mpt.name = "x", mpt.kind = #mpt.kind<input>},
                   %w: tensor<8x8xf32> {mpt.name = "w", mpt.kind = #mpt.kind<parameter>}) -> tensor<f32> {
  %0 = mpt.matmul %x, %w {mpt.name = "layer"} : (tensor<4x8xf32>, tensor<8x8xf32>) -> tensor<4x8xf32>
  %1 = mpt.reduce %0 {mpt.name = "sum", kind = #mpt.reduction<sum>, axes = array<i64: 0, 1>} : (tensor<4x8xf32>) -> tensor<1x1xf32>
  %2 = mpt.reshape %1 : (tensor<1x1xf32>) -> tensor<f32>
  return %2 : tensor<f32>
}

// -----

// CHECK: mpt.graph_hash = "[[HASH]]"
func.func @forward(%x: tensor<2x8xf32> {mpt.name = "x", mpt.kind = #mpt.kind<input>},
                   %w: tensor<8x8xf32> {mpt.name = "w", mpt.kind = #mpt.kind<parameter>}) -> tensor<f32> {
  %0 = mpt.matmul %x, %w {mpt.name = "layer"} : (tensor<2x8xf32>, tensor<8x8xf32>) -> tensor<2x8xf32>
  %1 = mpt.reduce %0 {mpt.name = "sum", kind = #mpt.reduction<sum>, axes = array<i64: 0, 1>} : (tensor<2x8xf32>) -> tensor<1x1xf32>
  %2 = mpt.reshape %1 : (tensor<1x1xf32>) -> tensor<f32>
  return %2 : tensor<f32>
}

// -----

// CHECK-NOT: mpt.graph_hash = "[[HASH]]"
func.func @forward(%x: tensor<2x8xf32> {mpt.name = "x", mpt.kind = #mpt.kind<input>},
                   %w: tensor<8x8xf32> {mpt.name = "w", mpt.kind = #mpt.kind<parameter>}) -> tensor<f32> {
  %0 = mpt.matmul %x, %w {mpt.name = "other"} : (tensor<2x8xf32>, tensor<8x8xf32>) -> tensor<2x8xf32>
  %1 = mpt.reduce %0 {mpt.name = "sum", kind = #mpt.reduction<sum>, axes = array<i64: 0, 1>} : (tensor<2x8xf32>) -> tensor<1x1xf32>
  %2 = mpt.reshape %1 : (tensor<1x1xf32>) -> tensor<f32>
  return %2 : tensor<f32>
}
