// Policy budget: the least predicted time within sums of errors, shared casts counted once.
// RUN: mpt-opt %s --assign-precision='policy=budget loss-mse=1e-6 record=%t.json problem=%t.problem.json' | FileCheck %s --check-prefixes=CHECK,WIDE
// RUN: mpt-opt %s --assign-precision='policy=budget loss-mse=1e-9' | FileCheck %s --check-prefixes=CHECK,FORWARD
// RUN: mpt-opt %s --assign-precision='policy=budget loss-mse=1e-6 persistent=1e-3' | FileCheck %s --check-prefixes=CHECK,PERSISTENT
// RUN: mpt-opt %s --assign-precision='policy=budget loss-mse=1e-6 target=a100' | FileCheck %s --check-prefixes=CHECK,NONE
// RUN: FileCheck %s --check-prefix=RECORD < %t.json
// RUN: mpt-opt %s --assign-precision='policy=budget loss-mse=1e-6 pin=layer=bf16,layer/wgrad=f8E4M3FN/f8E5M2 record=%t.pins.json' -o %t.pins.mlir
// RUN: FileCheck %s --check-prefix=PINS < %t.pins.json

// What a pin costs: nothing where it asks for what would be chosen anyway.
// PINS: "pin_prices_us": [
// PINS-NEXT: {{^ *[1-9][0-9]*\.[0-9]+,$}}
// PINS-NEXT: {{^ *0$}}

// The problem that was solved gives the same answer by hand.
// RUN: mpt-solve %t.problem.json | FileCheck %s --check-prefix=SOLVED
// SOLVED: "status": "optimal"
// SOLVED: "layer": "f8E4M3FN x f8E4M3FN"
// SOLVED-NEXT: "layer/dgrad": "f8E5M2 x f8E4M3FN"
// SOLVED-NEXT: "layer/wgrad": "f8E4M3FN x f8E5M2"

// RECORD: "policy": "budget"
// RECORD-NEXT: "target": "h200"
// RECORD: "predicted": {
// RECORD-NEXT: "products_us": [[#]]
// RECORD: "bf16_us":
// RECORD: "budget": {
// RECORD-NEXT: "status": "optimal"
// RECORD: "name": "loss_mse"
// RECORD-NEXT: "limit": 1e-06
// RECORD-NEXT: "sum": 1e-07
// RECORD-NEXT: "multiplier": 0
// RECORD: "name": "persistent"
// RECORD-NEXT: "limit": 0.03
// RECORD-NEXT: "sum": 0.006
// RECORD: "name": "layer"
// RECORD: "us": [[#]]
// RECORD: "work_us": [[#]]
// RECORD: "reason": "{{.*}} us, in bf16 x bf16 {{.*}} us; its errors cost 0.0 us of the budget"
// RECORD: "measured": false

#bf16 = #mpt.format<bf16>
#e4m3 = #mpt.format<f8E4M3FN>
#e5m2 = #mpt.format<f8E5M2>

// CHECK-LABEL: func.func @step
// WIDE: mpt.name = "layer", role{{.*}} : (tensor<32768x1024xf32, #mpt.format<f8E4M3FN{{.*}}, tensor<1024x4096xf32, #mpt.format<f8E4M3FN
// WIDE: mpt.name = "layer/dgrad", role{{.*}} : (tensor<32768x4096xf32, #mpt.format<f8E5M2{{.*}}, tensor<1024x4096xf32, #mpt.format<f8E4M3FN
// WIDE: mpt.name = "layer/wgrad", role{{.*}} : (tensor<32768x1024xf32, #mpt.format<f8E4M3FN{{.*}}, tensor<32768x4096xf32, #mpt.format<f8E5M2
// FORWARD: mpt.name = "layer", role{{.*}} : (tensor<32768x1024xf32, #mpt.format<bf16{{.*}}, tensor<1024x4096xf32, #mpt.format<bf16
// FORWARD: mpt.name = "layer/wgrad", role{{.*}} : (tensor<32768x1024xf32, #mpt.format<f8E4M3FN{{.*}}, tensor<32768x4096xf32, #mpt.format<f8E5M2
// PERSISTENT: mpt.name = "layer", role{{.*}} : (tensor<32768x1024xf32, #mpt.format<f8E4M3FN{{.*}}, tensor<1024x4096xf32, #mpt.format<f8E4M3FN
// PERSISTENT: mpt.name = "layer/wgrad", role{{.*}} : (tensor<32768x1024xf32, #mpt.format<bf16{{.*}}, tensor<32768x4096xf32, #mpt.format<bf16
// NONE-NOT: cast.f8
func.func @step(%in: tensor<32768x1024xf32> {mpt.name = "in", mpt.kind = #mpt.kind<input>},
                %w: tensor<1024x4096xf32> {mpt.name = "layer.weight", mpt.kind = #mpt.kind<parameter>},
                %din: tensor<32768x4096xf32> {mpt.name = "din", mpt.kind = #mpt.kind<input>})
    -> (tensor<32768x4096xf32>, tensor<32768x1024xf32>, tensor<1024x4096xf32>) {
  %x = mpt.tanh %in {mpt.name = "x"} : (tensor<32768x1024xf32>) -> tensor<32768x1024xf32>
  %dy = mpt.tanh %din {mpt.name = "dy"} : (tensor<32768x4096xf32>) -> tensor<32768x4096xf32>
  %0 = mpt.matmul %x, %w {mpt.name = "layer", role = #mpt.role<fprop>,
      metrics = #mpt.metrics<m = 32768, n = 4096, k = 1024, [
        #mpt.candidate<#e4m3, #e4m3, {be_median = 1.0e-3 : f64, be_p99 = 1.0e-2 : f64, loss_mse = 1.0e-7 : f64}>]>}
      : (tensor<32768x1024xf32>, tensor<1024x4096xf32>) -> tensor<32768x4096xf32>
  %1 = mpt.matmul %dy, %w {mpt.name = "layer/dgrad", role = #mpt.role<dgrad>, transpose_rhs,
      metrics = #mpt.metrics<m = 32768, n = 1024, k = 4096, [
        #mpt.candidate<#e5m2, #e4m3, {be_median = 1.0e-3 : f64, be_p99 = 1.0e-2 : f64,
                                      noise_ratio = 1.0e-3 : f64, role_persistent = 4.0e-3 : f64}>]>}
      : (tensor<32768x4096xf32>, tensor<1024x4096xf32>) -> tensor<32768x1024xf32>
  %2 = mpt.matmul %x, %dy {mpt.name = "layer/wgrad", role = #mpt.role<wgrad>, transpose_lhs,
      metrics = #mpt.metrics<m = 1024, n = 4096, k = 32768, [
        #mpt.candidate<#e4m3, #e5m2, {be_median = 1.0e-3 : f64, be_p99 = 1.0e-2 : f64,
                                      noise_ratio = 1.0e-3 : f64, persistent = 2.0e-3 : f64}>]>}
      : (tensor<32768x1024xf32>, tensor<32768x4096xf32>) -> tensor<1024x4096xf32>
  return %0, %1, %2 : tensor<32768x4096xf32>, tensor<32768x1024xf32>, tensor<1024x4096xf32>
}
