// The stage that the pass expects.
// RUN: mpt-opt %s --split-input-file --verify-diagnostics --mpt-probe-kept

// expected-error@+1 {{mpt-probe-kept expects a function @step}}
module {}

// -----

// expected-error@+1 {{mpt-probe-kept expects a step with the result 'loss' whose backward pass reads what the forward pass computed}}
func.func @step(%x: tensor<4x8xf32>) -> (tensor<f32> {mpt.name = "loss"}, tensor<4x8xf32>) {
  %s = mpt.reduce %x {axes = array<i64: 0, 1>, kind = #mpt.reduction<sum>, mpt.name = "sum"} : (tensor<4x8xf32>) -> tensor<1x1xf32>
  %loss = mpt.reshape %s {mpt.name = "loss"} : (tensor<1x1xf32>) -> tensor<f32>
  %g = mpt.exp %x : (tensor<4x8xf32>) -> tensor<4x8xf32>
  return %loss, %g : tensor<f32>, tensor<4x8xf32>
}

// -----

func.func @step(%x: tensor<4x8xf32>) -> (tensor<f32> {mpt.name = "loss"}, tensor<4x8xf32>) {
  %a = mpt.exp %x {mpt.name = "same"} : (tensor<4x8xf32>) -> tensor<4x8xf32>
  // expected-error@+1 {{named 'same': the backward pass keeps two tensors of that name}}
  %b = mpt.tanh %a {mpt.name = "same"} : (tensor<4x8xf32>) -> tensor<4x8xf32>
  %s = mpt.reduce %b {axes = array<i64: 0, 1>, kind = #mpt.reduction<sum>, mpt.name = "sum"} : (tensor<4x8xf32>) -> tensor<1x1xf32>
  %loss = mpt.reshape %s {mpt.name = "loss"} : (tensor<1x1xf32>) -> tensor<f32>
  %g = mpt.mul %a, %b : (tensor<4x8xf32>, tensor<4x8xf32>) -> tensor<4x8xf32>
  return %loss, %g : tensor<f32>, tensor<4x8xf32>
}
