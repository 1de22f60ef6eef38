// A product takes in the kernel that reads its result where it is; with other
// readers it keeps it. What needs whole rows stays a kernel.
// RUN: mpt-opt %s --mpt-fuse-epilogues=remarks --split-input-file --verify-diagnostics | FileCheck %s

// CHECK-LABEL: func.func @step
// CHECK-NEXT: %[[R:.*]]:2 = mpt.fused_matmul %arg0, %arg1, %arg2 {epilogue = @bias_gelu, mpt.implementation = "own", mpt.name = "layer", operandSegmentSizes = array<i32: 1, 1, 0, 0, 1>, position = 0 : i64, transpose_rhs} : (tensor<16x32xbf16>, tensor<48x32xbf16>, tensor<48xf32>) -> (tensor<16x48xf32>, tensor<16x48xbf16>)
// CHECK-NEXT: return %[[R]]#0, %[[R]]#1
func.func private @bias_gelu(%x: tensor<16x48xf32>, %b: tensor<48xf32>) -> (tensor<16x48xf32>, tensor<16x48xbf16>) attributes {mpt.kernel} {
  %0 = mpt.add %x, %b : (tensor<16x48xf32>, tensor<48xf32>) -> tensor<16x48xf32>
  %1 = mpt.gelu %0 : (tensor<16x48xf32>) -> tensor<16x48xf32>
  %2 = mpt.quantize %1 : (tensor<16x48xf32>) -> tensor<16x48xbf16>
  return %0, %2 : tensor<16x48xf32>, tensor<16x48xbf16>
}
func.func @step(%x: tensor<16x32xbf16>, %w: tensor<48x32xbf16>, %b: tensor<48xf32>) -> (tensor<16x48xf32>, tensor<16x48xbf16>) {
  %0 = mpt.scaled_matmul %x, %w {mpt.name = "layer", mpt.implementation = "own", transpose_rhs, operandSegmentSizes = array<i32: 1, 1, 0, 0>}
      : (tensor<16x32xbf16>, tensor<48x32xbf16>) -> tensor<16x48xf32>
  %1:2 = call @bias_gelu(%0, %b) : (tensor<16x48xf32>, tensor<48xf32>) -> (tensor<16x48xf32>, tensor<16x48xbf16>)
  return %1#0, %1#1 : tensor<16x48xf32>, tensor<16x48xbf16>
}

// -----

// Two readers: the first kernel becomes the epilogue, the other reads the result
// that is kept. The second product is cuBLASLt's.
// CHECK-LABEL: func.func @step
// CHECK: %[[R:.*]]:2 = mpt.fused_matmul {{.*}}epilogue = @scale, keep, {{.*}}-> (tensor<16x48xf32>, tensor<16x48xf32>)
// CHECK-NEXT: call @scale(%[[R]]#0)
// CHECK-NEXT: mpt.scaled_matmul
// CHECK-NEXT: call @scale
func.func private @scale(%x: tensor<16x48xf32>) -> tensor<16x48xf32> attributes {mpt.kernel} {
  %0 = mpt.mul %x, %x : (tensor<16x48xf32>, tensor<16x48xf32>) -> tensor<16x48xf32>
  return %0 : tensor<16x48xf32>
}
func.func @step(%x: tensor<16x32xbf16>, %w: tensor<48x32xbf16>) -> (tensor<16x48xf32>, tensor<16x48xf32>, tensor<16x48xf32>) {
  %0 = mpt.scaled_matmul %x, %w {mpt.name = "layer", mpt.implementation = "own", transpose_rhs, operandSegmentSizes = array<i32: 1, 1, 0, 0>}
      : (tensor<16x32xbf16>, tensor<48x32xbf16>) -> tensor<16x48xf32>
  %1 = call @scale(%0) : (tensor<16x48xf32>) -> tensor<16x48xf32>
  %2 = call @scale(%0) : (tensor<16x48xf32>) -> tensor<16x48xf32>
  %3 = mpt.scaled_matmul %x, %w {mpt.name = "other", mpt.implementation = "cublaslt", transpose_rhs, operandSegmentSizes = array<i32: 1, 1, 0, 0>}
      : (tensor<16x32xbf16>, tensor<48x32xbf16>) -> tensor<16x48xf32>
  %4 = call @scale(%3) : (tensor<16x48xf32>) -> tensor<16x48xf32>
  return %1, %2, %4 : tensor<16x48xf32>, tensor<16x48xf32>, tensor<16x48xf32>
}

// -----

