// A reduction that no kernel runs.
// RUN: mpt-opt %s --mpt-decompose -split-input-file -verify-diagnostics

func.func @max(%x: tensor<4x8xf32>) -> tensor<1x8xf32> {
  // expected-error @+1 {{named 'm': only sums run over leading axes, found max}}
  %y = mpt.reduce %x {kind = #mpt.reduction<max>, axes = array<i64: 0>, mpt.name = "m"} : (tensor<4x8xf32>) -> tensor<1x8xf32>
  return %y : tensor<1x8xf32>
}
