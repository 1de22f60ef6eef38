// What the backward pass reads again is cast behind its definition; the forward pass reads it as it is.
// RUN: mpt-opt %s --assign-precision="policy=fp32 kept=bf16" | FileCheck %s
// RUN: mpt-opt %s --assign-precision="policy=fp32" | FileCheck %s --check-prefix=DEFAULT
// RUN: mpt-opt %s --mpt-probe-kept | FileCheck %s --check-prefix=PROBE
// RUN: not mpt-opt %s --assign-precision="policy=fp32 kept=auto" 2>&1 | FileCheck %s --check-prefix=AUTO
// RUN: not mpt-opt %s --assign-precision="policy=fp32 kept=int4" 2>&1 | FileCheck %s --check-prefix=UNKNOWN

// AUTO: error: assign-precision: kept=auto needs kept-profile=<kept.json>, which mptc kept measures
// UNKNOWN: Cannot find option named 'int4'
// DEFAULT-NOT: mpt.cast

// Statistics, products' own reads, and values of the backward pass get none.
// CHECK-LABEL: func.func @step
// CHECK: %[[H:.*]] = mpt.matmul
// CHECK: %[[Y:.*]] = mpt.tanh %[[H]]
// CHECK-NEXT: %[[C:.*]] = mpt.cast %[[Y]] {mpt.name = "act/cast.bf16"}
// CHECK-NEXT: %[[W:.*]] = mpt.reshape %[[C]] {{.*}} -> tensor<2x2x8xf32, #mpt.format<bf16>>
// CHECK: mpt.reduce %[[Y]]
// CHECK: mpt.mul %[[C]], %[[C]] {mpt.name = "act/grad"}
// CHECK: mpt.mul %{{.*}}, %[[W]] {mpt.name = "view/grad"}
// CHECK: mpt.matmul %arg1, %{{.*}} {mpt.name = "layer/wgrad"
// CHECK-NOT: mpt.cast
// CHECK: return

// PROBE-LABEL: func.func @step
// PROBE-SAME: %[[WHICH:[^:]*]]: tensor<i64> {mpt.kind = #mpt.kind<hyper>, mpt.name = "act/kept"}
// PROBE: %[[Y:.*]] = mpt.tanh
// PROBE: %[[B:.*]] = mpt.cast %[[Y]] {{.*}} -> tensor<4x8xf32, #mpt.format<bf16>>
// PROBE: %[[ON:.*]] = mpt.compare %[[WHICH]]
// PROBE: %[[FIRST:.*]] = mpt.select %[[ON]], %[[B]], %[[Y]]
// PROBE: %[[E:.*]] = mpt.cast %[[Y]] {{.*}}f8E4M3FN
// PROBE: %[[SEEN:.*]] = mpt.select %{{.*}}, %[[E]], %[[FIRST]]
// PROBE: mpt.reduce %[[Y]]
// PROBE: mpt.mul %[[SEEN]], %[[SEEN]] {mpt.name = "act/grad"}
func.func @step(%w: tensor<16x8xf32> {mpt.name = "w", mpt.kind = #mpt.kind<parameter>},
                %x: tensor<4x16xf32> {mpt.name = "x", mpt.kind = #mpt.kind<input>})
    -> (tensor<f32> {mpt.name = "loss"}, tensor<16x8xf32> {mpt.name = "w"}) {
  %h = mpt.matmul %x, %w {mpt.name = "layer", role = #mpt.role<fprop>} : (tensor<4x16xf32>, tensor<16x8xf32>) -> tensor<4x8xf32>
  %y = mpt.tanh %h {mpt.name = "act"} : (tensor<4x8xf32>) -> tensor<4x8xf32>
  %v = mpt.reshape %y {mpt.name = "view"} : (tensor<4x8xf32>) -> tensor<2x2x8xf32>
  %r = mpt.reduce %y {axes = array<i64: 1>, kind = #mpt.reduction<sum>, mpt.name = "rows"} : (tensor<4x8xf32>) -> tensor<4x1xf32>
  %s = mpt.reduce %r {axes = array<i64: 0, 1>, kind = #mpt.reduction<sum>, mpt.name = "sum"} : (tensor<4x1xf32>) -> tensor<1x1xf32>
  %loss = mpt.reshape %s {mpt.name = "loss"} : (tensor<1x1xf32>) -> tensor<f32>
  %one = mpt.constant dense<1.0> : tensor<f32>
  %q = mpt.mul %y, %y {mpt.name = "act/grad"} : (tensor<4x8xf32>, tensor<4x8xf32>) -> tensor<4x8xf32>
  %p = mpt.mul %r, %q {mpt.name = "rows/grad"} : (tensor<4x1xf32>, tensor<4x8xf32>) -> tensor<4x8xf32>
  %pv = mpt.reshape %p {mpt.name = "view/grad"} : (tensor<4x8xf32>) -> tensor<2x2x8xf32>
  %z = mpt.mul %pv, %v {mpt.name = "view/grad"} : (tensor<2x2x8xf32>, tensor<2x2x8xf32>) -> tensor<2x2x8xf32>
  %g = mpt.reshape %z {mpt.name = "view/grad"} : (tensor<2x2x8xf32>) -> tensor<4x8xf32>
  %d = mpt.sub %one, %g {mpt.name = "act/grad"} : (tensor<f32>, tensor<4x8xf32>) -> tensor<4x8xf32>
  %dw = mpt.matmul %x, %d {mpt.name = "layer/wgrad", role = #mpt.role<wgrad>, transpose_lhs} : (tensor<4x16xf32>, tensor<4x8xf32>) -> tensor<16x8xf32>
  return %loss, %dw : tensor<f32>, tensor<16x8xf32>
}
