// What cannot be planned.
// RUN: mpt-opt %s --mpt-plan-memory -split-input-file -verify-diagnostics

func.func @step(%x: tensor<4x8xf32>) -> tensor<4x8xf32> {
  // expected-error @+1 {{named 'e' is no launch: run --mpt-fuse before planning}}
  %y = mpt.exp %x {mpt.name = "e"} : (tensor<4x8xf32>) -> tensor<4x8xf32>
  return %y : tensor<4x8xf32>
}

// -----

// expected-error @+1 {{mpt-plan-memory expects a function @step; found @forward}}
module {
  func.func @forward(%x: tensor<f32>) -> tensor<f32> {
    return %x : tensor<f32>
  }
}

// -----

func.func @step(%ids: tensor<4xi64>, %u: tensor<4x1048576xf32>) -> tensor<2x1048576xf32> {
  // expected-error @+1 {{is too large for a constant (limit 1 MiB)}}
  %c = mpt.constant dense<1.0> : tensor<2x1048576xf32>
  %y = mpt.scatter_add %c, %ids, %u : (tensor<2x1048576xf32>, tensor<4xi64>, tensor<4x1048576xf32>) -> tensor<2x1048576xf32>
  return %y : tensor<2x1048576xf32>
}
