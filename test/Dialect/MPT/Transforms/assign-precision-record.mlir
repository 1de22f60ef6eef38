// The decision record: program order, bound, verdicts, runner-up and shares; the same bytes each time.
// RUN: rm -rf %t && mkdir %t
// RUN: mpt-opt %s --assign-precision='pin=pinned=fp32 record=%t/a.json' -o %t/a.mlir
// RUN: mpt-opt %s --assign-precision='pin=pinned=fp32 record=%t/b.json' -o %t/b.mlir
// RUN: diff %t/a.json %t/b.json
// RUN: FileCheck %s < %t/a.json

// Nothing is left behind where the pass fails.
// RUN: not mpt-opt %s --assign-precision='pin=nothing=fp32 record=%t/c.json' -o %t/c.mlir
// RUN: ls %t | FileCheck %s --check-prefix=LEFT
// LEFT-NOT: c.json

// CHECK: "format": "mpt-decisions"
// CHECK-NEXT: "version": 1
// CHECK-NEXT: "graph_hash": "0123456789abcdef"
// CHECK-NEXT: "policy": "threshold"
// CHECK-NEXT: "target": "h200"
// CHECK-NEXT: "alignment": 16
// CHECK-NEXT: "pins": [
// CHECK-NEXT: "pinned=fp32"
// CHECK: "summary": {
// CHECK-NEXT: "products": 3
// CHECK-NEXT: "flops": 98304
// CHECK: "format": "bf16 x bf16"
// CHECK-NEXT: "products": 1
// CHECK: "format": "f32 x f32"
// CHECK: "format": "f8E4M3FN x f8E4M3FN"
// CHECK-NEXT: "products": 1
// CHECK-NEXT: "flops": 32768
// CHECK-NEXT: "share": 0.3333333333333333

// CHECK: "name": "cheap"
// CHECK-NEXT: "role": "fprop"
// CHECK-NEXT: "m": 16
// CHECK-NEXT: "n": 16
// CHECK-NEXT: "k": 64
// CHECK-NEXT: "batch": 1
// CHECK: "profiled": {
// CHECK-NEXT: "m": 8
// CHECK: "candidates": [
// CHECK: "storage": "bf16"
// CHECK-NEXT: "scale": "none"
// CHECK: "metrics": {
// CHECK-NEXT: "be_median": 1e-04
// CHECK-NEXT: "be_p99": 0.001
// CHECK: "admitted": true
// CHECK: "storage": "f8E4M3FN"
// CHECK-NEXT: "scale": "per_tensor"
// CHECK: "admitted": true
// CHECK: "bound": {
// CHECK-NEXT: "c": 1.5
// CHECK-NEXT: "be_median": 0.00734400000000000{{[0-9]}},
// CHECK: "chosen": {
// CHECK: "storage": "f8E4M3FN"
// CHECK: "runner_up": {
// CHECK: "storage": "bf16"
// CHECK: "margin": 1.408{{[0-9]*}},
// CHECK-NEXT: "reason": "cheapest within its bounds: be_median 5.00e-03 of 7.34e-03, be_p99 2.00e-02 of 2.82e-02; alone it does not pay: {{[0-9.]+}} us with its casts, in bf16 x bf16 {{[0-9.]+}} us",
// CHECK-NEXT: "pin": null

// CHECK: "name": "undecided"
// CHECK: "admitted": false
// CHECK-NEXT: "undecided": true
// CHECK: "chosen": {
// CHECK: "storage": "bf16"
// CHECK: "runner_up": {
// CHECK: "margin": 0.918
// CHECK: "reason": "f8E4M3FN x f8E4M3FN: undecided: be_median is 7.00e-03 to 8.00e-03, bound 7.34e-03"

// CHECK: "name": "pinned"
// CHECK: "chosen": {
// CHECK: "storage": "f32"
// CHECK: "runner_up": {
// CHECK: "storage": "bf16"
// CHECK: "margin": null
// CHECK-NEXT: "reason": "pinned by 'pinned=fp32'"
// CHECK-NEXT: "pin": "pinned=fp32"

#bf16 = #mpt.format<bf16>
#e4m3 = #mpt.format<f8E4M3FN>
module attributes {mpt.graph_hash = "0123456789abcdef"} {
  func.func @step(%a: tensor<16x64xf32> {mpt.name = "a"}, %b: tensor<16x64xf32> {mpt.name = "b"})
      -> (tensor<16x16xf32>, tensor<16x16xf32>, tensor<16x16xf32>) {
    %0 = mpt.matmul %a, %b {mpt.name = "cheap", role = #mpt.role<fprop>, transpose_rhs,
        metrics = #mpt.metrics<m = 8, n = 16, k = 64, [
          #mpt.candidate<#bf16, #bf16, {be_median = 1.0e-4 : f64, be_p99 = 1.0e-3 : f64}>,
          #mpt.candidate<#e4m3, #e4m3, {be_median = 5.0e-3 : f64, be_p99 = 2.0e-2 : f64}>]>}
        : (tensor<16x64xf32>, tensor<16x64xf32>) -> tensor<16x16xf32>
    %1 = mpt.matmul %a, %b {mpt.name = "undecided", role = #mpt.role<fprop>, transpose_rhs,
        metrics = #mpt.metrics<m = 16, n = 16, k = 64, [
          #mpt.candidate<#e4m3, #e4m3, {be_median = 8.0e-3 : f64, be_median_spread = 1.0e-3 : f64, be_p99 = 0.0 : f64}>]>}
        : (tensor<16x64xf32>, tensor<16x64xf32>) -> tensor<16x16xf32>
    %2 = mpt.matmul %a, %b {mpt.name = "pinned", role = #mpt.role<fprop>, transpose_rhs}
        : (tensor<16x64xf32>, tensor<16x64xf32>) -> tensor<16x16xf32>
    return %0, %1, %2 : tensor<16x16xf32>, tensor<16x16xf32>, tensor<16x16xf32>
  }
}