// FP8 codes of the result and of its transposed, the operand of a product along
// the rows.
// CHECK-LABEL: func.func @step
// CHECK: mpt.fused_matmul {{.*}}epilogue = @both, {{.*}}-> (tensor<16x48xf8E4M3FN>, tensor<48x16xf8E4M3FN>)
func.func private @both(%x: tensor<2x8x48xf32>) -> (tensor<16x48xf8E4M3FN>, tensor<48x16xf8E4M3FN>) attributes {mpt.kernel} {
  %0 = mpt.gelu %x : (tensor<2x8x48xf32>) -> tensor<2x8x48xf32>
  %1 = mpt.reshape %0 : (tensor<2x8x48xf32>) -> tensor<16x48xf32>
  %one = mpt.constant dense<1.0> : tensor<f32>
  %2 = mpt.quantize %1, %one : (tensor<16x48xf32>, tensor<f32>) -> tensor<16x48xf8E4M3FN>
  %3 = mpt.transpose %2 {permutation = array<i64: 1, 0>} : (tensor<16x48xf8E4M3FN>) -> tensor<48x16xf8E4M3FN>
  %4 = mpt.copy %3 : (tensor<48x16xf8E4M3FN>) -> tensor<48x16xf8E4M3FN>
  return %2, %4 : tensor<16x48xf8E4M3FN>, tensor<48x16xf8E4M3FN>
}
func.func @step(%x: tensor<2x8x32xbf16>, %w: tensor<48x32xbf16>) -> (tensor<16x48xf8E4M3FN>, tensor<48x16xf8E4M3FN>) {
  %0 = mpt.scaled_matmul %x, %w {mpt.name = "layer", mpt.implementation = "own", transpose_rhs, operandSegmentSizes = array<i32: 1, 1, 0, 0>}
      : (tensor<2x8x32xbf16>, tensor<48x32xbf16>) -> tensor<2x8x48xf32>
  %1:2 = call @both(%0) : (tensor<2x8x48xf32>) -> (tensor<16x48xf8E4M3FN>, tensor<48x16xf8E4M3FN>)
  return %1#0, %1#1 : tensor<16x48xf8E4M3FN>, tensor<48x16xf8E4M3FN>
}

// -----

// Other transposed results: BF16, a matrix for each half of the rows, 8 rows.
// CHECK-LABEL: func.func @step
// CHECK-NOT: mpt.fused_matmul
func.func private @bf16(%x: tensor<32x48xf32>) -> tensor<48x32xbf16> attributes {mpt.kernel} {
  %0 = mpt.quantize %x : (tensor<32x48xf32>) -> tensor<32x48xbf16>
  %1 = mpt.transpose %0 {permutation = array<i64: 1, 0>} : (tensor<32x48xbf16>) -> tensor<48x32xbf16>
  %2 = mpt.copy %1 : (tensor<48x32xbf16>) -> tensor<48x32xbf16>
  return %2 : tensor<48x32xbf16>
}
func.func private @halves(%x: tensor<32x48xf32>) -> tensor<2x48x16xf8E5M2> attributes {mpt.kernel} {
  %one = mpt.constant dense<1.0> : tensor<f32>
  %0 = mpt.quantize %x, %one : (tensor<32x48xf32>, tensor<f32>) -> tensor<32x48xf8E5M2>
  %1 = mpt.reshape %0 : (tensor<32x48xf8E5M2>) -> tensor<2x16x48xf8E5M2>
  %2 = mpt.transpose %1 {permutation = array<i64: 0, 2, 1>} : (tensor<2x16x48xf8E5M2>) -> tensor<2x48x16xf8E5M2>
  %3 = mpt.copy %2 : (tensor<2x48x16xf8E5M2>) -> tensor<2x48x16xf8E5M2>
  return %3 : tensor<2x48x16xf8E5M2>
}
func.func private @short(%x: tensor<8x48xf32>) -> tensor<48x8xf8E5M2> attributes {mpt.kernel} {
  %one = mpt.constant dense<1.0> : tensor<f32>
  %0 = mpt.quantize %x, %one : (tensor<8x48xf32>, tensor<f32>) -> tensor<8x48xf8E5M2>
  %1 = mpt.transpose %0 {permutation = array<i64: 1, 0>} : (tensor<8x48xf8E5M2>) -> tensor<48x8xf8E5M2>
  %2 = mpt.copy %1 : (tensor<48x8xf8E5M2>) -> tensor<48x8xf8E5M2>
  return %2 : tensor<48x8xf8E5M2>
}
func.func @step(%x: tensor<32x32xbf16>, %y: tensor<8x32xbf16>, %w: tensor<48x32xbf16>) -> (tensor<48x32xbf16>, tensor<2x48x16xf8E5M2>, tensor<48x8xf8E5M2>) {
  // expected-remark @below {{'layer' does not take in 'func.call': the kernel has a transposed result that is not FP8}}
  // expected-remark @below {{'layer' does not take in 'func.call': the kernel has codes that are transposed other than as one matrix}}
  %0 = mpt.scaled_matmul %x, %w {mpt.name = "layer", mpt.implementation = "own", transpose_rhs, operandSegmentSizes = array<i32: 1, 1, 0, 0>}
      : (tensor<32x32xbf16>, tensor<48x32xbf16>) -> tensor<32x48xf32>
  %1 = call @bf16(%0) : (tensor<32x48xf32>) -> tensor<48x32xbf16>
  %2 = call @halves(%0) : (tensor<32x48xf32>) -> tensor<2x48x16xf8E5M2>
  // expected-remark @below {{'few' does not take in 'func.call': the kernel has transposed codes in rows of other than whole 16 bytes}}
  %3 = mpt.scaled_matmul %y, %w {mpt.name = "few", mpt.implementation = "own", transpose_rhs, operandSegmentSizes = array<i32: 1, 1, 0, 0>}
      : (tensor<8x32xbf16>, tensor<48x32xbf16>) -> tensor<8x48xf32>
  %4 = call @short(%3) : (tensor<8x48xf32>) -> tensor<48x8xf8E5M2>
  return %1, %2, %4 : tensor<48x32xbf16>, tensor<2x48x16xf8E5M2>, tensor<48x8xf8E5M2>
}

