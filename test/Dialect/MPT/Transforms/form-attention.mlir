// Attention in BF16 and its gradient, as a BERT's step has them, become one op
// each; the layers' tensors are read where they are.
// RUN: mpt-opt %s --mpt-form-attention --canonicalize -split-input-file | FileCheck %s

// With mask and dropout. The context is only rounded: it is computed in BF16. The
// gradients also go to sums (of biases) in f32: they are f32, rounded as they lie.
// CHECK-LABEL: func.func @step
// CHECK-DAG: %[[Q:.*]] = mpt.reshape %arg0 {{.*}} -> tensor<2x16x2x32xbf16>
// CHECK-DAG: %[[K:.*]] = mpt.reshape %arg1 {{.*}} -> tensor<2x16x2x32xbf16>
// CHECK-DAG: %[[V:.*]] = mpt.reshape %arg2 {{.*}} -> tensor<2x16x2x32xbf16>
// CHECK: %[[O:.*]], %[[MAX:.*]], %[[SUM:.*]] = mpt.attention %[[Q]], %[[K]], %[[V]], %arg3, %arg5, %arg6
// CHECK-SAME: dropout_id = 7 : i64, keep_probability = 0.899999976 : f32, mpt.name = "context"
// CHECK-SAME: scale = 0.176776692 : f32
// CHECK-SAME: -> (tensor<2x16x2x32xbf16>, tensor<2x2x16xf32>, tensor<2x2x16xf32>)
// CHECK: %[[FLAT:.*]] = mpt.reshape %[[O]]
// CHECK: %[[DY:.*]] = mpt.reshape %arg4 {{.*}} -> tensor<2x16x2x32xbf16>
// CHECK: %[[DQ:.*]], %[[DK:.*]], %[[DV:.*]], %{{.*}} = mpt.attention_grad %[[Q]], %[[K]], %[[V]], %[[O]], %[[DY]], %[[MAX]], %[[SUM]], %arg3, %arg5, %arg6
// CHECK-SAME: dropout_id = 7 : i64, keep_probability = 0.899999976 : f32, mpt.name = "context/grad"
// CHECK-SAME: -> (tensor<2x16x2x32xf32>, tensor<2x16x2x32xf32>, tensor<2x16x2x32xf32>, tensor<2x2x16xf32>)
// CHECK-NOT: 16x16
// CHECK: %[[DVF:.*]] = mpt.reshape %[[DV]]
// CHECK: mpt.quantize %[[DVF]] : (tensor<2x16x64xf32>) -> tensor<2x16x64xbf16>
// CHECK: %[[DQF:.*]] = mpt.reshape %[[DQ]]
// CHECK: mpt.quantize %[[DQF]] : (tensor<2x16x64xf32>) -> tensor<2x16x64xbf16>
// CHECK: return %[[FLAT]]
func.func @step(%q: tensor<2x16x64xbf16>, %k: tensor<2x16x64xbf16>, %v: tensor<2x16x64xbf16>, %mask: tensor<2x1x1x16xf32>,
                %dy: tensor<2x16x64xbf16>, %seed: tensor<i64>, %step: tensor<i64>)
    -> (tensor<2x16x64xbf16>, tensor<2x16x2x32xbf16>, tensor<2x16x2x32xf32>, tensor<2x16x2x32xf32>, tensor<2x2x16x32xbf16>, tensor<2x2x16x32xf32>) {
  %c = mpt.constant dense<0.176776692> : tensor<f32>
  %id = mpt.constant dense<7> : tensor<i64>
  %q4 = mpt.reshape %q : (tensor<2x16x64xbf16>) -> tensor<2x16x2x32xbf16>
  %qt = mpt.transpose %q4 {permutation = array<i64: 0, 2, 1, 3>} : (tensor<2x16x2x32xbf16>) -> tensor<2x2x16x32xbf16>
  %k4 = mpt.reshape %k : (tensor<2x16x64xbf16>) -> tensor<2x16x2x32xbf16>
  %kt = mpt.transpose %k4 {permutation = array<i64: 0, 2, 1, 3>} : (tensor<2x16x2x32xbf16>) -> tensor<2x2x16x32xbf16>
  %v4 = mpt.reshape %v : (tensor<2x16x64xbf16>) -> tensor<2x16x2x32xbf16>
  %vt = mpt.transpose %v4 {permutation = array<i64: 0, 2, 1, 3>} : (tensor<2x16x2x32xbf16>) -> tensor<2x2x16x32xbf16>
  %s = mpt.scaled_matmul %qt, %kt {mpt.name = "scores", role = #mpt.role<fprop>, transpose_rhs, operandSegmentSizes = array<i32: 1, 1, 0, 0>}
      : (tensor<2x2x16x32xbf16>, tensor<2x2x16x32xbf16>) -> tensor<2x2x16x16xf32>
  %s1 = mpt.mul %s, %c : (tensor<2x2x16x16xf32>, tensor<f32>) -> tensor<2x2x16x16xf32>
  %s2 = mpt.add %s1, %mask : (tensor<2x2x16x16xf32>, tensor<2x1x1x16xf32>) -> tensor<2x2x16x16xf32>
  %p = mpt.softmax %s2 : (tensor<2x2x16x16xf32>) -> tensor<2x2x16x16xf32>
  %d = mpt.dropout %p, %seed, %step, %id {keep_probability = 0.9 : f32}
      : (tensor<2x2x16x16xf32>, tensor<i64>, tensor<i64>, tensor<i64>) -> tensor<2x2x16x16xf32>
  %w = mpt.quantize %d : (tensor<2x2x16x16xf32>) -> tensor<2x2x16x16xbf16>
  %o = mpt.scaled_matmul %w, %vt {mpt.name = "context", role = #mpt.role<fprop>, operandSegmentSizes = array<i32: 1, 1, 0, 0>}
      : (tensor<2x2x16x16xbf16>, tensor<2x2x16x32xbf16>) -> tensor<2x2x16x32xf32>
  %o1 = mpt.quantize %o : (tensor<2x2x16x32xf32>) -> tensor<2x2x16x32xbf16>
  %o2 = mpt.transpose %o1 {permutation = array<i64: 0, 2, 1, 3>} : (tensor<2x2x16x32xbf16>) -> tensor<2x16x2x32xbf16>
  %o3 = mpt.reshape %o2 : (tensor<2x16x2x32xbf16>) -> tensor<2x16x64xbf16>
  %dy4 = mpt.reshape %dy : (tensor<2x16x64xbf16>) -> tensor<2x16x2x32xbf16>
  %dyt = mpt.transpose %dy4 {permutation = array<i64: 0, 2, 1, 3>} : (tensor<2x16x2x32xbf16>) -> tensor<2x2x16x32xbf16>
  %dp = mpt.scaled_matmul %dyt, %vt {mpt.name = "context/dgrad.lhs", role = #mpt.role<dgrad>, transpose_rhs, operandSegmentSizes = array<i32: 1, 1, 0, 0>}
      : (tensor<2x2x16x32xbf16>, tensor<2x2x16x32xbf16>) -> tensor<2x2x16x16xf32>
  %dv = mpt.scaled_matmul %w, %dyt {mpt.name = "context/dgrad.rhs", role = #mpt.role<dgrad>, transpose_lhs, operandSegmentSizes = array<i32: 1, 1, 0, 0>}
      : (tensor<2x2x16x16xbf16>, tensor<2x2x16x32xbf16>) -> tensor<2x2x16x32xf32>
  %dv1 = mpt.quantize %dv : (tensor<2x2x16x32xf32>) -> tensor<2x2x16x32xbf16>
  %dv2 = mpt.transpose %dv1 {permutation = array<i64: 0, 2, 1, 3>} : (tensor<2x2x16x32xbf16>) -> tensor<2x16x2x32xbf16>
  %dv3 = mpt.transpose %dv {permutation = array<i64: 0, 2, 1, 3>} : (tensor<2x2x16x32xf32>) -> tensor<2x16x2x32xf32>
  %g = mpt.dropout %dp, %seed, %step, %id {keep_probability = 0.9 : f32}
      : (tensor<2x2x16x16xf32>, tensor<i64>, tensor<i64>, tensor<i64>) -> tensor<2x2x16x16xf32>
  %g1 = mpt.mul %g, %p : (tensor<2x2x16x16xf32>, tensor<2x2x16x16xf32>) -> tensor<2x2x16x16xf32>
  %g2 = mpt.reduce %g1 {axes = array<i64: 3>, kind = #mpt.reduction<sum>} : (tensor<2x2x16x16xf32>) -> tensor<2x2x16x1xf32>
  %g3 = mpt.sub %g, %g2 : (tensor<2x2x16x16xf32>, tensor<2x2x16x1xf32>) -> tensor<2x2x16x16xf32>
  %g4 = mpt.mul %p, %g3 : (tensor<2x2x16x16xf32>, tensor<2x2x16x16xf32>) -> tensor<2x2x16x16xf32>
  %g5 = mpt.mul %g4, %c : (tensor<2x2x16x16xf32>, tensor<f32>) -> tensor<2x2x16x16xf32>
  %ds = mpt.quantize %g5 : (tensor<2x2x16x16xf32>) -> tensor<2x2x16x16xbf16>
  %dq = mpt.scaled_matmul %ds, %kt {mpt.name = "scores/dgrad.lhs", role = #mpt.role<dgrad>, operandSegmentSizes = array<i32: 1, 1, 0, 0>}
      : (tensor<2x2x16x16xbf16>, tensor<2x2x16x32xbf16>) -> tensor<2x2x16x32xf32>
  %dq1 = mpt.quantize %dq : (tensor<2x2x16x32xf32>) -> tensor<2x2x16x32xbf16>
  %dk = mpt.scaled_matmul %ds, %qt {mpt.name = "scores/dgrad.rhs", role = #mpt.role<dgrad>, transpose_lhs, operandSegmentSizes = array<i32: 1, 1, 0, 0>}
      : (tensor<2x2x16x16xbf16>, tensor<2x2x16x32xbf16>) -> tensor<2x2x16x32xf32>
  %dq2 = mpt.transpose %dq {permutation = array<i64: 0, 2, 1, 3>} : (tensor<2x2x16x32xf32>) -> tensor<2x16x2x32xf32>
  return %o3, %dv2, %dv3, %dq2, %dq1, %dk : tensor<2x16x64xbf16>, tensor<2x16x2x32xbf16>, tensor<2x16x2x32xf32>, tensor<2x16x2x32xf32>, tensor<2x2x16x32xbf16>, tensor<2x2x16x32xf32>
}

// -----

// Without gradient, mask, factor and dropout; the context in f32 stays f32. Query,
// key and value are thirds of one tensor.
// CHECK-LABEL: func.func @step
// CHECK: %[[O:.*]], %{{.*}}, %{{.*}} = mpt.attention %{{.*}}, %{{.*}}, %{{.*}} {mpt.name = "context"
// CHECK-SAME: scale = 1.000000e+00 : f32} : (tensor<2x32x2x64xbf16>, tensor<2x32x2x64xbf16>, tensor<2x32x2x64xbf16>) -> (tensor<2x32x2x64xf32>,
// CHECK-NOT: mpt.attention_grad
func.func @step(%qkv: tensor<2x32x6x64xbf16>) -> tensor<2x2x32x64xf32> {
  %q4 = mpt.slice %qkv {offsets = array<i64: 0, 0, 0, 0>} : (tensor<2x32x6x64xbf16>) -> tensor<2x32x2x64xbf16>
  %k4 = mpt.slice %qkv {offsets = array<i64: 0, 0, 2, 0>} : (tensor<2x32x6x64xbf16>) -> tensor<2x32x2x64xbf16>
  %v4 = mpt.slice %qkv {offsets = array<i64: 0, 0, 4, 0>} : (tensor<2x32x6x64xbf16>) -> tensor<2x32x2x64xbf16>
  %q = mpt.transpose %q4 {permutation = array<i64: 0, 2, 1, 3>} : (tensor<2x32x2x64xbf16>) -> tensor<2x2x32x64xbf16>
  %k = mpt.transpose %k4 {permutation = array<i64: 0, 2, 1, 3>} : (tensor<2x32x2x64xbf16>) -> tensor<2x2x32x64xbf16>
  %v = mpt.transpose %v4 {permutation = array<i64: 0, 2, 1, 3>} : (tensor<2x32x2x64xbf16>) -> tensor<2x2x32x64xbf16>
  %s = mpt.scaled_matmul %q, %k {mpt.name = "scores", transpose_rhs, operandSegmentSizes = array<i32: 1, 1, 0, 0>}
      : (tensor<2x2x32x64xbf16>, tensor<2x2x32x64xbf16>) -> tensor<2x2x32x32xf32>
  %p = mpt.softmax %s : (tensor<2x2x32x32xf32>) -> tensor<2x2x32x32xf32>
  %w = mpt.quantize %p : (tensor<2x2x32x32xf32>) -> tensor<2x2x32x32xbf16>
  %o = mpt.scaled_matmul %w, %v {mpt.name = "context", operandSegmentSizes = array<i32: 1, 1, 0, 0>}
      : (tensor<2x2x32x32xbf16>, tensor<2x2x32x64xbf16>) -> tensor<2x2x32x64xf32>
  %o1 = mpt.neg %o : (tensor<2x2x32x64xf32>) -> tensor<2x2x32x64xf32>
  return %o1 : tensor<2x2x32x64xf32>
}

// -----

// A softmax that no product reads is none of attention's.
// CHECK-LABEL: func.func @step
// CHECK-NEXT: mpt.softmax
func.func @step(%x: tensor<4x16xf32>) -> tensor<4x16xf32> {
  %p = mpt.softmax %x : (tensor<4x16xf32>) -> tensor<4x16xf32>
  return %p : tensor<4x16xf32>
}
