// What keeps attention from becoming one op: remarks that name its context. And
// the stage that the pass expects.
// RUN: mpt-opt %s --mpt-form-attention -split-input-file --verify-diagnostics

// expected-error@+1 {{mpt-form-attention expects a function @step}}
module {}

// -----

// Products in f32: a pin or a profile.
func.func @step(%q: tensor<1x2x16x32xf32>, %k: tensor<1x2x16x32xf32>, %v: tensor<1x2x16x32xf32>) -> tensor<1x2x16x32xf32> {
  %s = mpt.matmul %q, %k {mpt.name = "scores", transpose_rhs} : (tensor<1x2x16x32xf32>, tensor<1x2x16x32xf32>) -> tensor<1x2x16x16xf32>
  %p = mpt.softmax %s : (tensor<1x2x16x16xf32>) -> tensor<1x2x16x16xf32>
  // expected-remark@+1 {{attention 'context' stays decomposed: its scores are a product of f32, expected bf16}}
  %o = mpt.matmul %p, %v {mpt.name = "context"} : (tensor<1x2x16x16xf32>, tensor<1x2x16x32xf32>) -> tensor<1x2x16x32xf32>
  return %o : tensor<1x2x16x32xf32>
}

// -----

// Query and key in FP8.
func.func @step(%q: tensor<1x2x16x32xf8E4M3FN>, %k: tensor<1x2x16x32xf8E4M3FN>, %v: tensor<1x2x16x32xbf16>) -> tensor<1x2x16x32xf32> {
  %s = mpt.scaled_matmul %q, %k {mpt.name = "scores", transpose_rhs, operandSegmentSizes = array<i32: 1, 1, 0, 0>}
      : (tensor<1x2x16x32xf8E4M3FN>, tensor<1x2x16x32xf8E4M3FN>) -> tensor<1x2x16x16xf32>
  %p = mpt.softmax %s : (tensor<1x2x16x16xf32>) -> tensor<1x2x16x16xf32>
  %w = mpt.quantize %p : (tensor<1x2x16x16xf32>) -> tensor<1x2x16x16xbf16>
  // expected-remark@+1 {{attention 'context' stays decomposed: its query is held in f8E4M3FN, expected bf16}}
  %o = mpt.scaled_matmul %w, %v {mpt.name = "context", operandSegmentSizes = array<i32: 1, 1, 0, 0>}
      : (tensor<1x2x16x16xbf16>, tensor<1x2x16x32xbf16>) -> tensor<1x2x16x32xf32>
  return %o : tensor<1x2x16x32xf32>
}

// -----

// Probabilities in FP8.
func.func @step(%q: tensor<1x16x2x32xbf16>, %v: tensor<1x2x16x32xf8E4M3FN>, %scale: tensor<f32>) -> tensor<1x2x16x32xf32> {
  %qt = mpt.transpose %q {permutation = array<i64: 0, 2, 1, 3>} : (tensor<1x16x2x32xbf16>) -> tensor<1x2x16x32xbf16>
  %s = mpt.scaled_matmul %qt, %qt {mpt.name = "scores", transpose_rhs, operandSegmentSizes = array<i32: 1, 1, 0, 0>}
      : (tensor<1x2x16x32xbf16>, tensor<1x2x16x32xbf16>) -> tensor<1x2x16x16xf32>
  %p = mpt.softmax %s : (tensor<1x2x16x16xf32>) -> tensor<1x2x16x16xf32>
  %w = mpt.quantize %p, %scale : (tensor<1x2x16x16xf32>, tensor<f32>) -> tensor<1x2x16x16xf8E4M3FN>
  // expected-remark@+1 {{attention 'context' stays decomposed: its probabilities are not held in bf16}}
  %o = mpt.scaled_matmul %w, %v {mpt.name = "context", operandSegmentSizes = array<i32: 1, 1, 0, 0>}
      : (tensor<1x2x16x16xf8E4M3FN>, tensor<1x2x16x32xf8E4M3FN>) -> tensor<1x2x16x32xf32>
  return %o : tensor<1x2x16x32xf32>
}

// -----

