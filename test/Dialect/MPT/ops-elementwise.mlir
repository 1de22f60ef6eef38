// Elementwise ops print and parse as they are, and know their types.
// RUN: mpt-opt %s | FileCheck %s

// CHECK-LABEL: func.func @arithmetic
// CHECK-NEXT: mpt.add %{{.*}}, %{{.*}} : (tensor<2x3xf32>, tensor<3xf32>) -> tensor<2x3xf32>
// CHECK-NEXT: mpt.sub %{{.*}}, %{{.*}} : (tensor<2x3xf32>, tensor<f32>) -> tensor<2x3xf32>
// CHECK-NEXT: mpt.mul %{{.*}}, %{{.*}} : (tensor<3xf32>, tensor<2x1xf32>) -> tensor<2x3xf32>
// CHECK-NEXT: mpt.div %{{.*}}, %{{.*}} : (tensor<f32>, tensor<f32>) -> tensor<f32>
func.func @arithmetic(%x: tensor<2x3xf32>, %row: tensor<3xf32>,
                      %column: tensor<2x1xf32>, %scalar: tensor<f32>) {
  %0 = mpt.add %x, %row : (tensor<2x3xf32>, tensor<3xf32>) -> tensor<2x3xf32>
  %1 = mpt.sub %x, %scalar : (tensor<2x3xf32>, tensor<f32>) -> tensor<2x3xf32>
  %2 = mpt.mul %row, %column : (tensor<3xf32>, tensor<2x1xf32>) -> tensor<2x3xf32>
  %3 = mpt.div %scalar, %scalar : (tensor<f32>, tensor<f32>) -> tensor<f32>
  return
}

// CHECK-LABEL: func.func @unary
// CHECK-NEXT: mpt.neg
// CHECK-NEXT: mpt.exp
// CHECK-NEXT: mpt.log
// CHECK-NEXT: mpt.sqrt
// CHECK-NEXT: mpt.tanh
// CHECK-NEXT: mpt.erf
// CHECK-NEXT: mpt.gelu %{{.*}} {mpt.name = "act"} : (tensor<4xf32>) -> tensor<4xf32>
// CHECK-NEXT: mpt.gelu_grad
func.func @unary(%x: tensor<4xf32>, %dy: tensor<4xf32>) {
  %0 = mpt.neg %x : (tensor<4xf32>) -> tensor<4xf32>
  %1 = mpt.exp %x : (tensor<4xf32>) -> tensor<4xf32>
  %2 = mpt.log %x : (tensor<4xf32>) -> tensor<4xf32>
  %3 = mpt.sqrt %x : (tensor<4xf32>) -> tensor<4xf32>
  %4 = mpt.tanh %x : (tensor<4xf32>) -> tensor<4xf32>
  %5 = mpt.erf %x : (tensor<4xf32>) -> tensor<4xf32>
  %6 = mpt.gelu %x {mpt.name = "act"} : (tensor<4xf32>) -> tensor<4xf32>
  %7 = mpt.gelu_grad %x, %dy : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  return
}

// CHECK-LABEL: func.func @choose
// CHECK-NEXT: mpt.iota : () -> tensor<1x4xi64>
// CHECK-NEXT: mpt.compare %{{.*}}, %{{.*}} {predicate = #mpt.predicate<eq>} : (tensor<1x4xi64>, tensor<3x1xi64>) -> tensor<3x4xi1>
// CHECK-NEXT: mpt.compare %{{.*}} {predicate = #mpt.predicate<lt>}
// CHECK-NEXT: mpt.and
// CHECK-NEXT: mpt.or
// CHECK-NEXT: mpt.not
// CHECK-NEXT: mpt.select %{{.*}} : (tensor<3x4xi1>, tensor<3x4xf32>, tensor<f32>) -> tensor<3x4xf32>
func.func @choose(%x: tensor<3x4xf32>, %zero: tensor<f32>, %label: tensor<3x1xi64>) {
  %index = mpt.iota : () -> tensor<1x4xi64>
  %0 = mpt.compare %index, %label {predicate = #mpt.predicate<eq>}
      : (tensor<1x4xi64>, tensor<3x1xi64>) -> tensor<3x4xi1>
  %1 = mpt.compare %x, %zero {predicate = #mpt.predicate<lt>}
      : (tensor<3x4xf32>, tensor<f32>) -> tensor<3x4xi1>
  %2 = mpt.and %0, %1 : (tensor<3x4xi1>, tensor<3x4xi1>) -> tensor<3x4xi1>
  %3 = mpt.or %0, %2 : (tensor<3x4xi1>, tensor<3x4xi1>) -> tensor<3x4xi1>
  %4 = mpt.not %3 : (tensor<3x4xi1>) -> tensor<3x4xi1>
  %5 = mpt.select %4, %x, %zero
      : (tensor<3x4xi1>, tensor<3x4xf32>, tensor<f32>) -> tensor<3x4xf32>
  return
}

// CHECK-LABEL: func.func @convert
// CHECK-NEXT: mpt.convert %{{.*}} : (tensor<2xi1>) -> tensor<2xf32>
// CHECK-NEXT: mpt.convert %{{.*}} : (tensor<2xf32>) -> tensor<2xi32>
func.func @convert(%x: tensor<2xi1>) {
  %0 = mpt.convert %x : (tensor<2xi1>) -> tensor<2xf32>
  %1 = mpt.convert %0 : (tensor<2xf32>) -> tensor<2xi32>
  return
}

// CHECK-LABEL: func.func @copy
// CHECK-NEXT: mpt.copy %{{.*}} : (tensor<2xf32>) -> tensor<2xf32>
// CHECK-NEXT: mpt.copy %{{.*}} : (tensor<2xf8E5M2>) -> tensor<2xf8E5M2>
func.func @copy(%x: tensor<2xf32>, %codes: tensor<2xf8E5M2>) {
  %0 = mpt.copy %x : (tensor<2xf32>) -> tensor<2xf32>
  %1 = mpt.copy %codes : (tensor<2xf8E5M2>) -> tensor<2xf8E5M2>
  return
}

// CHECK-LABEL: func.func @dropout
// CHECK: mpt.dropout %{{.*}} {keep_probability = 0.899999976 : f32, mpt.name = "d"} : (tensor<2x3xf32>, tensor<i64>, tensor<i64>, tensor<i64>) -> tensor<2x3xf32>
func.func @dropout(%x: tensor<2x3xf32>, %seed: tensor<i64>, %step: tensor<i64>) {
  %id = mpt.constant dense<7> : tensor<i64>
  %0 = mpt.dropout %x, %seed, %step, %id {keep_probability = 0.9 : f32, mpt.name = "d"}
      : (tensor<2x3xf32>, tensor<i64>, tensor<i64>, tensor<i64>) -> tensor<2x3xf32>
  return
}
