// The worst point of training per metric, and errors rescaled to this graph's K.
// RUN: mpt-opt %s --mpt-attach-metrics=profile=%S/Inputs/metrics.json | FileCheck %s

// The candidate with MX scales, which no attribute can say, is left out.
// CHECK: mpt.matmul
// CHECK-SAME: metrics = #mpt.metrics<m = 32, n = 16, k = 64, [#mpt.candidate<#mpt.format<f8E4M3FN, scale = per_tensor, recipe = current>, #mpt.format<f8E4M3FN, scale = per_tensor, recipe = current>,
// The upper end at step 100, the interval there, and the p99 of step 0.
// CHECK-SAME: be_median = 7.500000e-01 : f64, be_median_spread = 3.750000e-01 : f64, be_median_step = 100 : i64, be_p99 = 5.000000e-01 : f64, be_p99_spread = 0.000000e+00 : f64, be_p99_step = 0 : i64
// CHECK-SAME: excluded = 5.000000e-01 : f64, flushed_lhs = 1.250000e-01 : f64, flushed_rhs = 2.500000e-01 : f64
// CHECK-SAME: loss_mse = 2.500000e-01 : f64, loss_mse_spread = 0.000000e+00 : f64, loss_mse_step = 100 : i64
// CHECK-SAME: rel_var = 1.000000e-01 : f64
// A tenth at worst is 10 dB, a hundredth at best 20.
// CHECK-SAME: sqnr_db = 1.000000e+01 : f64, sqnr_db_spread = 1.000000e+01 : f64, sqnr_db_step = 0 : i64}>]>
// CHECK-SAME: mpt.name = "layer"

// Profiled at K = 128, here 32: errors twice as large, and it says so. The cosine had no value, nor had
// `persistent` of the second candidate; a probe of all wgrad products tells of the first one.
// CHECK: mpt.matmul
// CHECK-SAME: metrics = #mpt.metrics<m = 64, n = 16, k = 128, [#mpt.candidate<#mpt.format<bf16>, #mpt.format<bf16>,
// CHECK-SAME: be_median = 5.000000e-01 : f64, be_median_spread = 0.000000e+00 : f64, be_median_step = 0 : i64, be_p99 = 1.000000e+00 : f64, be_p99_spread = 2.500000e-01 : f64
// CHECK-NOT: cosine
// CHECK-SAME: noise_ratio = 5.000000e-01 : f64, noise_ratio_spread = 0.000000e+00 : f64, noise_ratio_step = 100 : i64
// CHECK-SAME: persistent = 1.250000e-01 : f64, persistent_spread = 0.000000e+00 : f64, persistent_step = 0 : i64
// CHECK-SAME: rescaled = 2.000000e+00 : f64, role_persistent = 2.500000e-01 : f64, role_persistent_spread = 2.500000e-01 : f64, role_persistent_step = 100 : i64
// CHECK-SAME: #mpt.candidate<#mpt.format<i8, scale = per_row, recipe = current, rounding = stochastic>, #mpt.format<bf16>,
// CHECK-SAME: cosine = 1.000000e+00 : f64
// CHECK-NOT: persistent
// CHECK-SAME: rescaled = 2.000000e+00 : f64
module attributes {mpt.graph_hash = "0123456789abcdef"} {
  func.func @step(%x: tensor<32x64xf32>, %w: tensor<64x16xf32>, %dy: tensor<32x16xf32>) {
    %0 = mpt.matmul %x, %w {mpt.name = "layer", role = #mpt.role<fprop>}
        : (tensor<32x64xf32>, tensor<64x16xf32>) -> tensor<32x16xf32>
    %1 = mpt.matmul %x, %dy {mpt.name = "layer/wgrad", role = #mpt.role<wgrad>, transpose_lhs}
        : (tensor<32x64xf32>, tensor<32x16xf32>) -> tensor<64x16xf32>
    return
  }
}
