// What a linear layer's gradient looks like: roles, names, and nothing that no
// parameter needs.
// RUN: mpt-opt %s --mpt-differentiate --canonicalize --cse -split-input-file | FileCheck %s

// The gradient of x is never built; that of w is a product over all rows.
// CHECK-LABEL: func.func @gradient
// CHECK-SAME: -> (tensor<f32> {mpt.name = "loss"}, tensor<4x3xf32> {mpt.name = "dense.weight"})
func.func @forward(%x: tensor<2x5x3xf32> {mpt.name = "x", mpt.kind = #mpt.kind<input>},
    %w: tensor<4x3xf32> {mpt.name = "dense.weight", mpt.kind = #mpt.kind<parameter>})
    -> (tensor<f32> {mpt.name = "loss"}) {
  // CHECK: mpt.matmul {{.*}} {mpt.name = "dense", role = #mpt.role<fprop>, transpose_rhs}
  %y = mpt.matmul %x, %w {transpose_rhs, mpt.name = "dense"} : (tensor<2x5x3xf32>, tensor<4x3xf32>) -> tensor<2x5x4xf32>
  // CHECK-NOT: dgrad
  // CHECK: mpt.matmul {{.*}} {fold_batch, mpt.name = "dense/wgrad", role = #mpt.role<wgrad>, transpose_lhs}
  // CHECK-NOT: dgrad
  %s = mpt.reduce %y {kind = #mpt.reduction<sum>, axes = array<i64: 0, 1, 2>} : (tensor<2x5x4xf32>) -> tensor<1x1x1xf32>
  %loss = mpt.reshape %s : (tensor<1x1x1xf32>) -> tensor<f32>
  return %loss : tensor<f32>
}

// -----

// A tied table is read by a gather and by a product: the gradients are summed,
// the scatter into the product's result.
// CHECK-LABEL: func.func @gradient
func.func @forward(%table: tensor<16x8xf32> {mpt.name = "emb.weight", mpt.kind = #mpt.kind<parameter>},
    %ids: tensor<4xi64> {mpt.name = "ids", mpt.kind = #mpt.kind<input>})
    -> (tensor<f32> {mpt.name = "loss"}) {
  %e = mpt.gather %table, %ids {mpt.name = "emb"} : (tensor<16x8xf32>, tensor<4xi64>) -> tensor<4x8xf32>
  %y = mpt.matmul %e, %table {transpose_rhs, mpt.name = "decoder"} : (tensor<4x8xf32>, tensor<16x8xf32>) -> tensor<4x16xf32>
  // CHECK: %[[DGRAD:.*]] = mpt.matmul {{.*}} {mpt.name = "decoder/dgrad", role = #mpt.role<dgrad>}
  // CHECK: %[[WGRAD:.*]] = mpt.matmul {{.*}} {mpt.name = "decoder/wgrad", role = #mpt.role<wgrad>, transpose_lhs}
  // CHECK: %[[SUM:.*]] = mpt.scatter_add %[[WGRAD]], %{{.*}}, %[[DGRAD]]
  // CHECK: return %{{.*}}, %[[SUM]]
  %s = mpt.reduce %y {kind = #mpt.reduction<sum>, axes = array<i64: 0, 1>} : (tensor<4x16xf32>) -> tensor<1x1xf32>
  %loss = mpt.reshape %s : (tensor<1x1xf32>) -> tensor<f32>
  return %loss : tensor<f32>
}

// -----

// Attention's products have no parameter: both gradients are dgrads.
// CHECK-LABEL: func.func @gradient
func.func @forward(%w: tensor<4x4xf32> {mpt.name = "w", mpt.kind = #mpt.kind<parameter>},
    %x: tensor<4x4xf32> {mpt.name = "x", mpt.kind = #mpt.kind<input>}) -> (tensor<f32> {mpt.name = "loss"}) {
  %q = mpt.matmul %x, %w {mpt.name = "q"} : (tensor<4x4xf32>, tensor<4x4xf32>) -> tensor<4x4xf32>
  %k = mpt.exp %q {mpt.name = "k"} : (tensor<4x4xf32>) -> tensor<4x4xf32>
  // CHECK: mpt.name = "scores/dgrad.lhs", role = #mpt.role<dgrad>
  // CHECK: mpt.name = "scores/dgrad.rhs", role = #mpt.role<dgrad>
  %y = mpt.matmul %q, %k {transpose_rhs, mpt.name = "scores"} : (tensor<4x4xf32>, tensor<4x4xf32>) -> tensor<4x4xf32>
  %s = mpt.reduce %y {kind = #mpt.reduction<sum>, axes = array<i64: 0, 1>} : (tensor<4x4xf32>) -> tensor<1x1xf32>
  %loss = mpt.reshape %s : (tensor<1x1xf32>) -> tensor<f32>
  return %loss : tensor<f32>
}

// -----

// Dropout's gradient draws the same mask again: seed, step and id are the same.
// CHECK-LABEL: func.func @gradient
func.func @forward(%w: tensor<4xf32> {mpt.name = "w", mpt.kind = #mpt.kind<parameter>},
    %seed: tensor<i64> {mpt.name = "rng.seed", mpt.kind = #mpt.kind<rng>},
    %step: tensor<i64> {mpt.name = "rng.step", mpt.kind = #mpt.kind<rng>}) -> (tensor<f32> {mpt.name = "loss"}) {
  // CHECK: %[[ID:.*]] = mpt.constant dense<7> : tensor<i64>
  %id = mpt.constant dense<7> : tensor<i64>
  // CHECK-COUNT-2: mpt.dropout %{{.*}}, %arg1, %arg2, %[[ID]]
  %y = mpt.dropout %w, %seed, %step, %id {keep_probability = 0.5 : f32} : (tensor<4xf32>, tensor<i64>, tensor<i64>, tensor<i64>) -> tensor<4xf32>
  %z = mpt.mul %y, %y : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  %s = mpt.reduce %z {kind = #mpt.reduction<sum>, axes = array<i64: 0>} : (tensor<4xf32>) -> tensor<1xf32>
  %loss = mpt.reshape %s : (tensor<1xf32>) -> tensor<f32>
  return %loss : tensor<f32>
}
