// What a manifest says besides shapes: how state starts, what kernels write, and
// where gradients lie.
// RUN: rm -rf %t && mpt-opt %s --mpt-cpu-pipeline -o %t.mlir
// RUN: mpt-build %t.mlir --target=cpu -o %t && tr -s '[:space:]' ' ' < %t/manifest.json | FileCheck %s

// CHECK: "name": "w", {{[^}]*}}"init": "file"
// CHECK-SAME: "name": "w/m", {{[^}]*}}"init": "zero"
// CHECK-SAME: "name": "scale", {{[^}]*}}"init": 0.5
// CHECK-SAME: "name": "scale1", {{[^}]*}}"init": 1 }
// CHECK-SAME: "name": "count", {{[^}]*}}"init": "zero"
// CHECK-SAME: "name": "copy", {{[^}]*}}"init": "zero"
// CHECK-SAME: "op": "kernel", "symbol": "kernel_0", "name": "grad",
// CHECK-SAME: "args": [ [ 0, 0 ], [ 7, 0 ], [ [[GRAD:[0-9]+]], 0 ], [ {{[0-9]+}}, 0 ] ], "written": 2,
// CHECK-SAME: "symbol": "kernel_2", "name": "w/update", "args": [ [ 0, 0 ], [ [[GRAD]], 0 ],
// CHECK-SAME: [ 0, 0 ], [ 1, 0 ], [ 2, 0 ] ], "written": 3,
// CHECK-SAME: "gradients": [ { "parameter": "w", "buffer": [[GRAD]], "offset": 0 } ]
func.func @step(
    %w: tensor<4x8xf32> {mpt.kind = #mpt.kind<parameter>, mpt.name = "w"},
    %m: tensor<4x8xf32> {mpt.kind = #mpt.kind<optimizer_state>, mpt.name = "w/m"},
    %v: tensor<4x8xf32> {mpt.kind = #mpt.kind<optimizer_state>, mpt.name = "w/v"},
    %scale: tensor<3xf32> {mpt.kind = #mpt.kind<scale_state>, mpt.name = "scale", mpt.init = 0.5 : f32},
    %scale1: tensor<f32> {mpt.kind = #mpt.kind<scale_state>, mpt.name = "scale1"},
    %count: tensor<i64> {mpt.kind = #mpt.kind<scale_state>, mpt.name = "count"},
    %copy: tensor<4x8xf32> {mpt.kind = #mpt.kind<derived>, mpt.name = "copy"},
    %x: tensor<4x8xf32> {mpt.kind = #mpt.kind<input>, mpt.name = "x"},
    %lr: tensor<f32> {mpt.kind = #mpt.kind<hyper>, mpt.name = "lr"},
    %skip: tensor<i1> {mpt.kind = #mpt.kind<input>, mpt.name = "skip"})
    -> (tensor<f32> {mpt.name = "norm"},
        tensor<4x8xf32> {mpt.name = "w", mpt.alias = 0},
        tensor<4x8xf32> {mpt.name = "w/m", mpt.alias = 1},
        tensor<4x8xf32> {mpt.name = "w/v", mpt.alias = 2}) {
  // Cheap enough to be computed again in the update, yet stored.
  %grad = mpt.mul %w, %x {mpt.name = "grad"} : (tensor<4x8xf32>, tensor<4x8xf32>) -> tensor<4x8xf32>
  %sum = mpt.reduce %grad {kind = #mpt.reduction<sum>, axes = array<i64: 0, 1>, mpt.name = "norm"} : (tensor<4x8xf32>) -> tensor<1x1xf32>
  %norm = mpt.reshape %sum {mpt.name = "norm"} : (tensor<1x1xf32>) -> tensor<f32>
  %one = mpt.constant dense<1.0> : tensor<f32>
  %p, %pm, %pv = mpt.adamw %w, %grad, %m, %v, %lr, %norm, %one, %one, %skip {beta1 = 0.9 : f64, beta2 = 0.99 : f64, epsilon = 1.0e-8 : f64, weight_decay = 0.0 : f64, mpt.name = "w/update"} : (tensor<4x8xf32>, tensor<4x8xf32>, tensor<4x8xf32>, tensor<4x8xf32>, tensor<f32>, tensor<f32>, tensor<f32>, tensor<f32>, tensor<i1>) -> (tensor<4x8xf32>, tensor<4x8xf32>, tensor<4x8xf32>)
  return %norm, %p, %pm, %pv : tensor<f32>, tensor<4x8xf32>, tensor<4x8xf32>, tensor<4x8xf32>
}
