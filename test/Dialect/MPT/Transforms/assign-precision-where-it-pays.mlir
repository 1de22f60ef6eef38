// Where 8 bits do not pay: the policy threshold says so, and with where-it-pays keeps BF16 there.
// RUN: split-file %s %t
// RUN: mpt-opt %t/small.mlir --verify-diagnostics --assign-precision=record=%t/small.json
// RUN: FileCheck %s --check-prefix=ALONE < %t/small.json
// RUN: mpt-opt %t/both.mlir --verify-diagnostics --assign-precision='where-it-pays record=%t/both.json' | FileCheck %s
// RUN: FileCheck %s --check-prefix=RECORD < %t/both.json
// RUN: mpt-opt %t/both.mlir --assign-precision='where-it-pays pin=small=f8E4M3FN' | FileCheck %s --check-prefix=PIN
// RUN: not mpt-opt %t/both.mlir --assign-precision='policy=uniform where-it-pays' 2>&1 | FileCheck %s --check-prefix=UNIFORM

// ALONE: "reason": "cheapest within its bounds: {{.*}}; alone it does not pay: {{[0-9.]+}} us with its casts, in bf16 x bf16 {{[0-9.]+}} us"

// CHECK: mpt.matmul {{.*}}mpt.name = "small"{{.*}} : (tensor<64x64xf32, #mpt.format<bf16>>
// CHECK: mpt.matmul {{.*}}mpt.name = "large"{{.*}} : (tensor<32768x1024xf32, #mpt.format<f8E4M3FN
// RECORD: "policy": "threshold"
// RECORD-NEXT: "where_it_pays": true
// RECORD: "name": "small"
// RECORD: "runner_up": {
// RECORD: "storage": "f8E4M3FN"
// RECORD: "margin": null
// RECORD-NEXT: "reason": "f8E4M3FN x f8E4M3FN does not pay: {{[0-9.]+}} us with its casts, in bf16 x bf16 {{[0-9.]+}} us"
// RECORD: "name": "large"
// RECORD: "reason": "cheapest within its bounds: be_median 0.00e+00 of {{[^;]*}}"
// PIN: mpt.matmul {{.*}}mpt.name = "small"{{.*}} : (tensor<64x64xf32, #mpt.format<f8E4M3FN
// UNIFORM: error: assign-precision: where-it-pays is of policy threshold, found uniform

//--- small.mlir
#e4m3 = #mpt.format<f8E4M3FN>
// expected-warning@+1 {{assign-precision: 8 bits do not pay on h200 at this size: }}
func.func @step(%x: tensor<64x64xf32> {mpt.name = "x"}, %w: tensor<64x64xf32> {mpt.name = "w"}) -> tensor<64x64xf32> {
  %0 = mpt.matmul %x, %w {mpt.name = "small", role = #mpt.role<fprop>,
      metrics = #mpt.metrics<m = 64, n = 64, k = 64, [
        #mpt.candidate<#e4m3, #e4m3, {be_median = 0.0 : f64, be_p99 = 0.0 : f64}>]>}
      : (tensor<64x64xf32>, tensor<64x64xf32>) -> tensor<64x64xf32>
  return %0 : tensor<64x64xf32>
}
//--- both.mlir
#e4m3 = #mpt.format<f8E4M3FN>
func.func @step(%x: tensor<64x64xf32> {mpt.name = "x"}, %w: tensor<64x64xf32> {mpt.name = "w"},
                %in: tensor<32768x1024xf32> {mpt.name = "in"}, %v: tensor<1024x4096xf32> {mpt.name = "v"})
    -> (tensor<64x64xf32>, tensor<32768x4096xf32>) {
  %0 = mpt.matmul %x, %w {mpt.name = "small", role = #mpt.role<fprop>,
      metrics = #mpt.metrics<m = 64, n = 64, k = 64, [
        #mpt.candidate<#e4m3, #e4m3, {be_median = 0.0 : f64, be_p99 = 0.0 : f64}>]>}
      : (tensor<64x64xf32>, tensor<64x64xf32>) -> tensor<64x64xf32>
  %y = mpt.tanh %in {mpt.name = "y"} : (tensor<32768x1024xf32>) -> tensor<32768x1024xf32>
  %1 = mpt.matmul %y, %v {mpt.name = "large", role = #mpt.role<fprop>,
      metrics = #mpt.metrics<m = 32768, n = 4096, k = 1024, [
        #mpt.candidate<#e4m3, #e4m3, {be_median = 0.0 : f64, be_p99 = 0.0 : f64}>]>}
      : (tensor<32768x1024xf32>, tensor<1024x4096xf32>) -> tensor<32768x4096xf32>
  return %0, %1 : tensor<64x64xf32>, tensor<32768x4096xf32>
}
