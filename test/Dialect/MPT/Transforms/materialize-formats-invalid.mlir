// Formats that cannot be materialized yet, and formats that leave the step.
// RUN: mpt-opt %s --split-input-file --verify-diagnostics --mpt-materialize-formats

// expected-error@+1 {{mpt-materialize-formats expects a function @step}}
module {}

// -----

func.func @step(%x: tensor<4x4xf32>) {
  // expected-error@+1 {{named 'x/cast.f8E4M3FN': recipe delayed is not supported yet}}
  %0 = mpt.cast %x {mpt.name = "x/cast.f8E4M3FN"} : (tensor<4x4xf32>) -> tensor<4x4xf32, #mpt.format<f8E4M3FN, recipe = delayed>>
  return
}

// -----

func.func @step(%x: tensor<4x4xf32>) {
  // expected-error@+1 {{named 'a': recipe fixed is not supported yet}}
  %0 = mpt.cast %x {mpt.name = "a"} : (tensor<4x4xf32>) -> tensor<4x4xf32, #mpt.format<f8E5M2, recipe = fixed>>
  return
}

// -----

func.func @step(%x: tensor<4x4xf32>) {
  // expected-error@+1 {{named 'a': scale per_row is not supported yet}}
  %0 = mpt.cast %x {mpt.name = "a"} : (tensor<4x4xf32>) -> tensor<4x4xf32, #mpt.format<i8, scale = per_row>>
  return
}

// -----

func.func @step(%x: tensor<4x4xf32>) {
  // expected-error@+1 {{named 'a': rounding stochastic is not supported yet}}
  %0 = mpt.cast %x {mpt.name = "a"} : (tensor<4x4xf32>) -> tensor<4x4xf32, #mpt.format<bf16, rounding = stochastic>>
  return
}

// -----

// expected-error@+1 {{mpt-materialize-formats: argument 0 is held in a format: 'tensor<4xf32, #mpt.format<bf16>>'}}
func.func @step(%x: tensor<4xf32, #mpt.format<bf16>>) {
  return
}

// -----

// expected-error@+1 {{mpt-materialize-formats: result 0 is held in a format: 'tensor<4xf32, #mpt.format<bf16>>'}}
func.func @step(%x: tensor<4xf32>) -> tensor<4xf32, #mpt.format<bf16>> {
  %0 = mpt.cast %x : (tensor<4xf32>) -> tensor<4xf32, #mpt.format<bf16>>
  return %0 : tensor<4xf32, #mpt.format<bf16>>
}
