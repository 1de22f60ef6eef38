// What cannot be in a kernel is reported on the op in question.
// RUN: mpt-opt %s -split-input-file -verify-diagnostics --test-mpt-kernel-model

// expected-error @+1 {{'func.func' op is a kernel and must return a tensor}}
func.func private @nothing() attributes {mpt.kernel} {
  return
}

// -----

// expected-error @+1 {{'func.func' op is a kernel and needs a body of one block}}
func.func private @external() -> tensor<f32> attributes {mpt.kernel}

// -----

// expected-error @+1 {{argument 0 has elements that no kernel can hold: 'f64'}}
func.func private @element(%x: tensor<4xf64>) -> tensor<4xf64> attributes {mpt.kernel} {
  return %x : tensor<4xf64>
}

// -----

// expected-error @+1 {{argument 0 must be a statically shaped tensor, found 'f32'}}
func.func private @scalar(%x: f32) -> tensor<f32> attributes {mpt.kernel} {
  %0 = mpt.constant dense<0.0> : tensor<f32>
  return %0 : tensor<f32>
}

// -----

func.func private @product(%x: tensor<4x4xf32>) -> tensor<4x4xf32> attributes {mpt.kernel} {
  // expected-error @+1 {{'mpt.matmul' op in kernel 'product' has no scalar body and is no reduction, gather or view}}
  %0 = mpt.matmul %x, %x : (tensor<4x4xf32>, tensor<4x4xf32>) -> tensor<4x4xf32>
  return %0 : tensor<4x4xf32>
}

// -----

func.func private @table() -> tensor<2xf32> attributes {mpt.kernel} {
  // expected-error @+1 {{'mpt.constant' op in kernel 'table' must be a splat; other constants are arguments}}
  %0 = mpt.constant dense<[1.0, 2.0]> : tensor<2xf32>
  return %0 : tensor<2xf32>
}

// -----

func.func private @two_widths(%x: tensor<4x6xf32>, %y: tensor<4x7xf32>) -> (tensor<4x1xf32>, tensor<4x1xf32>) attributes {mpt.kernel} {
  %0 = mpt.reduce %x {kind = #mpt.reduction<sum>, axes = array<i64: 1>} : (tensor<4x6xf32>) -> tensor<4x1xf32>
  // expected-error @+1 {{in kernel 'two_widths' reduces rows of 7 elements, but another op of 6}}
  %1 = mpt.reduce %y {kind = #mpt.reduction<sum>, axes = array<i64: 1>} : (tensor<4x7xf32>) -> tensor<4x1xf32>
  return %0, %1 : tensor<4x1xf32>, tensor<4x1xf32>
}

// -----

func.func private @all_axes(%x: tensor<4x6xf32>) -> tensor<1x1xf32> attributes {mpt.kernel} {
  // expected-error @+1 {{in kernel 'all_axes' must reduce either the last axis or all others, found [0, 1] of 'tensor<4x6xf32>'}}
  %0 = mpt.reduce %x {kind = #mpt.reduction<sum>, axes = array<i64: 0, 1>} : (tensor<4x6xf32>) -> tensor<1x1xf32>
  return %0 : tensor<1x1xf32>
}

// -----

func.func private @computed(%x: tensor<4x6xf32>) -> tensor<1x6xf32> attributes {mpt.kernel} {
  %0 = mpt.neg %x : (tensor<4x6xf32>) -> tensor<4x6xf32>
  // expected-error @+1 {{in kernel 'computed' reduces rows of a computed value; only an argument of the kernel can be reduced over its leading axes}}
  %1 = mpt.reduce %0 {kind = #mpt.reduction<sum>, axes = array<i64: 0>} : (tensor<4x6xf32>) -> tensor<1x6xf32>
  return %1 : tensor<1x6xf32>
}

// -----

func.func private @inner_chunks(%x: tensor<64x6xf32>) -> tensor<1x6xf32> attributes {mpt.kernel} {
  // expected-error @+1 {{in kernel 'inner_chunks' can only be returned}}
  %0 = mpt.reduce_chunks %x : (tensor<64x6xf32>) -> tensor<1x6xf32>
  %1 = mpt.neg %0 : (tensor<1x6xf32>) -> tensor<1x6xf32>
  return %1 : tensor<1x6xf32>
}

// -----

// expected-error @+1 {{result 1 has 5 elements, expected 24 or one for each of 4 rows}}
func.func private @stray(%x: tensor<4x6xf32>, %y: tensor<5xf32>) -> (tensor<4x1xf32>, tensor<5xf32>) attributes {mpt.kernel} {
  %0 = mpt.reduce %x {kind = #mpt.reduction<sum>, axes = array<i64: 1>} : (tensor<4x6xf32>) -> tensor<4x1xf32>
  return %0, %y : tensor<4x1xf32>, tensor<5xf32>
}

// -----

func.func private @computed_table(%x: tensor<4x6xf32>, %ids: tensor<2xi64>) -> tensor<2x6xf32> attributes {mpt.kernel} {
  %0 = mpt.neg %x : (tensor<4x6xf32>) -> tensor<4x6xf32>
  // expected-error @+1 {{in kernel 'computed_table' reads a computed table; only an argument of the kernel can be gathered from}}
  %1 = mpt.gather %0, %ids : (tensor<4x6xf32>, tensor<2xi64>) -> tensor<2x6xf32>
  return %1 : tensor<2x6xf32>
}
