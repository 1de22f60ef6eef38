// A budget that no assignment keeps: BF16 itself was measured to lose more. The least feasible bound is named.
// RUN: mpt-opt %s --verify-diagnostics --assign-precision='policy=budget loss-mse=1e-9 noise-ratio=1e-3'

#bf16 = #mpt.format<bf16>
#e4m3 = #mpt.format<f8E4M3FN>
// expected-error@+1 {{assign-precision: no assignment keeps the budget; least feasible is noise_ratio; smallest sums under the other bounds: loss_mse 2.00e-09 (bound 1.00e-09), noise_ratio 5.00e-03 (bound 1.00e-03), persistent 0.00e+00 (bound 3.00e-02)}}
func.func @step(%x: tensor<64x64xf32>, %w: tensor<64x64xf32>) -> (tensor<64x64xf32>, tensor<64x64xf32>) {
  %0 = mpt.matmul %x, %w {mpt.name = "layer", role = #mpt.role<fprop>,
      metrics = #mpt.metrics<m = 64, n = 64, k = 64, [
        #mpt.candidate<#bf16, #bf16, {be_median = 0.0 : f64, be_p99 = 0.0 : f64, loss_mse = 2.0e-9 : f64}>,
        #mpt.candidate<#e4m3, #e4m3, {be_median = 0.0 : f64, be_p99 = 0.0 : f64, loss_mse = 1.0e-7 : f64}>]>}
      : (tensor<64x64xf32>, tensor<64x64xf32>) -> tensor<64x64xf32>
  %1 = mpt.matmul %x, %w {mpt.name = "layer/wgrad", role = #mpt.role<wgrad>, transpose_lhs,
      metrics = #mpt.metrics<m = 64, n = 64, k = 64, [
        #mpt.candidate<#bf16, #bf16, {be_median = 0.0 : f64, be_p99 = 0.0 : f64, noise_ratio = 5.0e-3 : f64}>]>}
      : (tensor<64x64xf32>, tensor<64x64xf32>) -> tensor<64x64xf32>
  return %0, %1 : tensor<64x64xf32>, tensor<64x64xf32>
}
