// What the verifiers of constants and views refuse.
// RUN: mpt-opt %s --verify-diagnostics --split-input-file

func.func @constant_scalar() {
  // expected-error @below {{'mpt.constant' op result #0 must be statically shaped, non-empty f32, bf16, f8E4M3FN, f8E5M2, i64, i32, i8 or i1 tensor, but got 'f32'}}
  %0 = mpt.constant 1.0 : f32
  return
}

// -----

func.func @constant_element_type() {
  // expected-error @below {{'mpt.constant' op result #0 must be statically shaped, non-empty f32, bf16, f8E4M3FN, f8E5M2, i64, i32, i8 or i1 tensor, but got 'tensor<2xi16>'}}
  %0 = mpt.constant dense<1> : tensor<2xi16>
  return
}

// -----

// Weights are arguments; a resource would hide them in the file.
func.func @constant_resource() {
  // expected-error @below {{'mpt.constant' op needs dense elements, found dense_resource<weights> : tensor<2xf32>}}
  %0 = mpt.constant dense_resource<weights> : tensor<2xf32>
  return
}

// -----

func.func @constant_format() {
  // expected-error @below {{'mpt.constant' op is held in no format, found 'tensor<2xf32, #mpt.format<bf16>>'}}
  %0 = mpt.constant dense<0.1> : tensor<2xf32, #mpt.format<bf16>>
  return
}

// -----

func.func @reshape_count(%x: tensor<2x3xf32>) {
  // expected-error @below {{'mpt.reshape' op cannot turn 'tensor<2x3xf32>' into 'tensor<5xf32>'}}
  %0 = mpt.reshape %x : (tensor<2x3xf32>) -> tensor<5xf32>
  return
}

// -----

// The product of these sizes is 4294967296 in 64 bits.
func.func @reshape_overflow(%x: tensor<4294967296x4294967297xf32>) {
  // expected-error @below {{'mpt.reshape' op cannot turn 'tensor<4294967296x4294967297xf32>' into 'tensor<4294967296xf32>'}}
  %0 = mpt.reshape %x : (tensor<4294967296x4294967297xf32>) -> tensor<4294967296xf32>
  return
}

// -----

