// Products that sm_90 has no instruction for are refused by name, and nothing is
// left behind.
// RUN: split-file %s %t
// RUN: not mpt-build %t/int8.mlir --target=cuda --products=cublaslt -o %t/out 2>&1 | FileCheck %s --check-prefix=INT8
// RUN: not mpt-build %t/e5m2.mlir --target=cuda --products=cublaslt -o %t/out 2>&1 | FileCheck %s --check-prefix=E5M2
// RUN: not mpt-build %t/size.mlir --target=cuda --products=cublaslt -o %t/out 2>&1 | FileCheck %s --check-prefix=SIZE
// RUN: not mpt-build %t/scale.mlir --target=cuda --products=cublaslt -o %t/out 2>&1 | FileCheck %s --check-prefix=SCALE
// RUN: not mpt-build %t/stage.mlir --target=cuda --products=cublaslt -o %t/out 2>&1 | FileCheck %s --check-prefix=STAGE
// RUN: not mpt-build %t/int8.mlir --target=abacus -o %t/out 2>&1 | FileCheck %s --check-prefix=TARGET
// RUN: not ls %t/out

// INT8: error: 'mpt.scaled_matmul' op named 'layer' multiplies i8 by i8, which cuBLASLt has no product for on sm_90
// E5M2: error: 'mpt.scaled_matmul' op named 'layer/wgrad' multiplies f8E5M2 by f8E5M2
// SIZE: error: 'mpt.scaled_matmul' op named 'layer' is FP8 with n = 40 and k = 32, expected multiples of 16
// SCALE: error: 'mpt.scaled_matmul' op named 'layer' has an operand in f8E4M3FN with scales of tensor<16x1xf32>, but cuBLASLt on sm_90 takes one scale per operand: expected scale = per_tensor
// STAGE: error: mpt-materialize-formats expects a function @step
// TARGET: error: unknown target 'abacus', expected cpu or cuda

//--- int8.mlir
func.func @step(%x: tensor<16x32xi8> {mpt.name = "x"}, %w: tensor<32x48xi8> {mpt.name = "w"}, %s: tensor<f32> {mpt.name = "s"}) -> (tensor<16x48xf32> {mpt.name = "y"}) {
  %0 = mpt.scaled_matmul %x, %w, %s, %s {mpt.name = "layer", operandSegmentSizes = array<i32: 1, 1, 1, 1>}
      : (tensor<16x32xi8>, tensor<32x48xi8>, tensor<f32>, tensor<f32>) -> tensor<16x48xf32>
  return %0 : tensor<16x48xf32>
}
//--- e5m2.mlir
func.func @step(%x: tensor<16x32xf8E5M2> {mpt.name = "x"}, %w: tensor<32x48xf8E5M2> {mpt.name = "w"}, %s: tensor<f32> {mpt.name = "s"}) -> (tensor<16x48xf32> {mpt.name = "y"}) {
  %0 = mpt.scaled_matmul %x, %w, %s, %s {mpt.name = "layer/wgrad", operandSegmentSizes = array<i32: 1, 1, 1, 1>}
      : (tensor<16x32xf8E5M2>, tensor<32x48xf8E5M2>, tensor<f32>, tensor<f32>) -> tensor<16x48xf32>
  return %0 : tensor<16x48xf32>
}
//--- size.mlir
func.func @step(%x: tensor<16x32xf8E4M3FN> {mpt.name = "x"}, %w: tensor<32x40xf8E4M3FN> {mpt.name = "w"}, %s: tensor<f32> {mpt.name = "s"}) -> (tensor<16x40xf32> {mpt.name = "y"}) {
  %0 = mpt.scaled_matmul %x, %w, %s, %s {mpt.name = "layer", operandSegmentSizes = array<i32: 1, 1, 1, 1>}
      : (tensor<16x32xf8E4M3FN>, tensor<32x40xf8E4M3FN>, tensor<f32>, tensor<f32>) -> tensor<16x40xf32>
  return %0 : tensor<16x40xf32>
}
//--- scale.mlir
func.func @step(%x: tensor<16x32xf8E4M3FN> {mpt.name = "x"}, %w: tensor<32x48xf8E4M3FN> {mpt.name = "w"}, %s: tensor<16x1xf32> {mpt.name = "s"}, %u: tensor<f32> {mpt.name = "u"}) -> (tensor<16x48xf32> {mpt.name = "y"}) {
  %0 = mpt.scaled_matmul %x, %w, %s, %u {mpt.name = "layer", operandSegmentSizes = array<i32: 1, 1, 1, 1>}
      : (tensor<16x32xf8E4M3FN>, tensor<32x48xf8E4M3FN>, tensor<16x1xf32>, tensor<f32>) -> tensor<16x48xf32>
  return %0 : tensor<16x48xf32>
}
//--- stage.mlir
func.func @forward(%x: tensor<4xf32>) -> tensor<4xf32> {
  return %x : tensor<4xf32>
}
