// Every way in which a graph cannot be differentiated.
// RUN: mpt-opt %s --mpt-differentiate -split-input-file -verify-diagnostics

// expected-error @+1 {{mpt-differentiate expects a function @forward; found @other}}
module {
  func.func @other(%x: tensor<f32>) -> tensor<f32> {
    return %x : tensor<f32>
  }
}

// -----

// expected-error @+1 {{mpt-differentiate expects one result, a scalar tensor<f32> loss}}
func.func @forward(%w: tensor<4xf32> {mpt.kind = #mpt.kind<parameter>}) -> tensor<4xf32> {
  return %w : tensor<4xf32>
}

// -----

// expected-error @+1 {{the loss depends on no parameter}}
func.func @forward(%x: tensor<f32> {mpt.kind = #mpt.kind<input>}) -> tensor<f32> {
  return %x : tensor<f32>
}

// -----

func.func @forward(%w: tensor<f32> {mpt.kind = #mpt.kind<parameter>}) -> tensor<f32> {
  // expected-error @+1 {{expects a graph without casts}}
  %c = mpt.cast %w : (tensor<f32>) -> tensor<f32, #mpt.format<bf16>>
  %y = mpt.exp %c : (tensor<f32, #mpt.format<bf16>>) -> tensor<f32>
  return %y : tensor<f32>
}

// -----

func.func @forward(%w: tensor<2x4xf32> {mpt.kind = #mpt.kind<parameter>}) -> tensor<f32> {
  // expected-error @+1 {{of kind max cannot be differentiated; expected sum}}
  %m = mpt.reduce %w {kind = #mpt.reduction<max>, axes = array<i64: 0, 1>} : (tensor<2x4xf32>) -> tensor<1x1xf32>
  %y = mpt.reshape %m : (tensor<1x1xf32>) -> tensor<f32>
  return %y : tensor<f32>
}

// -----

// A parameter that does not matter is left alone, and that is said.
// expected-warning @+1 {{parameter 'unused' does not influence the loss and is not trained}}
func.func @forward(%w: tensor<f32> {mpt.name = "w", mpt.kind = #mpt.kind<parameter>},
    %u: tensor<f32> {mpt.name = "unused", mpt.kind = #mpt.kind<parameter>}) -> tensor<f32> {
  %y = mpt.exp %w : (tensor<f32>) -> tensor<f32>
  return %y : tensor<f32>
}