// Somebody wants the probabilities.
func.func @step(%q: tensor<1x16x2x32xbf16>) -> (tensor<1x2x16x32xf32>, tensor<1x2x16x16xf32>) {
  %qt = mpt.transpose %q {permutation = array<i64: 0, 2, 1, 3>} : (tensor<1x16x2x32xbf16>) -> tensor<1x2x16x32xbf16>
  %s = mpt.scaled_matmul %qt, %qt {mpt.name = "scores", transpose_rhs, operandSegmentSizes = array<i32: 1, 1, 0, 0>}
      : (tensor<1x2x16x32xbf16>, tensor<1x2x16x32xbf16>) -> tensor<1x2x16x16xf32>
  %p = mpt.softmax %s {mpt.name = "softmax"} : (tensor<1x2x16x16xf32>) -> tensor<1x2x16x16xf32>
  %w = mpt.quantize %p : (tensor<1x2x16x16xf32>) -> tensor<1x2x16x16xbf16>
  // expected-remark@+1 {{attention 'context' stays decomposed: 'entropy' reads 'softmax', which a kernel does not store}}
  %o = mpt.scaled_matmul %w, %qt {mpt.name = "context", operandSegmentSizes = array<i32: 1, 1, 0, 0>}
      : (tensor<1x2x16x16xbf16>, tensor<1x2x16x32xbf16>) -> tensor<1x2x16x32xf32>
  %l = mpt.log %p {mpt.name = "entropy"} : (tensor<1x2x16x16xf32>) -> tensor<1x2x16x16xf32>
  return %o, %l : tensor<1x2x16x32xf32>, tensor<1x2x16x16xf32>
}

// -----

func.func @step(%q: tensor<1x16x2x24xbf16>) -> tensor<1x2x16x24xf32> {
  %qt = mpt.transpose %q {permutation = array<i64: 0, 2, 1, 3>} : (tensor<1x16x2x24xbf16>) -> tensor<1x2x16x24xbf16>
  %s = mpt.scaled_matmul %qt, %qt {mpt.name = "scores", transpose_rhs, operandSegmentSizes = array<i32: 1, 1, 0, 0>}
      : (tensor<1x2x16x24xbf16>, tensor<1x2x16x24xbf16>) -> tensor<1x2x16x16xf32>
  %p = mpt.softmax %s : (tensor<1x2x16x16xf32>) -> tensor<1x2x16x16xf32>
  %w = mpt.quantize %p : (tensor<1x2x16x16xf32>) -> tensor<1x2x16x16xbf16>
  // expected-remark@+1 {{attention 'context' stays decomposed: it has heads of 24 elements, expected 32 to 128 in steps of 16}}
  %o = mpt.scaled_matmul %w, %qt {mpt.name = "context", operandSegmentSizes = array<i32: 1, 1, 0, 0>}
      : (tensor<1x2x16x16xbf16>, tensor<1x2x16x24xbf16>) -> tensor<1x2x16x24xf32>
  return %o : tensor<1x2x16x24xf32>
}

// -----

func.func @step(%q: tensor<1x20x2x32xbf16>) -> tensor<1x2x20x32xf32> {
  %qt = mpt.transpose %q {permutation = array<i64: 0, 2, 1, 3>} : (tensor<1x20x2x32xbf16>) -> tensor<1x2x20x32xbf16>
  %s = mpt.scaled_matmul %qt, %qt {mpt.name = "scores", transpose_rhs, operandSegmentSizes = array<i32: 1, 1, 0, 0>}
      : (tensor<1x2x20x32xbf16>, tensor<1x2x20x32xbf16>) -> tensor<1x2x20x20xf32>
  %p = mpt.softmax %s : (tensor<1x2x20x20xf32>) -> tensor<1x2x20x20xf32>
  %w = mpt.quantize %p : (tensor<1x2x20x20xf32>) -> tensor<1x2x20x20xbf16>
  // expected-remark@+1 {{attention 'context' stays decomposed: it has sequences of 20, expected a multiple of 16}}
  %o = mpt.scaled_matmul %w, %qt {mpt.name = "context", operandSegmentSizes = array<i32: 1, 1, 0, 0>}
      : (tensor<1x2x20x20xbf16>, tensor<1x2x20x32xbf16>) -> tensor<1x2x20x32xf32>
  return %o : tensor<1x2x20x32xf32>
}

// -----

// Heads one behind the other instead of side by side.
func.func @step(%q: tensor<1x2x16x32xbf16>) -> tensor<1x2x16x32xf32> {
  %s = mpt.scaled_matmul %q, %q {mpt.name = "scores", transpose_rhs, operandSegmentSizes = array<i32: 1, 1, 0, 0>}
      : (tensor<1x2x16x32xbf16>, tensor<1x2x16x32xbf16>) -> tensor<1x2x16x16xf32>
  %p = mpt.softmax %s : (tensor<1x2x16x16xf32>) -> tensor<1x2x16x16xf32>
  %w = mpt.quantize %p : (tensor<1x2x16x16xf32>) -> tensor<1x2x16x16xbf16>
  // expected-remark@+1 {{attention 'context' stays decomposed: its query has heads 512 and rows 32 elements apart, expected heads of 32 side by side in rows that begin at multiples of 8}}
  %o = mpt.scaled_matmul %w, %q {mpt.name = "context", operandSegmentSizes = array<i32: 1, 1, 0, 0>}
      : (tensor<1x2x16x16xbf16>, tensor<1x2x16x32xbf16>) -> tensor<1x2x16x32xf32>
  return %o : tensor<1x2x16x32xf32>
}

