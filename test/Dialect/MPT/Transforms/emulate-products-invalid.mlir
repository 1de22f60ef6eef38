// RUN: mpt-opt %s --split-input-file --verify-diagnostics --mpt-emulate-products

// expected-error@+1 {{mpt-emulate-products expects a function @step; found @forward}}
module {
  func.func @forward() { return }
}

// -----

// What has no codes of its own has nothing to decode: the verifier refuses it before the pass runs.
func.func @step(%x: tensor<4x4xf8E5M2>) {
  // expected-error@+1 {{storage 'f8E5M2' needs a scale}}
  %0 = mpt.dequantize %x : (tensor<4x4xf8E5M2>) -> tensor<4x4xf32>
  return
}
