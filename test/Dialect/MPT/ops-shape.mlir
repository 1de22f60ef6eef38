// Constants and views print and parse as they are; a view keeps its operand's format.
// RUN: mpt-opt %s | FileCheck %s

// CHECK-LABEL: func.func @constants
// CHECK-NEXT: mpt.constant {mpt.name = "zero"} dense<0.000000e+00> : tensor<2x3xf32>
// CHECK-NEXT: mpt.constant dense<[1, 2]> : tensor<2xi64>
// CHECK-NEXT: mpt.constant dense<true> : tensor<i1>
// CHECK-NEXT: mpt.constant dense<{{.*}}> : tensor<1xf8E4M3FN>
func.func @constants() {
  %0 = mpt.constant {mpt.name = "zero"} dense<0.0> : tensor<2x3xf32>
  %1 = mpt.constant dense<[1, 2]> : tensor<2xi64>
  %2 = mpt.constant dense<true> : tensor<i1>
  %3 = mpt.constant dense<1.5> : tensor<1xf8E4M3FN>
  return
}

// CHECK-LABEL: func.func @views
// CHECK-NEXT: mpt.reshape %{{.*}} : (tensor<2x3xf32>) -> tensor<3x1x2xf32>
// CHECK-NEXT: mpt.broadcast %{{.*}} : (tensor<2x3xf32>) -> tensor<4x2x3xf32>
// CHECK-NEXT: mpt.transpose %{{.*}} {permutation = array<i64: 1, 0>} : (tensor<2x3xf32>) -> tensor<3x2xf32>
// CHECK-NEXT: mpt.slice %{{.*}} {offsets = array<i64: 1, 0>} : (tensor<2x3xf32>) -> tensor<1x3xf32>
// CHECK-NEXT: mpt.pad %{{.*}} {offsets = array<i64: 0, 1>} : (tensor<1x3xf32>) -> tensor<2x5xf32>
// CHECK-NEXT: mpt.copy %{{.*}} : (tensor<3x2xf32>) -> tensor<3x2xf32>
func.func @views(%x: tensor<2x3xf32>) {
  %0 = mpt.reshape %x : (tensor<2x3xf32>) -> tensor<3x1x2xf32>
  %1 = mpt.broadcast %x : (tensor<2x3xf32>) -> tensor<4x2x3xf32>
  %2 = mpt.transpose %x {permutation = array<i64: 1, 0>} : (tensor<2x3xf32>) -> tensor<3x2xf32>
  %3 = mpt.slice %x {offsets = array<i64: 1, 0>} : (tensor<2x3xf32>) -> tensor<1x3xf32>
  %4 = mpt.pad %3 {offsets = array<i64: 0, 1>} : (tensor<1x3xf32>) -> tensor<2x5xf32>
  %5 = mpt.copy %2 : (tensor<3x2xf32>) -> tensor<3x2xf32>
  return
}

// CHECK-LABEL: func.func @held
// CHECK: mpt.transpose %{{.*}} : (tensor<2x3xf32, #mpt.format<bf16>>) -> tensor<3x2xf32, #mpt.format<bf16>>
func.func @held(%x: tensor<2x3xf32, #mpt.format<bf16>>) {
  %0 = mpt.transpose %x {permutation = array<i64: 1, 0>}
      : (tensor<2x3xf32, #mpt.format<bf16>>) -> tensor<3x2xf32, #mpt.format<bf16>>
  return
}