func.func @reshape_format(%x: tensor<3xf32, #mpt.format<bf16>>) {
  // expected-error @below {{'mpt.reshape' op cannot turn 'tensor<3xf32, #mpt.format<bf16>>' into 'tensor<3x1xf32>'}}
  %0 = mpt.reshape %x : (tensor<3xf32, #mpt.format<bf16>>) -> tensor<3x1xf32>
  return
}

// -----

func.func @broadcast_shape(%x: tensor<2x3xf32>) {
  // expected-error @below {{'mpt.broadcast' op cannot stretch 'tensor<2x3xf32>' to 'tensor<2x4xf32>'}}
  %0 = mpt.broadcast %x : (tensor<2x3xf32>) -> tensor<2x4xf32>
  return
}

// -----

func.func @broadcast_shrinks(%x: tensor<2x3xf32>) {
  // expected-error @below {{'mpt.broadcast' op cannot stretch 'tensor<2x3xf32>' to 'tensor<3xf32>'}}
  %0 = mpt.broadcast %x : (tensor<2x3xf32>) -> tensor<3xf32>
  return
}

// -----

func.func @broadcast_format(%x: tensor<3xf32, #mpt.format<bf16>>) {
  // expected-error @below {{'mpt.broadcast' op cannot stretch 'tensor<3xf32, #mpt.format<bf16>>' to 'tensor<2x3xf32>'}}
  %0 = mpt.broadcast %x : (tensor<3xf32, #mpt.format<bf16>>) -> tensor<2x3xf32>
  return
}

// -----

func.func @permutation_range(%x: tensor<2x3xf32>) {
  // expected-error @below {{'mpt.transpose' op permutation [0, 2] does not turn 'tensor<2x3xf32>' into 'tensor<2x3xf32>'}}
  %0 = mpt.transpose %x {permutation = array<i64: 0, 2>} : (tensor<2x3xf32>) -> tensor<2x3xf32>
  return
}

// -----

func.func @permutation_twice(%x: tensor<2x2xf32>) {
  // expected-error @below {{'mpt.transpose' op permutation [1, 1] does not turn 'tensor<2x2xf32>' into 'tensor<2x2xf32>'}}
  %0 = mpt.transpose %x {permutation = array<i64: 1, 1>} : (tensor<2x2xf32>) -> tensor<2x2xf32>
  return
}

// -----

func.func @permutation_rank(%x: tensor<2x3xf32>) {
  // expected-error @below {{'mpt.transpose' op permutation [0] does not turn 'tensor<2x3xf32>' into 'tensor<2x3xf32>'}}
  %0 = mpt.transpose %x {permutation = array<i64: 0>} : (tensor<2x3xf32>) -> tensor<2x3xf32>
  return
}

// -----

func.func @permutation_result(%x: tensor<2x3xf32>) {
  // expected-error @below {{'mpt.transpose' op permutation [1, 0] does not turn 'tensor<2x3xf32>' into 'tensor<2x3xf32>'}}
  %0 = mpt.transpose %x {permutation = array<i64: 1, 0>} : (tensor<2x3xf32>) -> tensor<2x3xf32>
  return
}

// -----

func.func @transpose_format(%x: tensor<3xf32, #mpt.format<bf16>>) {
  // expected-error @below {{'mpt.transpose' op permutation [0] does not turn 'tensor<3xf32, #mpt.format<bf16>>' into 'tensor<3xf32>'}}
  %0 = mpt.transpose %x {permutation = array<i64: 0>} : (tensor<3xf32, #mpt.format<bf16>>) -> tensor<3xf32>
  return
}

// -----

func.func @slice_rank(%x: tensor<2x3xf32>) {
  // expected-error @below {{'mpt.slice' op at offsets [0] of size 'tensor<1x1xf32>' leaves 'tensor<2x3xf32>'}}
  %0 = mpt.slice %x {offsets = array<i64: 0>} : (tensor<2x3xf32>) -> tensor<1x1xf32>
  return
}

// -----

func.func @slice_leaves(%x: tensor<2x3xf32>) {
  // expected-error @below {{'mpt.slice' op at offsets [0, 2] of size 'tensor<1x2xf32>' leaves 'tensor<2x3xf32>'}}
  %0 = mpt.slice %x {offsets = array<i64: 0, 2>} : (tensor<2x3xf32>) -> tensor<1x2xf32>
  return
}

// -----

func.func @slice_overflow(%x: tensor<2x3xf32>) {
  // expected-error @below {{'mpt.slice' op at offsets [0, 9223372036854775807] of size 'tensor<1x1xf32>' leaves 'tensor<2x3xf32>'}}
  %0 = mpt.slice %x {offsets = array<i64: 0, 9223372036854775807>} : (tensor<2x3xf32>) -> tensor<1x1xf32>
  return
}

// -----

func.func @slice_negative(%x: tensor<2x3xf32>) {
  // expected-error @below {{'mpt.slice' op at offsets [0, -1] of size 'tensor<1x1xf32>' leaves 'tensor<2x3xf32>'}}
  %0 = mpt.slice %x {offsets = array<i64: 0, -1>} : (tensor<2x3xf32>) -> tensor<1x1xf32>
  return
}

// -----

func.func @slice_format(%x: tensor<2xf32, #mpt.format<bf16>>) {
  // expected-error @below {{'mpt.slice' op at offsets [0] of size 'tensor<1xf32>' leaves 'tensor<2xf32, #mpt.format<bf16>>'}}
  %0 = mpt.slice %x {offsets = array<i64: 0>} : (tensor<2xf32, #mpt.format<bf16>>) -> tensor<1xf32>
  return
}

// -----

func.func @pad_leaves(%x: tensor<2x3xf32>) {
  // expected-error @below {{'mpt.pad' op cannot place 'tensor<2x3xf32>' at offsets [1, 0] of 'tensor<2x3xf32>'}}
  %0 = mpt.pad %x {offsets = array<i64: 1, 0>} : (tensor<2x3xf32>) -> tensor<2x3xf32>
  return
}

// -----

func.func @pad_offsets(%x: tensor<2x3xf32>) {
  // expected-error @below {{'mpt.pad' op requires attribute 'offsets'}}
  %0 = mpt.pad %x : (tensor<2x3xf32>) -> tensor<2x3xf32>
  return
}

// -----

func.func @copy_shape(%x: tensor<2x3xf32>) {
  // expected-error @below {{'mpt.copy' op requires the same type for all operands and results}}
  %0 = mpt.copy %x : (tensor<2x3xf32>) -> tensor<3x2xf32>
  return
}
