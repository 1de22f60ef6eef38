// What the verifiers of elementwise ops refuse.
// RUN: mpt-opt %s --verify-diagnostics --split-input-file

func.func @operand_count(%x: tensor<3xf32>) {
  // expected-error @below {{'mpt.add' op expected 2 operands, but found 1}}
  %0 = mpt.add %x : (tensor<3xf32>) -> tensor<3xf32>
  return
}

// -----

func.func @no_broadcast(%x: tensor<3xf32>, %y: tensor<2xf32>) {
  // expected-error @+2 {{'mpt.add' operand of type 'tensor<2xf32>' does not broadcast with the others}}
  // expected-error @below {{'mpt.add' op failed to infer returned types}}
  %0 = mpt.add %x, %y : (tensor<3xf32>, tensor<2xf32>) -> tensor<3xf32>
  return
}

// -----

func.func @result_shape(%x: tensor<3xf32>, %y: tensor<1xf32>) {
  // expected-error @+2 {{'mpt.mul' op inferred type(s) 'tensor<3xf32>' are incompatible with return type(s) of operation 'tensor<1xf32>'}}
  // expected-error @below {{'mpt.mul' op failed to infer returned types}}
  %0 = mpt.mul %x, %y : (tensor<3xf32>, tensor<1xf32>) -> tensor<1xf32>
  return
}

// -----

func.func @result_is_no_tensor(%x: tensor<3xf32>) {
  // expected-error @below {{'mpt.exp' op result #0 must be statically shaped, non-empty f32 tensor that is held in no format, but got 'f32'}}
  %0 = mpt.exp %x : (tensor<3xf32>) -> f32
  return
}

// -----

func.func @dynamic(%x: tensor<?xf32>) {
  // expected-error @below {{'mpt.exp' op operand #0 must be statically shaped, non-empty f32 tensor, but got 'tensor<?xf32>'}}
  %0 = mpt.exp %x : (tensor<?xf32>) -> tensor<?xf32>
  return
}

// -----

func.func @empty(%x: tensor<3x0xf32>) {
  // expected-error @below {{'mpt.exp' op operand #0 must be statically shaped, non-empty f32 tensor, but got 'tensor<3x0xf32>'}}
  %0 = mpt.exp %x : (tensor<3x0xf32>) -> tensor<3x0xf32>
  return
}

// -----

func.func @unranked(%x: tensor<*xf32>) {
  // expected-error @below {{'mpt.exp' op operand #0 must be statically shaped, non-empty f32 tensor, but got 'tensor<*xf32>'}}
  %0 = mpt.exp %x : (tensor<*xf32>) -> tensor<*xf32>
  return
}

// -----

func.func @element_type(%x: tensor<3xbf16>) {
  // expected-error @below {{'mpt.exp' op operand #0 must be statically shaped, non-empty f32 tensor, but got 'tensor<3xbf16>'}}
  %0 = mpt.exp %x : (tensor<3xbf16>) -> tensor<3xf32>
  return
}

// -----

// Only a cast rounds: the result of any other op is in no format.
func.func @result_in_format(%x: tensor<3xf32>) {
  // expected-error @below {{'mpt.neg' op result #0 must be statically shaped, non-empty f32 tensor that is held in no format, but got 'tensor<3xf32, #mpt.format<bf16>>'}}
  %0 = mpt.neg %x : (tensor<3xf32>) -> tensor<3xf32, #mpt.format<bf16>>
  return
}

// -----

func.func @compare_types(%x: tensor<3xf32>, %i: tensor<3xi64>) {
  // expected-error @below {{'mpt.compare' op compares f32, i32 or i64 tensors of one element type, found 'f32' and 'i64'}}
  %0 = mpt.compare %x, %i {predicate = #mpt.predicate<eq>} : (tensor<3xf32>, tensor<3xi64>) -> tensor<3xi1>
  return
}

// -----

func.func @compare_bool(%x: tensor<3xi1>) {
  // expected-error @below {{'mpt.compare' op compares f32, i32 or i64 tensors of one element type, found 'i1' and 'i1'}}
  %0 = mpt.compare %x, %x {predicate = #mpt.predicate<eq>} : (tensor<3xi1>, tensor<3xi1>) -> tensor<3xi1>
  return
}

// -----

func.func @compare_predicate(%x: tensor<3xf32>) {
  // expected-error @below {{'mpt.compare' op requires attribute 'predicate'}}
  %0 = mpt.compare %x, %x : (tensor<3xf32>, tensor<3xf32>) -> tensor<3xi1>
  return
}

// -----

func.func @unknown_predicate(%x: tensor<3xf32>) {
  // expected-error @+2 {{expected ::mpt::Predicate to be one of: eq, ne, lt, le, gt, ge}}
  // expected-error @below {{failed to parse MPT_PredicateAttr parameter 'value' which is to be a `::mpt::Predicate`}}
  %0 = mpt.compare %x, %x {predicate = #mpt.predicate<almost>} : (tensor<3xf32>, tensor<3xf32>) -> tensor<3xi1>
  return
}

// -----

func.func @convert_to_storage(%x: tensor<3xf32>) {
  // expected-error @below {{'mpt.convert' op converts between i1, i32, i64 and f32, found 'f8E4M3FN'}}
  %0 = mpt.convert %x : (tensor<3xf32>) -> tensor<3xf8E4M3FN>
  return
}

// -----

func.func @convert_to_format(%x: tensor<3xi64>) {
  // expected-error @below {{'mpt.convert' op does not round to a format, found 'tensor<3xf32, #mpt.format<bf16>>'}}
  %0 = mpt.convert %x : (tensor<3xi64>) -> tensor<3xf32, #mpt.format<bf16>>
  return
}

// -----

func.func @convert_shape(%x: tensor<3xi64>) {
  // expected-error @below {{'mpt.convert' op requires the same shape for all operands and results}}
  %0 = mpt.convert %x : (tensor<3xi64>) -> tensor<4xf32>
  return
}

// -----

func.func @iota_scalar() {
  // expected-error @below {{'mpt.iota' op needs a last axis, found 'tensor<i64>'}}
  %0 = mpt.iota : () -> tensor<i64>
  return
}

// -----

func.func @dropout_keeps_nothing(%x: tensor<3xf32>, %s: tensor<i64>) {
  // expected-error @below {{'mpt.dropout' op keep_probability must be in (0, 1], found 0.000000e+00}}
  %0 = mpt.dropout %x, %s, %s, %s {keep_probability = 0.0 : f32}
      : (tensor<3xf32>, tensor<i64>, tensor<i64>, tensor<i64>) -> tensor<3xf32>
  return
}

// -----

func.func @dropout_nan(%x: tensor<3xf32>, %s: tensor<i64>) {
  // expected-error @below {{'mpt.dropout' op keep_probability must be in (0, 1], found nan}}
  %0 = mpt.dropout %x, %s, %s, %s {keep_probability = 0x7FC00000 : f32}
      : (tensor<3xf32>, tensor<i64>, tensor<i64>, tensor<i64>) -> tensor<3xf32>
  return
}

// -----

func.func @dropout_seed(%x: tensor<3xf32>, %s: tensor<1xi64>) {
  // expected-error @below {{'mpt.dropout' op operand #1 must be 0D tensor of 64-bit signless integer values, but got 'tensor<1xi64>'}}
  %0 = mpt.dropout %x, %s, %s, %s {keep_probability = 0.5 : f32}
      : (tensor<3xf32>, tensor<1xi64>, tensor<1xi64>, tensor<1xi64>) -> tensor<3xf32>
  return
}
