// A step takes state and a learning rate, and returns the state updated in place.
// RUN: mpt-opt %s --mpt-add-optimizer --canonicalize --cse | FileCheck %s
// RUN: mpt-opt %s --mpt-add-optimizer="max-grad-norm=0 weight-decay=0.5" --canonicalize --cse | FileCheck %s --check-prefix=NOCLIP

// CHECK-LABEL: func.func @step
// CHECK-SAME: {mpt.kind = #mpt.kind<hyper>, mpt.name = "lr"}
// CHECK-SAME: {mpt.kind = #mpt.kind<optimizer_state>, mpt.name = "w/m"}
// CHECK-SAME: tensor<f32> {mpt.name = "grad_norm"}, tensor<i1> {mpt.name = "skipped"}
// CHECK-SAME: tensor<2x2xf32> {mpt.alias = 0 : i64, mpt.name = "w"}
// CHECK: mpt.sqrt %{{.*}} {mpt.name = "grad_norm"}
// The decay belongs to parameters of rank 2 and more.
// CHECK: mpt.adamw %arg0, {{.*}} mpt.name = "w/update", weight_decay = 1.000000e-02
// CHECK: mpt.adamw %arg1, {{.*}} mpt.name = "b/update", weight_decay = 0.000000e+00
// NOCLIP-NOT: grad_norm/clip
// NOCLIP: weight_decay = 5.000000e-01
func.func @gradient(%w: tensor<2x2xf32> {mpt.name = "w", mpt.kind = #mpt.kind<parameter>},
    %b: tensor<2xf32> {mpt.name = "b", mpt.kind = #mpt.kind<parameter>},
    %loss: tensor<f32> {mpt.name = "x", mpt.kind = #mpt.kind<input>})
    -> (tensor<f32> {mpt.name = "loss"}, tensor<2x2xf32> {mpt.name = "w"}, tensor<2xf32> {mpt.name = "b"}) {
  %dw = mpt.exp %w : (tensor<2x2xf32>) -> tensor<2x2xf32>
  %db = mpt.exp %b : (tensor<2xf32>) -> tensor<2xf32>
  return %loss, %dw, %db : tensor<f32>, tensor<2x2xf32>, tensor<2xf32>
}
