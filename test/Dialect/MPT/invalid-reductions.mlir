// What the verifiers of reductions, losses and the optimizer refuse.
// RUN: mpt-opt %s --verify-diagnostics --split-input-file

func.func @axis(%x: tensor<3xf32>) {
  // expected-error @+2 {{'mpt.reduce' axis 1 is not an axis of 'tensor<3xf32>'}}
  // expected-error @below {{'mpt.reduce' op failed to infer returned types}}
  %0 = mpt.reduce %x {kind = #mpt.reduction<sum>, axes = array<i64: 1>} : (tensor<3xf32>) -> tensor<1xf32>
  return
}

// -----

func.func @negative_axis(%x: tensor<3xf32>) {
  // expected-error @+2 {{'mpt.reduce' axis -1 is not an axis of 'tensor<3xf32>'}}
  // expected-error @below {{'mpt.reduce' op failed to infer returned types}}
  %0 = mpt.reduce %x {kind = #mpt.reduction<sum>, axes = array<i64: -1>} : (tensor<3xf32>) -> tensor<1xf32>
  return
}

// -----

func.func @axes_order(%x: tensor<3x4xf32>) {
  // expected-error @below {{'mpt.reduce' op axes must be ascending, found [1, 0]}}
  %0 = mpt.reduce %x {kind = #mpt.reduction<sum>, axes = array<i64: 1, 0>} : (tensor<3x4xf32>) -> tensor<1x1xf32>
  return
}

// -----

func.func @axes_twice(%x: tensor<3x4xf32>) {
  // expected-error @below {{'mpt.reduce' op axes must be ascending, found [0, 0]}}
  %0 = mpt.reduce %x {kind = #mpt.reduction<sum>, axes = array<i64: 0, 0>} : (tensor<3x4xf32>) -> tensor<1x4xf32>
  return
}

// -----

func.func @axes_missing(%x: tensor<3xf32>) {
  // expected-error @below {{'mpt.reduce' op requires attribute 'axes'}}
  %0 = mpt.reduce %x {kind = #mpt.reduction<sum>} : (tensor<3xf32>) -> tensor<1xf32>
  return
}

// -----

func.func @axes_type(%x: tensor<3xf32>) {
  // expected-error @below {{custom op 'mpt.reduce' 'mpt.reduce' op attribute 'axes' failed to satisfy constraint: i64 dense array attribute}}
  %0 = mpt.reduce %x {kind = #mpt.reduction<sum>, axes = array<i32: 0>} : (tensor<3xf32>) -> tensor<1xf32>
  return
}

// -----

func.func @unknown_kind(%x: tensor<3xf32>) {
  // expected-error @+2 {{expected ::mpt::Reduction to be one of: sum, max, absmax}}
  // expected-error @below {{failed to parse MPT_ReductionAttr parameter 'value' which is to be a `::mpt::Reduction`}}
  %0 = mpt.reduce %x {kind = #mpt.reduction<mean>, axes = array<i64: 0>} : (tensor<3xf32>) -> tensor<1xf32>
  return
}

// -----

func.func @chunks_rank(%x: tensor<3xf32>) {
  // expected-error @+2 {{'mpt.reduce_chunks' takes [R, C], found 'tensor<3xf32>'}}
  // expected-error @below {{'mpt.reduce_chunks' op failed to infer returned types}}
  %0 = mpt.reduce_chunks %x : (tensor<3xf32>) -> tensor<1xf32>
  return
}

// -----

func.func @chunks_result(%x: tensor<65x4xf32>) {
  // expected-error @+2 {{'mpt.reduce_chunks' op inferred type(s) 'tensor<2x4xf32>' are incompatible with return type(s) of operation 'tensor<1x4xf32>'}}
  // expected-error @below {{'mpt.reduce_chunks' op failed to infer returned types}}
  %0 = mpt.reduce_chunks %x : (tensor<65x4xf32>) -> tensor<1x4xf32>
  return
}

// -----

func.func @softmax_scalar(%x: tensor<f32>) {
  // expected-error @below {{'mpt.softmax' op needs a last axis, found 'tensor<f32>'}}
  %0 = mpt.softmax %x : (tensor<f32>) -> tensor<f32>
  return
}

// -----

func.func @softmax_result(%x: tensor<3xf32>) {
  // expected-error @+2 {{'mpt.softmax' op inferred type(s) 'tensor<3xf32>' are incompatible with return type(s) of operation 'tensor<4xf32>'}}
  // expected-error @below {{'mpt.softmax' op failed to infer returned types}}
  %0 = mpt.softmax %x : (tensor<3xf32>) -> tensor<4xf32>
  return
}

// -----

func.func @layer_norm_scalar(%x: tensor<f32>, %g: tensor<1xf32>) {
  // expected-error @below {{'mpt.layer_norm' op needs a last axis, found 'tensor<f32>'}}
  %0:3 = mpt.layer_norm %x, %g, %g {epsilon = 1.0e-5 : f32}
      : (tensor<f32>, tensor<1xf32>, tensor<1xf32>) -> (tensor<f32>, tensor<f32>, tensor<f32>)
  return
}

// -----

func.func @layer_norm_gain(%x: tensor<2x3xf32>, %g: tensor<2xf32>) {
  // expected-error @below {{'mpt.layer_norm' op gain and bias must have shape [3], found 'tensor<2xf32>' and 'tensor<2xf32>'}}
  %0:3 = mpt.layer_norm %x, %g, %g {epsilon = 1.0e-5 : f32}
      : (tensor<2x3xf32>, tensor<2xf32>, tensor<2xf32>) -> (tensor<2x3xf32>, tensor<2x1xf32>, tensor<2x1xf32>)
  return
}

// -----

func.func @layer_norm_results(%x: tensor<2x3xf32>, %g: tensor<3xf32>) {
  // expected-error @below {{'mpt.layer_norm' op result shapes do not follow from 'tensor<2x3xf32>'}}
  %0:3 = mpt.layer_norm %x, %g, %g {epsilon = 1.0e-5 : f32}
      : (tensor<2x3xf32>, tensor<3xf32>, tensor<3xf32>) -> (tensor<2x3xf32>, tensor<2xf32>, tensor<2xf32>)
  return
}

// -----

func.func @layer_norm_epsilon(%x: tensor<2x3xf32>, %g: tensor<3xf32>) {
  // expected-error @below {{'mpt.layer_norm' op epsilon must be finite and not negative, found -1.000000e+00}}
  %0:3 = mpt.layer_norm %x, %g, %g {epsilon = -1.0 : f32}
      : (tensor<2x3xf32>, tensor<3xf32>, tensor<3xf32>) -> (tensor<2x3xf32>, tensor<2x1xf32>, tensor<2x1xf32>)
  return
}

// -----

func.func @labels(%x: tensor<2x3xf32>, %l: tensor<3xi64>) {
  // expected-error @below {{'mpt.cross_entropy' op takes logits [R, C] and labels [R], found 'tensor<2x3xf32>' and 'tensor<3xi64>'}}
  %0:3 = mpt.cross_entropy %x, %l {ignore_index = -100 : i64}
      : (tensor<2x3xf32>, tensor<3xi64>) -> (tensor<f32>, tensor<2x1xf32>, tensor<f32>)
  return
}

// -----

func.func @log_sum_exp(%x: tensor<2x3xf32>, %l: tensor<2xi64>) {
  // expected-error @below {{'mpt.cross_entropy' op log_sum_exp must be [R, 1], found 'tensor<2xf32>'}}
  %0:3 = mpt.cross_entropy %x, %l {ignore_index = -100 : i64}
      : (tensor<2x3xf32>, tensor<2xi64>) -> (tensor<f32>, tensor<2xf32>, tensor<f32>)
  return
}

// -----

func.func @adamw_gradient(%p: tensor<3xf32>, %g: tensor<4xf32>, %s: tensor<f32>, %skip: tensor<i1>) {
  // expected-error @below {{'mpt.adamw' op gradient and moments must have the parameter's shape 'tensor<3xf32>', found 'tensor<4xf32>'}}
  %0:3 = mpt.adamw %p, %g, %p, %p, %s, %s, %s, %s, %skip
      {beta1 = 0.9 : f64, beta2 = 0.999 : f64, epsilon = 1.0e-8 : f64, weight_decay = 0.0 : f64}
      : (tensor<3xf32>, tensor<4xf32>, tensor<3xf32>, tensor<3xf32>, tensor<f32>, tensor<f32>,
         tensor<f32>, tensor<f32>, tensor<i1>) -> (tensor<3xf32>, tensor<3xf32>, tensor<3xf32>)
  return
}

// -----

func.func @adamw_result(%p: tensor<3xf32>, %s: tensor<f32>, %skip: tensor<i1>) {
  // expected-error @below {{'mpt.adamw' op results must have the parameter's type 'tensor<3xf32>', found 'tensor<4xf32>'}}
  %0:3 = mpt.adamw %p, %p, %p, %p, %s, %s, %s, %s, %skip
      {beta1 = 0.9 : f64, beta2 = 0.999 : f64, epsilon = 1.0e-8 : f64, weight_decay = 0.0 : f64}
      : (tensor<3xf32>, tensor<3xf32>, tensor<3xf32>, tensor<3xf32>, tensor<f32>, tensor<f32>,
         tensor<f32>, tensor<f32>, tensor<i1>) -> (tensor<3xf32>, tensor<4xf32>, tensor<3xf32>)
  return
}
