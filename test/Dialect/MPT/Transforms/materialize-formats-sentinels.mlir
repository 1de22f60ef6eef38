// With sentinels the step returns what each scaled cast loses.
// RUN: mpt-opt %s --mpt-materialize-formats=sentinels | FileCheck %s
// RUN: mpt-opt %s --mpt-materialize-formats | FileCheck %s --check-prefix=OFF
// OFF-NOT: mpt.sentinels

// CHECK-LABEL: func.func @step
// CHECK-SAME: tensor<f32> {mpt.name = "x/cast.i8/saturated"}, tensor<f32> {mpt.name = "x/cast.i8/flushed"}, tensor<f32> {mpt.name = "x/cast.i8/non_finite"}
// A second format of one storage is told apart.
// CHECK-SAME: tensor<f32> {mpt.name = "x/cast.i8.2/saturated"}
// CHECK: %[[C:.*]] = mpt.quantize %[[X:.*]], %[[S:[^ ]*]]
// CHECK: %[[A:.*]], %[[F:.*]], %[[N:.*]] = mpt.sentinels %[[X]], %[[C]], %[[S]] {mpt.name = "x/cast.i8/sentinels"}
// CHECK: mpt.reduce %[[A]] {axes = array<i64: 0, 1>, kind = #mpt.reduction<sum>, mpt.name = "x/cast.i8/saturated"}
// CHECK: mpt.reduce %[[F]]
// CHECK: mpt.reduce %[[N]]
func.func @step(%x: tensor<4x8xf32> {mpt.name = "x"}) -> tensor<4x4xf32> {
  %0 = mpt.cast %x : (tensor<4x8xf32>) -> tensor<4x8xf32, #mpt.format<i8>>
  %r = mpt.cast %x : (tensor<4x8xf32>) -> tensor<4x8xf32, #mpt.format<i8, rounding = stochastic>>
  %1 = mpt.matmul %0, %r {transpose_rhs} : (tensor<4x8xf32, #mpt.format<i8>>, tensor<4x8xf32, #mpt.format<i8, rounding = stochastic>>) -> tensor<4x4xf32>
  return %1 : tensor<4x4xf32>
}
