// What fusion does not take.
// RUN: mpt-opt %s --mpt-fuse -split-input-file -verify-diagnostics

func.func @step(%x: tensor<4x8xf32>) -> tensor<4x8xf32> {
  // expected-error @+1 {{is a composite op: run --mpt-decompose before fusion}}
  %y = mpt.softmax %x : (tensor<4x8xf32>) -> tensor<4x8xf32>
  return %y : tensor<4x8xf32>
}

// -----

// expected-error @+1 {{mpt-fuse expects a function @step; found @gradient}}
module {
  func.func @gradient(%x: tensor<4x8xf32>) -> tensor<4x8xf32> {
    return %x : tensor<4x8xf32>
  }
}
