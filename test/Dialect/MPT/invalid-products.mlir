// What the verifiers of products, gather and scatter refuse.
// RUN: mpt-opt %s --verify-diagnostics --split-input-file

func.func @rank(%x: tensor<3xf32>, %w: tensor<3x4xf32>) {
  // expected-error @+2 {{'mpt.matmul' operands must have rank 2 or more: 'tensor<3xf32>' and 'tensor<3x4xf32>'}}
  // expected-error @below {{'mpt.matmul' op failed to infer returned types}}
  %0 = mpt.matmul %x, %w : (tensor<3xf32>, tensor<3x4xf32>) -> tensor<4xf32>
  return
}

// -----

func.func @contraction(%x: tensor<2x3xf32>, %w: tensor<4x5xf32>) {
  // expected-error @+2 {{'mpt.matmul' lhs contracts over 3 elements, rhs over 4: 'tensor<2x3xf32>' and 'tensor<4x5xf32>'}}
  // expected-error @below {{'mpt.matmul' op failed to infer returned types}}
  %0 = mpt.matmul %x, %w : (tensor<2x3xf32>, tensor<4x5xf32>) -> tensor<2x5xf32>
  return
}

// -----

func.func @batch(%x: tensor<2x3x4xf32>, %w: tensor<5x4x6xf32>) {
  // expected-error @+2 {{'mpt.matmul' batch dims of lhs and rhs differ: 'tensor<2x3x4xf32>' and 'tensor<5x4x6xf32>'}}
  // expected-error @below {{'mpt.matmul' op failed to infer returned types}}
  %0 = mpt.matmul %x, %w : (tensor<2x3x4xf32>, tensor<5x4x6xf32>) -> tensor<2x3x6xf32>
  return
}

// -----

func.func @transposed_batch(%x: tensor<2x4x3xf32>, %w: tensor<4x6xf32>) {
  // expected-error @+2 {{'mpt.matmul' a batched, transposed lhs needs a batched rhs: 'tensor<2x4x3xf32>' and 'tensor<4x6xf32>'}}
  // expected-error @below {{'mpt.matmul' op failed to infer returned types}}
  %0 = mpt.matmul %x, %w {transpose_lhs} : (tensor<2x4x3xf32>, tensor<4x6xf32>) -> tensor<2x3x6xf32>
  return
}

// -----

func.func @fold_batch_flags(%x: tensor<2x3x4xf32>) {
  // expected-error @+2 {{'mpt.matmul' fold_batch needs a transposed lhs and an rhs that is not: 'tensor<2x3x4xf32>' and 'tensor<2x3x4xf32>'}}
  // expected-error @below {{'mpt.matmul' op failed to infer returned types}}
  %0 = mpt.matmul %x, %x {fold_batch, transpose_rhs} : (tensor<2x3x4xf32>, tensor<2x3x4xf32>) -> tensor<6x6xf32>
  return
}

// -----

func.func @fold_batch_leading(%x: tensor<2x3x4xf32>, %y: tensor<3x2x4xf32>) {
  // expected-error @+2 {{'mpt.matmul' fold_batch needs equal leading dims: 'tensor<2x3x4xf32>' and 'tensor<3x2x4xf32>'}}
  // expected-error @below {{'mpt.matmul' op failed to infer returned types}}
  %0 = mpt.matmul %x, %y {fold_batch, transpose_lhs} : (tensor<2x3x4xf32>, tensor<3x2x4xf32>) -> tensor<4x4xf32>
  return
}

// -----

func.func @result(%x: tensor<2x3xf32>, %w: tensor<3x4xf32>) {
  // expected-error @+2 {{'mpt.matmul' op inferred type(s) 'tensor<2x4xf32>' are incompatible with return type(s) of operation 'tensor<2x5xf32>'}}
  // expected-error @below {{'mpt.matmul' op failed to infer returned types}}
  %0 = mpt.matmul %x, %w : (tensor<2x3xf32>, tensor<3x4xf32>) -> tensor<2x5xf32>
  return
}

// -----

func.func @storage(%x: tensor<2x3xf8E4M3FN>, %w: tensor<3x4xf32>) {
  // expected-error @below {{'mpt.matmul' op operand #0 must be statically shaped, non-empty f32 tensor, but got 'tensor<2x3xf8E4M3FN>'}}
  %0 = mpt.matmul %x, %w : (tensor<2x3xf8E4M3FN>, tensor<3x4xf32>) -> tensor<2x4xf32>
  return
}

// -----

