// What assignment refuses.
// RUN: mpt-opt %s --split-input-file --verify-diagnostics --assign-precision

// expected-error@+1 {{assign-precision expects a function @step; found @gradient}}
module {
  func.func @gradient() { return }
}

// -----

// expected-error@+1 {{assign-precision: policy threshold decides by metrics, which these products lack: 'a', 'b'; run --mpt-attach-metrics first}}
func.func @step(%x: tensor<16x16xf32>) {
  %0 = mpt.matmul %x, %x {mpt.name = "a", role = #mpt.role<fprop>} : (tensor<16x16xf32>, tensor<16x16xf32>) -> tensor<16x16xf32>
  %1 = mpt.matmul %x, %x {mpt.name = "b", role = #mpt.role<fprop>} : (tensor<16x16xf32>, tensor<16x16xf32>) -> tensor<16x16xf32>
  return
}

// -----

func.func @step(%x: tensor<16x16xf32>) {
  // expected-error@+1 {{assign-precision expects a step without formats, found 'x/cast.bf16' held in 'tensor<16x16xf32, #mpt.format<bf16>>'}}
  %0 = mpt.cast %x {mpt.name = "x/cast.bf16"} : (tensor<16x16xf32>) -> tensor<16x16xf32, #mpt.format<bf16>>
  return
}

// -----

// expected-error@+1 {{found argument 'x' held in 'tensor<16x16xf32, #mpt.format<bf16>>'}}
func.func @step(%x: tensor<16x16xf32, #mpt.format<bf16>> {mpt.name = "x"}) {
  return
}

// -----

func.func @step(%x: tensor<16x16xf32>) {
  // expected-error@+1 {{named 'a' has no role; --mpt-differentiate gives it one}}
  %0 = mpt.matmul %x, %x {mpt.name = "a"} : (tensor<16x16xf32>, tensor<16x16xf32>) -> tensor<16x16xf32>
  return
}

// -----

// expected-error@+1 {{assign-precision: two products are named 'a'}}
func.func @step(%x: tensor<16x16xf32>) {
  %0 = mpt.matmul %x, %x {mpt.name = "a", role = #mpt.role<fprop>} : (tensor<16x16xf32>, tensor<16x16xf32>) -> tensor<16x16xf32>
  %1 = mpt.matmul %x, %x {mpt.name = "a", role = #mpt.role<fprop>} : (tensor<16x16xf32>, tensor<16x16xf32>) -> tensor<16x16xf32>
  return
}

// -----

#e4m3 = #mpt.format<f8E4M3FN>
// expected-error@+1 {{metrics of 'a', f8E4M3FN x f8E4M3FN: 'be_p99' is missing or not a number of 0 or more}}
func.func @step(%x: tensor<16x16xf32>) {
  %0 = mpt.matmul %x, %x {mpt.name = "a", role = #mpt.role<fprop>,
      metrics = #mpt.metrics<m = 16, n = 16, k = 16, [#mpt.candidate<#e4m3, #e4m3, {be_median = 0.0 : f64}>]>}
      : (tensor<16x16xf32>, tensor<16x16xf32>) -> tensor<16x16xf32>
  return
}

// -----

#e4m3 = #mpt.format<f8E4M3FN>
// expected-error@+1 {{metrics of 'a' were taken at k = 64, the product has k = 16: attach them again}}
func.func @step(%x: tensor<16x16xf32>) {
  %0 = mpt.matmul %x, %x {mpt.name = "a", role = #mpt.role<fprop>,
      metrics = #mpt.metrics<m = 16, n = 16, k = 64, [
        #mpt.candidate<#e4m3, #e4m3, {be_median = 0.0 : f64, be_p99 = 0.0 : f64}>]>}
      : (tensor<16x16xf32>, tensor<16x16xf32>) -> tensor<16x16xf32>
  return
}
