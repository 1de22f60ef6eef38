// What the verifiers of attention and its gradient refuse.
// RUN: mpt-opt %s --verify-diagnostics --split-input-file

func.func @rank(%x: tensor<2x16x64xbf16>) {
  // expected-error @below {{'mpt.attention' op takes a query [batch, sequence, heads, head size], found 'tensor<2x16x64xbf16>'}}
  %o, %m, %l = mpt.attention %x, %x, %x {operandSegmentSizes = array<i32: 1, 1, 1, 0, 0, 0>, scale = 1.0 : f32}
      : (tensor<2x16x64xbf16>, tensor<2x16x64xbf16>, tensor<2x16x64xbf16>) -> (tensor<2x16x64xbf16>, tensor<2x16xf32>, tensor<2x16xf32>)
  return
}

// -----

func.func @head(%x: tensor<2x16x1x136xbf16>) {
  // expected-error @below {{'mpt.attention' op has heads of 136 elements, expected 32 to 128 in steps of 16}}
  %o, %m, %l = mpt.attention %x, %x, %x {operandSegmentSizes = array<i32: 1, 1, 1, 0, 0, 0>, scale = 1.0 : f32}
      : (tensor<2x16x1x136xbf16>, tensor<2x16x1x136xbf16>, tensor<2x16x1x136xbf16>) -> (tensor<2x16x1x136xbf16>, tensor<2x1x16xf32>, tensor<2x1x16xf32>)
  return
}

// -----

func.func @sequence(%x: tensor<2x17x1x64xbf16>) {
  // expected-error @below {{'mpt.attention' op has sequences of 17, expected a multiple of 16}}
  %o, %m, %l = mpt.attention %x, %x, %x {operandSegmentSizes = array<i32: 1, 1, 1, 0, 0, 0>, scale = 1.0 : f32}
      : (tensor<2x17x1x64xbf16>, tensor<2x17x1x64xbf16>, tensor<2x17x1x64xbf16>) -> (tensor<2x17x1x64xbf16>, tensor<2x1x17xf32>, tensor<2x1x17xf32>)
  return
}

// -----

func.func @operands(%x: tensor<2x16x1x64xbf16>, %y: tensor<2x16x1x64xf32>) {
  // expected-error @below {{'mpt.attention' op takes operands of type 'tensor<2x16x1x64xbf16>', found 'tensor<2x16x1x64xf32>'}}
  %o, %m, %l = mpt.attention %x, %y, %x {operandSegmentSizes = array<i32: 1, 1, 1, 0, 0, 0>, scale = 1.0 : f32}
      : (tensor<2x16x1x64xbf16>, tensor<2x16x1x64xf32>, tensor<2x16x1x64xbf16>) -> (tensor<2x16x1x64xbf16>, tensor<2x1x16xf32>, tensor<2x1x16xf32>)
  return
}

// -----

func.func @bias(%x: tensor<2x16x1x64xbf16>, %bias: tensor<2x1x16x16xf32>) {
  // expected-error @below {{'mpt.attention' op takes a bias [2 or 1, 1, 1, 16], found 'tensor<2x1x16x16xf32>'}}
  %o, %m, %l = mpt.attention %x, %x, %x, %bias {operandSegmentSizes = array<i32: 1, 1, 1, 1, 0, 0>, scale = 1.0 : f32}
      : (tensor<2x16x1x64xbf16>, tensor<2x16x1x64xbf16>, tensor<2x16x1x64xbf16>, tensor<2x1x16x16xf32>) -> (tensor<2x16x1x64xbf16>, tensor<2x1x16xf32>, tensor<2x1x16xf32>)
  return
}

// -----

func.func @dropout(%x: tensor<2x16x1x64xbf16>) {
  // expected-error @below {{'mpt.attention' op takes seed, step, keep_probability and dropout_id, or none of them}}
  %o, %m, %l = mpt.attention %x, %x, %x {operandSegmentSizes = array<i32: 1, 1, 1, 0, 0, 0>, scale = 1.0 : f32, keep_probability = 0.5 : f32}
      : (tensor<2x16x1x64xbf16>, tensor<2x16x1x64xbf16>, tensor<2x16x1x64xbf16>) -> (tensor<2x16x1x64xbf16>, tensor<2x1x16xf32>, tensor<2x1x16xf32>)
  return
}

// -----

