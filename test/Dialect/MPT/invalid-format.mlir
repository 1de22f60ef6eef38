// What casts, scales and storage ops refuse.
// RUN: mpt-opt %s --verify-diagnostics --split-input-file

func.func @cast_to_nothing(%x: tensor<3xf32>) {
  // expected-error @below {{'mpt.cast' op needs a result with a #mpt.format encoding, found 'tensor<3xf32>'}}
  %0 = mpt.cast %x : (tensor<3xf32>) -> tensor<3xf32>
  return
}

// -----

func.func @cast_twice(%x: tensor<3xf32, #mpt.format<bf16>>) {
  // expected-error @below {{'mpt.cast' op of a value that is held in a format already: 'tensor<3xf32, #mpt.format<bf16>>'}}
  %0 = mpt.cast %x : (tensor<3xf32, #mpt.format<bf16>>) -> tensor<3xf32, #mpt.format<f8E5M2>>
  return
}

// -----

func.func @cast_shape(%x: tensor<3xf32>) {
  // expected-error @below {{'mpt.cast' op requires the same shape for all operands and results}}
  %0 = mpt.cast %x : (tensor<3xf32>) -> tensor<4xf32, #mpt.format<bf16>>
  return
}

// -----

func.func @scale_of_bf16(%x: tensor<f32>) {
  // expected-error @below {{'mpt.scale' op storage must be f8E4M3FN, f8E5M2 or i8, found 'bf16'}}
  %0:2 = mpt.scale %x {storage = bf16} : (tensor<f32>) -> (tensor<f32>, tensor<f32>)
  return
}

// -----

func.func @scale_of_i64(%x: tensor<f32>) {
  // expected-error @below {{'mpt.scale' op storage must be f8E4M3FN, f8E5M2 or i8, found 'i64'}}
  %0:2 = mpt.scale %x {storage = i64} : (tensor<f32>) -> (tensor<f32>, tensor<f32>)
  return
}

// -----

func.func @quantize_without_scale(%x: tensor<3xf32>) {
  // expected-error @below {{'mpt.quantize' op storage 'f8E4M3FN' needs a scale}}
  %0 = mpt.quantize %x : (tensor<3xf32>) -> tensor<3xf8E4M3FN>
  return
}

// -----

func.func @quantize_bf16_with_scale(%x: tensor<3xf32>, %s: tensor<f32>) {
  // expected-error @below {{'mpt.quantize' op storage 'bf16' takes no scale}}
  %0 = mpt.quantize %x, %s : (tensor<3xf32>, tensor<f32>) -> tensor<3xbf16>
  return
}

// -----

func.func @quantize_to_format(%x: tensor<3xf32>) {
  // expected-error @below {{'mpt.quantize' op result #0 must be statically shaped, non-empty f32, bf16, f8E4M3FN, f8E5M2 or i8 tensor that is held in no format, but got 'tensor<3xf32, #mpt.format<bf16>>'}}
  %0 = mpt.quantize %x : (tensor<3xf32>) -> tensor<3xf32, #mpt.format<bf16>>
  return
}

// -----

func.func @quantize_shape(%x: tensor<3xf32>) {
  // expected-error @below {{'mpt.quantize' op keeps the shape, found 'tensor<3xf32>' and 'tensor<3x1xbf16>'}}
  %0 = mpt.quantize %x : (tensor<3xf32>) -> tensor<3x1xbf16>
  return
}

// -----

func.func @quantize_scale_shape(%x: tensor<3xf32>, %s: tensor<2xf32>) {
  // expected-error @below {{'mpt.quantize' op takes a scale that broadcasts to 'tensor<3xf32>', found 'tensor<2xf32>'}}
  %0 = mpt.quantize %x, %s : (tensor<3xf32>, tensor<2xf32>) -> tensor<3xi8>
  return
}

// -----

func.func @quantize_scale_rank(%x: tensor<3xf32>, %s: tensor<2x1xf32>) {
  // expected-error @below {{'mpt.quantize' op takes a scale that broadcasts to 'tensor<3xf32>', found 'tensor<2x1xf32>'}}
  %0 = mpt.quantize %x, %s : (tensor<3xf32>, tensor<2x1xf32>) -> tensor<3xi8>
  return
}

// -----

func.func @stochastic_without_scale(%x: tensor<3xf32>, %i: tensor<i64>) {
  // expected-error @below {{'mpt.quantize_stochastic' op storage 'f8E5M2' needs a scale}}
  %0 = mpt.quantize_stochastic %x, %i, %i, %i : (tensor<3xf32>, tensor<i64>, tensor<i64>, tensor<i64>) -> tensor<3xf8E5M2>
  return
}

// -----

func.func @stochastic_f32(%x: tensor<3xf32>, %i: tensor<i64>) {
  // expected-error @below {{'mpt.quantize_stochastic' op has nothing to round to f32}}
  %0 = mpt.quantize_stochastic %x, %i, %i, %i : (tensor<3xf32>, tensor<i64>, tensor<i64>, tensor<i64>) -> tensor<3xf32>
  return
}

// -----

func.func @stochastic_shape(%x: tensor<3xf32>, %i: tensor<i64>) {
  // expected-error @below {{'mpt.quantize_stochastic' op keeps the shape, found 'tensor<3xf32>' and 'tensor<4xbf16>'}}
  %0 = mpt.quantize_stochastic %x, %i, %i, %i : (tensor<3xf32>, tensor<i64>, tensor<i64>, tensor<i64>) -> tensor<4xbf16>
  return
}

// -----

func.func @sentinels_shape(%x: tensor<3xf32>, %c: tensor<4xbf16>) {
  // expected-error @below {{'mpt.sentinels' op keeps the shape, found 'tensor<3xf32>' and 'tensor<4xbf16>'}}
  %0:3 = mpt.sentinels %x, %c : (tensor<3xf32>, tensor<4xbf16>) -> (tensor<3xf32>, tensor<3xf32>, tensor<3xf32>)
  return
}

// -----

func.func @sentinels_scale(%x: tensor<3xf32>, %c: tensor<3xi8>) {
  // expected-error @below {{'mpt.sentinels' op storage 'i8' needs a scale}}
  %0:3 = mpt.sentinels %x, %c : (tensor<3xf32>, tensor<3xi8>) -> (tensor<3xf32>, tensor<3xf32>, tensor<3xf32>)
  return
}

// -----

func.func @scale_margin(%x: tensor<f32>) {
  // expected-error @below {{'mpt.scale' op margin must be -60 to 60, found 61}}
  %0:2 = mpt.scale %x {storage = i8, margin = 61} : (tensor<f32>) -> (tensor<f32>, tensor<f32>)
  return
}

// -----

func.func @scale_previous(%x: tensor<4x1xf32>, %p: tensor<f32>) {
  // expected-error @below {{'mpt.scale' op takes a previous scale per amax, found 'tensor<f32>' and 'tensor<4x1xf32>'}}
  %0:2 = mpt.scale %x, %p {storage = i8} : (tensor<4x1xf32>, tensor<f32>) -> (tensor<4x1xf32>, tensor<4x1xf32>)
  return
}

// -----

func.func @dequantize_without_scale(%x: tensor<3xi8>) {
  // expected-error @below {{'mpt.dequantize' op storage 'i8' needs a scale}}
  %0 = mpt.dequantize %x : (tensor<3xi8>) -> tensor<3xf32>
  return
}

// -----

func.func @dequantize_bf16_with_scale(%x: tensor<3xbf16>, %s: tensor<f32>) {
  // expected-error @below {{'mpt.dequantize' op storage 'bf16' takes no scale}}
  %0 = mpt.dequantize %x, %s : (tensor<3xbf16>, tensor<f32>) -> tensor<3xf32>
  return
}

// -----

func.func @dequantize_shape(%x: tensor<3xbf16>) {
  // expected-error @below {{'mpt.dequantize' op keeps the shape, found 'tensor<3xbf16>' and 'tensor<4xf32>'}}
  %0 = mpt.dequantize %x : (tensor<3xbf16>) -> tensor<4xf32>
  return
}
