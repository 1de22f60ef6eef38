// What an optimizer cannot be added to.
// RUN: mpt-opt %s --mpt-add-optimizer -split-input-file -verify-diagnostics

// expected-error @+1 {{mpt-add-optimizer expects a function @gradient; found @forward}}
module {
  func.func @forward(%x: tensor<f32>) -> tensor<f32> {
    return %x : tensor<f32>
  }
}

// -----

// expected-error @+1 {{expects the results loss and one gradient per parameter}}
func.func @gradient(%x: tensor<f32>) -> (tensor<f32> {mpt.name = "loss"}) {
  return %x : tensor<f32>
}

// -----

// expected-error @+1 {{result 1 ('v') is the gradient of no parameter}}
func.func @gradient(%w: tensor<f32> {mpt.name = "w", mpt.kind = #mpt.kind<parameter>})
    -> (tensor<f32> {mpt.name = "loss"}, tensor<f32> {mpt.name = "v"}) {
  return %w, %w : tensor<f32>, tensor<f32>
}