func.func @keep(%x: tensor<2x16x1x64xbf16>, %seed: tensor<i64>) {
  // expected-error @below {{'mpt.attention' op keep_probability must be in (0, 1], found 0}}
  %o, %m, %l = mpt.attention %x, %x, %x, %seed, %seed
      {operandSegmentSizes = array<i32: 1, 1, 1, 0, 1, 1>, scale = 1.0 : f32, keep_probability = 0.0 : f32, dropout_id = 3 : i64}
      : (tensor<2x16x1x64xbf16>, tensor<2x16x1x64xbf16>, tensor<2x16x1x64xbf16>, tensor<i64>, tensor<i64>) -> (tensor<2x16x1x64xbf16>, tensor<2x1x16xf32>, tensor<2x1x16xf32>)
  return
}

// -----

func.func @output(%x: tensor<2x16x1x64xbf16>) {
  // expected-error @below {{'mpt.attention' op takes an output of type 'tensor<2x16x1x64xbf16>' (or f32), found 'tensor<2x16x1x64xi8>'}}
  %o, %m, %l = mpt.attention %x, %x, %x {operandSegmentSizes = array<i32: 1, 1, 1, 0, 0, 0>, scale = 1.0 : f32}
      : (tensor<2x16x1x64xbf16>, tensor<2x16x1x64xbf16>, tensor<2x16x1x64xbf16>) -> (tensor<2x16x1x64xi8>, tensor<2x1x16xf32>, tensor<2x1x16xf32>)
  return
}

// -----

func.func @rows(%x: tensor<2x16x1x64xbf16>) {
  // expected-error @below {{'mpt.attention' op has a number per row of the scores as [2, 1, 16], found 'tensor<2x16x1xf32>'}}
  %o, %m, %l = mpt.attention %x, %x, %x {operandSegmentSizes = array<i32: 1, 1, 1, 0, 0, 0>, scale = 1.0 : f32}
      : (tensor<2x16x1x64xbf16>, tensor<2x16x1x64xbf16>, tensor<2x16x1x64xbf16>) -> (tensor<2x16x1x64xbf16>, tensor<2x1x16xf32>, tensor<2x16x1xf32>)
  return
}

// -----

func.func @gradient(%x: tensor<2x16x1x64xbf16>, %dy: tensor<2x16x1x64xf32>, %r: tensor<2x1x16xf32>) {
  // expected-error @below {{'mpt.attention_grad' op takes a gradient of the output of type 'tensor<2x16x1x64xbf16>', found 'tensor<2x16x1x64xf32>'}}
  %q, %k, %v, %p = mpt.attention_grad %x, %x, %x, %x, %dy, %r, %r {operandSegmentSizes = array<i32: 1, 1, 1, 1, 1, 1, 1, 0, 0, 0>, scale = 1.0 : f32}
      : (tensor<2x16x1x64xbf16>, tensor<2x16x1x64xbf16>, tensor<2x16x1x64xbf16>, tensor<2x16x1x64xbf16>, tensor<2x16x1x64xf32>, tensor<2x1x16xf32>, tensor<2x1x16xf32>)
      -> (tensor<2x16x1x64xbf16>, tensor<2x16x1x64xbf16>, tensor<2x16x1x64xbf16>, tensor<2x1x16xf32>)
  return
}

// -----

func.func @gradients(%x: tensor<2x16x1x64xbf16>, %r: tensor<2x1x16xf32>) {
  // expected-error @below {{'mpt.attention_grad' op takes gradients of type 'tensor<2x16x1x64xbf16>' (or f32), found 'tensor<2x1x16x64xbf16>'}}
  %q, %k, %v, %p = mpt.attention_grad %x, %x, %x, %x, %x, %r, %r {operandSegmentSizes = array<i32: 1, 1, 1, 1, 1, 1, 1, 0, 0, 0>, scale = 1.0 : f32}
      : (tensor<2x16x1x64xbf16>, tensor<2x16x1x64xbf16>, tensor<2x16x1x64xbf16>, tensor<2x16x1x64xbf16>, tensor<2x16x1x64xbf16>, tensor<2x1x16xf32>, tensor<2x1x16xf32>)
      -> (tensor<2x16x1x64xbf16>, tensor<2x1x16x64xbf16>, tensor<2x16x1x64xbf16>, tensor<2x1x16xf32>)
  return
}