// -----

// Sums of 64 rows of three values: 768 bytes a column.
// CHECK-LABEL: func.func @step
// CHECK-NOT: mpt.fused_matmul
func.func private @sums(%x: tensor<16x48xf32>) -> (tensor<1x48xf32>, tensor<1x48xf32>, tensor<1x48xf32>) attributes {mpt.kernel} {
  %0 = mpt.add %x, %x : (tensor<16x48xf32>, tensor<16x48xf32>) -> tensor<16x48xf32>
  %1 = mpt.mul %x, %x : (tensor<16x48xf32>, tensor<16x48xf32>) -> tensor<16x48xf32>
  %2 = mpt.reduce_chunks %x : (tensor<16x48xf32>) -> tensor<1x48xf32>
  %3 = mpt.reduce_chunks %0 : (tensor<16x48xf32>) -> tensor<1x48xf32>
  %4 = mpt.reduce_chunks %1 : (tensor<16x48xf32>) -> tensor<1x48xf32>
  return %2, %3, %4 : tensor<1x48xf32>, tensor<1x48xf32>, tensor<1x48xf32>
}
func.func @step(%x: tensor<16x32xbf16>, %w: tensor<48x32xbf16>) -> (tensor<1x48xf32>, tensor<1x48xf32>, tensor<1x48xf32>) {
  // expected-remark @below {{'layer' does not take in 'func.call': the kernel needs more shared memory than a block has}}
  %0 = mpt.scaled_matmul %x, %w {mpt.name = "layer", mpt.implementation = "own", transpose_rhs, operandSegmentSizes = array<i32: 1, 1, 0, 0>}
      : (tensor<16x32xbf16>, tensor<48x32xbf16>) -> tensor<16x48xf32>
  %1:3 = call @sums(%0) : (tensor<16x48xf32>) -> (tensor<1x48xf32>, tensor<1x48xf32>, tensor<1x48xf32>)
  return %1#0, %1#1, %1#2 : tensor<1x48xf32>, tensor<1x48xf32>, tensor<1x48xf32>
}

// -----

// CHECK-LABEL: func.func @step
// CHECK-NOT: mpt.fused_matmul
func.func private @rows(%x: tensor<16x48xf32>) -> tensor<16x48xf32> attributes {mpt.kernel} {
  %0 = mpt.reduce %x {axes = array<i64: 1>, kind = #mpt.reduction<sum>} : (tensor<16x48xf32>) -> tensor<16x1xf32>
  %1 = mpt.sub %x, %0 : (tensor<16x48xf32>, tensor<16x1xf32>) -> tensor<16x48xf32>
  return %1 : tensor<16x48xf32>
}
func.func private @turned(%x: tensor<16x48xf32>, %y: tensor<48x16xf32>) -> tensor<48x16xf32> attributes {mpt.kernel} {
  %0 = mpt.transpose %x {permutation = array<i64: 1, 0>} : (tensor<16x48xf32>) -> tensor<48x16xf32>
  %1 = mpt.add %0, %y : (tensor<48x16xf32>, tensor<48x16xf32>) -> tensor<48x16xf32>
  return %1 : tensor<48x16xf32>
}
func.func @step(%x: tensor<16x32xbf16>, %w: tensor<48x32xbf16>, %y: tensor<48x16xf32>) -> (tensor<16x48xf32>, tensor<48x16xf32>) {
  // expected-remark @below {{'layer' does not take in 'func.call': the kernel needs a whole row before it goes on}}
  // expected-remark @below {{'layer' does not take in 'func.call': the kernel reads the product elsewhere than where it is}}
  %0 = mpt.scaled_matmul %x, %w {mpt.name = "layer", mpt.implementation = "own", transpose_rhs, operandSegmentSizes = array<i32: 1, 1, 0, 0>}
      : (tensor<16x32xbf16>, tensor<48x32xbf16>) -> tensor<16x48xf32>
  %1 = call @rows(%0) : (tensor<16x48xf32>) -> tensor<16x48xf32>
  %2 = call @turned(%0, %y) : (tensor<16x48xf32>, tensor<48x16xf32>) -> tensor<48x16xf32>
  return %1, %2 : tensor<16x48xf32>, tensor<48x16xf32>
}