func.func @unknown_role(%x: tensor<2x3xf32>, %w: tensor<3x4xf32>) {
  // expected-error @+2 {{expected ::mpt::Role to be one of: fprop, dgrad, wgrad}}
  // expected-error @below {{failed to parse MPT_RoleAttr parameter 'value' which is to be a `::mpt::Role`}}
  %0 = mpt.matmul %x, %w {role = #mpt.role<backprop>} : (tensor<2x3xf32>, tensor<3x4xf32>) -> tensor<2x4xf32>
  return
}

// -----

func.func @role_kind(%x: tensor<2x3xf32>, %w: tensor<3x4xf32>) {
  // expected-error @below {{custom op 'mpt.matmul' 'mpt.matmul' op attribute 'role' failed to satisfy constraint: a product's role in training}}
  %0 = mpt.matmul %x, %w {role = "fprop"} : (tensor<2x3xf32>, tensor<3x4xf32>) -> tensor<2x4xf32>
  return
}

// -----

func.func @scaled_contraction(%x: tensor<2x3xi8>, %w: tensor<4x5xi8>) {
  // expected-error @below {{'mpt.scaled_matmul' op lhs contracts over 3 elements, rhs over 4: 'tensor<2x3xi8>' and 'tensor<4x5xi8>'}}
  %0 = mpt.scaled_matmul %x, %w {operandSegmentSizes = array<i32: 1, 1, 0, 0>}
      : (tensor<2x3xi8>, tensor<4x5xi8>) -> tensor<2x5xf32>
  return
}

// -----

func.func @scaled_result(%x: tensor<2x3xi8>, %w: tensor<3x5xi8>) {
  // expected-error @below {{'mpt.scaled_matmul' op result of type 'tensor<2x6xf32>' does not fit its operands}}
  %0 = mpt.scaled_matmul %x, %w {operandSegmentSizes = array<i32: 1, 1, 0, 0>}
      : (tensor<2x3xi8>, tensor<3x5xi8>) -> tensor<2x6xf32>
  return
}

// -----

func.func @scaled_segments(%x: tensor<2x3xi8>, %w: tensor<3x5xi8>) {
  // expected-error @below {{'mpt.scaled_matmul' op takes one lhs and one rhs, found 2 and 0}}
  %0 = mpt.scaled_matmul %x, %w {operandSegmentSizes = array<i32: 2, 0, 0, 0>}
      : (tensor<2x3xi8>, tensor<3x5xi8>) -> tensor<2x5xf32>
  return
}

// -----

func.func @scaled_segment_sum(%x: tensor<2x3xi8>, %w: tensor<3x5xi8>) {
  // expected-error @below {{'mpt.scaled_matmul' op operand count (2) does not match with the total size (3) specified in attribute 'operandSegmentSizes'}}
  %0 = mpt.scaled_matmul %x, %w {operandSegmentSizes = array<i32: 1, 1, 1, 0>}
      : (tensor<2x3xi8>, tensor<3x5xi8>) -> tensor<2x5xf32>
  return
}

// -----

func.func @scale_shape(%x: tensor<2x3xi8>, %w: tensor<3x5xi8>, %s: tensor<2xf32>) {
  // expected-error @below {{'mpt.scaled_matmul' op takes an inverse scale that broadcasts to 'tensor<2x3xi8>', found 'tensor<2xf32>'}}
  %0 = mpt.scaled_matmul %x, %w, %s {operandSegmentSizes = array<i32: 1, 1, 1, 0>}
      : (tensor<2x3xi8>, tensor<3x5xi8>, tensor<2xf32>) -> tensor<2x5xf32>
  return
}

// -----

func.func @gather_table(%table: tensor<2x3x4xf32>, %ids: tensor<2xi64>) {
  // expected-error @+2 {{'mpt.gather' takes a table [V, H], found 'tensor<2x3x4xf32>'}}
  // expected-error @below {{'mpt.gather' op failed to infer returned types}}
  %0 = mpt.gather %table, %ids : (tensor<2x3x4xf32>, tensor<2xi64>) -> tensor<2x3xf32>
  return
}

// -----

func.func @gather_result(%table: tensor<3x4xf32>, %ids: tensor<2xi64>) {
  // expected-error @+2 {{'mpt.gather' op inferred type(s) 'tensor<2x4xf32>' are incompatible with return type(s) of operation 'tensor<2x3xf32>'}}
  // expected-error @below {{'mpt.gather' op failed to infer returned types}}
  %0 = mpt.gather %table, %ids : (tensor<3x4xf32>, tensor<2xi64>) -> tensor<2x3xf32>
  return
}

// -----

func.func @gather_ids(%table: tensor<3x4xf32>, %ids: tensor<2xf32>) {
  // expected-error @below {{'mpt.gather' op operand #1 must be statically shaped, non-empty i64 or i32 tensor, but got 'tensor<2xf32>'}}
  %0 = mpt.gather %table, %ids : (tensor<3x4xf32>, tensor<2xf32>) -> tensor<2x4xf32>
  return
}

// -----

func.func @scatter_updates(%table: tensor<3x4xf32>, %ids: tensor<2xi64>) {
  // expected-error @below {{'mpt.scatter_add' op takes init [V, H], ids [...] and updates [..., H], found 'tensor<3x4xf32>', 'tensor<2xi64>' and 'tensor<3x4xf32>'}}
  %0 = mpt.scatter_add %table, %ids, %table : (tensor<3x4xf32>, tensor<2xi64>, tensor<3x4xf32>) -> tensor<3x4xf32>
  return
}

// -----

func.func @scatter_table(%table: tensor<3xf32>, %ids: tensor<2xi64>, %u: tensor<2xf32>) {
  // expected-error @below {{'mpt.scatter_add' op takes init [V, H], ids [...] and updates [..., H], found 'tensor<3xf32>', 'tensor<2xi64>' and 'tensor<2xf32>'}}
  %0 = mpt.scatter_add %table, %ids, %u : (tensor<3xf32>, tensor<2xi64>, tensor<2xf32>) -> tensor<3xf32>
  return
}

// -----

func.func @scatter_result(%table: tensor<3x4xf32>, %ids: tensor<2xi64>, %u: tensor<2x4xf32>) {
  // expected-error @below {{'mpt.scatter_add' op failed to verify that all of {init, y} have same type}}
  %0 = mpt.scatter_add %table, %ids, %u : (tensor<3x4xf32>, tensor<2xi64>, tensor<2x4xf32>) -> tensor<3x5xf32>
  return
}

// -----

func.func @no_epilogue(%x: tensor<16x32xbf16>, %w: tensor<32x8xbf16>) {
  // expected-error @below {{'mpt.fused_matmul' op has the epilogue 'nothing', which is no function}}
  %0 = mpt.fused_matmul %x, %w {epilogue = @nothing, position = 0 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0, 0>}
      : (tensor<16x32xbf16>, tensor<32x8xbf16>) -> tensor<16x8xf32>
  return
}

// -----

func.func private @epilogue(tensor<16x8xf32>, tensor<8xf32>) -> tensor<16x8xf32>
func.func @epilogue_position(%x: tensor<16x32xbf16>, %w: tensor<32x8xbf16>, %bias: tensor<8xf32>) {
  // expected-error @below {{'mpt.fused_matmul' op gives the product to argument 2 of an epilogue with 2}}
  %0 = mpt.fused_matmul %x, %w, %bias {epilogue = @epilogue, position = 2 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0, 1>}
      : (tensor<16x32xbf16>, tensor<32x8xbf16>, tensor<8xf32>) -> tensor<16x8xf32>
  return
}

// -----

func.func private @epilogue(tensor<16x8xf32>, tensor<8xf32>) -> tensor<16x8xf32>
func.func @epilogue_arguments(%x: tensor<16x32xbf16>, %w: tensor<32x8xbf16>, %bias: tensor<8xf32>) {
  // expected-error @below {{'mpt.fused_matmul' op gives its epilogue 'epilogue' ('tensor<8xf32>', 'tensor<16x8xf32>'), expected ('tensor<16x8xf32>', 'tensor<8xf32>')}}
  %0 = mpt.fused_matmul %x, %w, %bias {epilogue = @epilogue, position = 1 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0, 1>}
      : (tensor<16x32xbf16>, tensor<32x8xbf16>, tensor<8xf32>) -> tensor<16x8xf32>
  return
}

// -----

func.func private @epilogue(tensor<16x8xf32>) -> tensor<16x8xbf16>
func.func @epilogue_results(%x: tensor<16x32xbf16>, %w: tensor<32x8xbf16>) {
  // expected-error @below {{'mpt.fused_matmul' op has results ('tensor<16x8xbf16>'), expected ('tensor<16x8xf32>', 'tensor<16x8xbf16>') from its epilogue 'epilogue'}}
  %0 = mpt.fused_matmul %x, %w {epilogue = @epilogue, position = 0 : i64, keep, operandSegmentSizes = array<i32: 1, 1, 0, 0, 0>}
      : (tensor<16x32xbf16>, tensor<32x8xbf16>) -> tensor<16x8xbf16>
  return
}

// -----

func.func @fused_sizes(%x: tensor<16x32xbf16>, %w: tensor<16x8xbf16>) {
  // expected-error @below {{'mpt.fused_matmul' op lhs contracts over 32 elements, rhs over 16}}
  %0 = mpt.fused_matmul %x, %w {epilogue = @nothing, position = 0 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 0, 0>}
      : (tensor<16x32xbf16>, tensor<16x8xbf16>) -> tensor<16x8xf32>
  return
}

// -----

func.func @implementation(%x: tensor<16x32xf32>, %w: tensor<32x8xf32>) {
  // expected-error @below {{'mpt.matmul' op 'mpt.implementation' must be "own" or "cublaslt", found "cutlass"}}
  %0 = mpt.matmul %x, %w {mpt.implementation = "cutlass"} : (tensor<16x32xf32>, tensor<32x8xf32>) -> tensor<16x8xf32>
  return
}
