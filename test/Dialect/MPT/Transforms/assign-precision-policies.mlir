// Policies that need no metrics, and how alignment and pins overrule them.
// RUN: mpt-opt %s --assign-precision=policy=bf16 | FileCheck %s --check-prefix=BF16
// RUN: mpt-opt %s --assign-precision=policy=fp32 | FileCheck %s --check-prefix=FP32
// RUN: mpt-opt %s --assign-precision=policy=uniform | FileCheck %s --check-prefix=UNIFORM
// RUN: mpt-opt %s --assign-precision='policy=uniform alignment=128' | FileCheck %s --check-prefix=COARSE
// RUN: mpt-opt %s --assign-precision='policy=fp32 pin=layer*grad=f8E5M2/f8E4M3FN pin=head=bf16' | FileCheck %s --check-prefix=PINS
// RUN: mpt-opt %s --assign-precision='policy=fp32 pin=layer*grad=f8E5M2/f8E4M3FN,head=bf16' | FileCheck %s --check-prefix=PINS

// BF16: mpt.cast %{{.*}} -> tensor<16x32xf32, #mpt.format<bf16>>
// BF16-NOT: f8
// FP32-NOT: mpt.cast

// Forward E4M3; in the gradients' products the gradient is E5M2 and the other operand E4M3, which
// is the forward product's cast. The loss head and attention stay BF16.
// UNIFORM: %[[X8:.*]] = mpt.cast %[[X:.*]] {mpt.name = "x/cast.f8E4M3FN"}
// UNIFORM: %[[W8:.*]] = mpt.cast %{{.*}} {mpt.name = "layer.weight/cast.f8E4M3FN"}
// UNIFORM: mpt.matmul %[[X8]], %[[W8]] {mpt.name = "layer"
// UNIFORM: %[[DY:.*]] = mpt.tanh {{.*}} {mpt.name = "dy"}
// UNIFORM: %[[DY8:.*]] = mpt.cast %[[DY]] {mpt.name = "dy/cast.f8E5M2"}
// UNIFORM: mpt.matmul %[[DY8]], %[[W8]] {mpt.name = "layer/dgrad"
// UNIFORM: mpt.matmul %[[DY8]], %[[X8]] {mpt.name = "layer/wgrad"
// UNIFORM: mpt.matmul {{.*}}mpt.name = "attention"{{.*}} : (tensor<16x32xf32, #mpt.format<bf16>>
// UNIFORM: mpt.matmul {{.*}}mpt.name = "head"{{.*}} : (tensor<16x32xf32, #mpt.format<bf16>>
// COARSE-NOT: f8

// PINS-NOT: mpt.cast {{.*}}"x/cast.bf16"
// PINS: mpt.matmul %arg0, %arg1 {mpt.name = "layer"
// PINS: mpt.matmul {{.*}} {mpt.name = "layer/dgrad"{{.*}} : (tensor<16x32xf32, #mpt.format<f8E5M2, {{.*}}>>, tensor<32x32xf32, #mpt.format<f8E4M3FN, {{.*}}>>)
// PINS: mpt.matmul {{.*}} {mpt.name = "head"{{.*}} : (tensor<16x32xf32, #mpt.format<bf16>>, tensor<32x32xf32, #mpt.format<bf16>>)
func.func @step(%x: tensor<16x32xf32> {mpt.name = "x", mpt.kind = #mpt.kind<input>},
                %w: tensor<32x32xf32> {mpt.name = "layer.weight", mpt.kind = #mpt.kind<parameter>},
                %labels: tensor<16xi64> {mpt.name = "labels", mpt.kind = #mpt.kind<label>})
    -> (tensor<f32>, tensor<16x32xf32>, tensor<32x32xf32>, tensor<16x16xf32>) {
  %y = mpt.matmul %x, %w {mpt.name = "layer", transpose_rhs, role = #mpt.role<fprop>}
      : (tensor<16x32xf32>, tensor<32x32xf32>) -> tensor<16x32xf32>
  %dy = mpt.tanh %y {mpt.name = "dy"} : (tensor<16x32xf32>) -> tensor<16x32xf32>
  %dx = mpt.matmul %dy, %w {mpt.name = "layer/dgrad", role = #mpt.role<dgrad>}
      : (tensor<16x32xf32>, tensor<32x32xf32>) -> tensor<16x32xf32>
  %dw = mpt.matmul %dy, %x {mpt.name = "layer/wgrad", transpose_lhs, role = #mpt.role<wgrad>}
      : (tensor<16x32xf32>, tensor<16x32xf32>) -> tensor<32x32xf32>
  %s = mpt.matmul %y, %y {mpt.name = "attention", transpose_rhs, role = #mpt.role<fprop>}
      : (tensor<16x32xf32>, tensor<16x32xf32>) -> tensor<16x16xf32>
  %h = mpt.matmul %y, %w {mpt.name = "head", transpose_rhs, role = #mpt.role<fprop>}
      : (tensor<16x32xf32>, tensor<32x32xf32>) -> tensor<16x32xf32>
  %logits = mpt.add %h, %h : (tensor<16x32xf32>, tensor<16x32xf32>) -> tensor<16x32xf32>
  %loss, %lse, %count = mpt.cross_entropy %logits, %labels {ignore_index = -100 : i64}
      : (tensor<16x32xf32>, tensor<16xi64>) -> (tensor<f32>, tensor<16x1xf32>, tensor<f32>)
  return %loss, %dx, %dw, %s : tensor<f32>, tensor<16x32xf32>, tensor<32x32xf32>, tensor<16x16xf32>
}
