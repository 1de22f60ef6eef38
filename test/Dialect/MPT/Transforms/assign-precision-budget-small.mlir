// Policy budget where 8 bits do not pay or are not known well enough: what stays high, and why.
// RUN: mpt-opt %s --assign-precision='policy=budget loss-mse=1 record=%t.json' | FileCheck %s
// RUN: FileCheck %s --check-prefix=RECORD < %t.json

// CHECK-LABEL: func.func @step
// CHECK-NOT: cast.f8
// RECORD: "name": "small"
// RECORD: "reason": "f8E4M3FN x f8E4M3FN does not pay: {{.*}} us with its casts, in bf16 x bf16 {{.*}} us"
// RECORD: "name": "small/dgrad"
// RECORD: "why": "the persistent error of dgrad was not measured in it; profile with a probe of the role"
// RECORD: "name": "small/wgrad"
// RECORD: "why": "its noise_ratio was not measured"

#e4m3 = #mpt.format<f8E4M3FN>
func.func @step(%x: tensor<64x64xf32> {mpt.name = "x"}, %w: tensor<64x64xf32> {mpt.name = "w"}, %dy: tensor<64x64xf32> {mpt.name = "dy"})
    -> (tensor<64x64xf32>, tensor<64x64xf32>, tensor<64x64xf32>) {
  %0 = mpt.matmul %x, %w {mpt.name = "small", role = #mpt.role<fprop>,
      metrics = #mpt.metrics<m = 64, n = 64, k = 64, [
        #mpt.candidate<#e4m3, #e4m3, {be_median = 0.0 : f64, be_p99 = 0.0 : f64, loss_mse = 0.0 : f64}>]>}
      : (tensor<64x64xf32>, tensor<64x64xf32>) -> tensor<64x64xf32>
  %1 = mpt.matmul %dy, %w {mpt.name = "small/dgrad", role = #mpt.role<dgrad>, transpose_rhs,
      metrics = #mpt.metrics<m = 64, n = 64, k = 64, [
        #mpt.candidate<#e4m3, #e4m3, {be_median = 0.0 : f64, be_p99 = 0.0 : f64, noise_ratio = 0.0 : f64}>]>}
      : (tensor<64x64xf32>, tensor<64x64xf32>) -> tensor<64x64xf32>
  %2 = mpt.matmul %x, %dy {mpt.name = "small/wgrad", role = #mpt.role<wgrad>, transpose_lhs,
      metrics = #mpt.metrics<m = 64, n = 64, k = 64, [
        #mpt.candidate<#e4m3, #e4m3, {be_median = 0.0 : f64, be_p99 = 0.0 : f64, persistent = 0.0 : f64}>]>}
      : (tensor<64x64xf32>, tensor<64x64xf32>) -> tensor<64x64xf32>
  return %0, %1, %2 : tensor<64x64xf32>, tensor<64x64xf32>, tensor<64x64xf32>
}