// -----

// A bias for each pair of positions.
func.func @step(%q: tensor<1x16x2x32xbf16>, %bias: tensor<1x1x16x16xf32>) -> tensor<1x2x16x32xf32> {
  %qt = mpt.transpose %q {permutation = array<i64: 0, 2, 1, 3>} : (tensor<1x16x2x32xbf16>) -> tensor<1x2x16x32xbf16>
  %s = mpt.scaled_matmul %qt, %qt {mpt.name = "scores", transpose_rhs, operandSegmentSizes = array<i32: 1, 1, 0, 0>}
      : (tensor<1x2x16x32xbf16>, tensor<1x2x16x32xbf16>) -> tensor<1x2x16x16xf32>
  %b = mpt.add %s, %bias : (tensor<1x2x16x16xf32>, tensor<1x1x16x16xf32>) -> tensor<1x2x16x16xf32>
  %p = mpt.softmax %b : (tensor<1x2x16x16xf32>) -> tensor<1x2x16x16xf32>
  %w = mpt.quantize %p : (tensor<1x2x16x16xf32>) -> tensor<1x2x16x16xbf16>
  // expected-remark@+1 {{attention 'context' stays decomposed: what is added to its scores is tensor<1x1x16x16xf32>, expected a number per key}}
  %o = mpt.scaled_matmul %w, %qt {mpt.name = "context", operandSegmentSizes = array<i32: 1, 1, 0, 0>}
      : (tensor<1x2x16x16xbf16>, tensor<1x2x16x32xbf16>) -> tensor<1x2x16x32xf32>
  return %o : tensor<1x2x16x32xf32>
}

// -----

// The gradient of the probabilities is missing (its operand is in another format).
func.func @step(%q: tensor<1x16x2x32xbf16>, %dy: tensor<1x16x2x32xbf16>, %low: tensor<1x2x16x32xf8E5M2>)
    -> (tensor<1x2x16x32xf32>, tensor<1x2x16x32xf32>, tensor<1x2x16x16xf32>) {
  %qt = mpt.transpose %q {permutation = array<i64: 0, 2, 1, 3>} : (tensor<1x16x2x32xbf16>) -> tensor<1x2x16x32xbf16>
  %dyt = mpt.transpose %dy {permutation = array<i64: 0, 2, 1, 3>} : (tensor<1x16x2x32xbf16>) -> tensor<1x2x16x32xbf16>
  %s = mpt.scaled_matmul %qt, %qt {mpt.name = "scores", transpose_rhs, operandSegmentSizes = array<i32: 1, 1, 0, 0>}
      : (tensor<1x2x16x32xbf16>, tensor<1x2x16x32xbf16>) -> tensor<1x2x16x16xf32>
  %p = mpt.softmax %s : (tensor<1x2x16x16xf32>) -> tensor<1x2x16x16xf32>
  %w = mpt.quantize %p : (tensor<1x2x16x16xf32>) -> tensor<1x2x16x16xbf16>
  // expected-remark@+1 {{attention 'context' stays decomposed: the gradient of its probabilities was not found}}
  %o = mpt.scaled_matmul %w, %qt {mpt.name = "context", operandSegmentSizes = array<i32: 1, 1, 0, 0>}
      : (tensor<1x2x16x16xbf16>, tensor<1x2x16x32xbf16>) -> tensor<1x2x16x32xf32>
  %dv = mpt.scaled_matmul %w, %dyt {mpt.name = "context/dgrad.rhs", role = #mpt.role<dgrad>, transpose_lhs, operandSegmentSizes = array<i32: 1, 1, 0, 0>}
      : (tensor<1x2x16x16xbf16>, tensor<1x2x16x32xbf16>) -> tensor<1x2x16x32xf32>
  %dp = mpt.scaled_matmul %low, %qt {mpt.name = "context/dgrad.lhs", role = #mpt.role<dgrad>, transpose_rhs, operandSegmentSizes = array<i32: 1, 1, 0, 0>}
      : (tensor<1x2x16x32xf8E5M2>, tensor<1x2x16x32xbf16>) -> tensor<1x2x16x16xf32>
  return %o, %dv, %dp : tensor<1x2x16x32xf32>, tensor<1x2x16x32xf32>, tensor<1x2x16x16xf32>
}
