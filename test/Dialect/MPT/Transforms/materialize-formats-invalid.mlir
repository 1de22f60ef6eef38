// Formats that no step can hold, and formats that leave the step.
// RUN: mpt-opt %s --split-input-file --verify-diagnostics --mpt-materialize-formats

// expected-error@+1 {{mpt-materialize-formats expects a function @step}}
module {}

// -----

func.func @step(%x: tensor<4x4xf32>) {
  // expected-error@+1 {{named 'x/cast.i8': scale block128 has no product on any target, expected per_tensor, per_row or per_column}}
  %0 = mpt.cast %x {mpt.name = "x/cast.i8"} : (tensor<4x4xf32>) -> tensor<4x4xf32, #mpt.format<i8, scale = block128>>
  return
}

// -----

func.func @step(%x: tensor<4x4xf32>) {
  // expected-error@+1 {{named 'a': recipe delayed keeps one scale per tensor, found scale = per_row}}
  %0 = mpt.cast %x {mpt.name = "a"} : (tensor<4x4xf32>) -> tensor<4x4xf32, #mpt.format<f8E5M2, scale = per_row, recipe = delayed>>
  return
}

// -----

func.func @step(%x: tensor<4xf32>) {
  // expected-error@+1 {{named 'a': scale per_row needs a matrix}}
  %0 = mpt.cast %x {mpt.name = "a"} : (tensor<4xf32>) -> tensor<4xf32, #mpt.format<i8, scale = per_row>>
  return
}

// -----

func.func @step(%x: tensor<4x4xf32>) {
  // expected-error@+1 {{named 'a': f32 has nothing to round}}
  %0 = mpt.cast %x {mpt.name = "a"} : (tensor<4x4xf32>) -> tensor<4x4xf32, #mpt.format<f32, rounding = stochastic>>
  return
}

// -----

// A scale per row of what is contracted over rows cannot be taken out of the sum.
func.func @step(%x: tensor<4x4xf32>, %w: tensor<4x4xf32>) -> tensor<4x4xf32> {
  // expected-error@+1 {{named 'a': scale per_row varies along the contraction of 'layer', whose rhs it is; expected scale = per_column}}
  %0 = mpt.cast %w {mpt.name = "a"} : (tensor<4x4xf32>) -> tensor<4x4xf32, #mpt.format<i8, scale = per_row>>
  %1 = mpt.matmul %x, %0 {mpt.name = "layer"} : (tensor<4x4xf32>, tensor<4x4xf32, #mpt.format<i8, scale = per_row>>) -> tensor<4x4xf32>
  return %1 : tensor<4x4xf32>
}

// -----

#one = #mpt.format<f8E5M2, recipe = delayed, history = 16>
#other = #mpt.format<f8E5M2, recipe = delayed, history = 32>
func.func @step(%x: tensor<4x4xf32> {mpt.name = "x"}) {
  %0 = mpt.cast %x {mpt.name = "a"} : (tensor<4x4xf32>) -> tensor<4x4xf32, #one>
  // expected-error@+1 {{named 'b': one value and storage have one delayed scale, found #mpt.format<f8E5M2, scale = per_tensor, recipe = delayed, history = 16> and #mpt.format<f8E5M2, scale = per_tensor, recipe = delayed, history = 32>}}
  %1 = mpt.cast %x {mpt.name = "b"} : (tensor<4x4xf32>) -> tensor<4x4xf32, #other>
  return
}

// -----

// What is kept between steps, and what random bits are drawn for, goes by name.
func.func @step(%x: tensor<4x4xf32>) {
  // expected-error@+1 {{named 'a': what it casts needs 'mpt.name', found none: ''}}
  %0 = mpt.cast %x {mpt.name = "a"} : (tensor<4x4xf32>) -> tensor<4x4xf32, #mpt.format<f8E5M2, recipe = delayed>>
  return
}

// -----

func.func @step(%x: tensor<4x4xf32> {mpt.name = "x"}, %y: tensor<4x4xf32> {mpt.name = "x"}) {
  %0 = mpt.cast %x {mpt.name = "a"} : (tensor<4x4xf32>) -> tensor<4x4xf32, #mpt.format<f8E5M2, recipe = delayed>>
  // expected-error@+1 {{named 'b': what it casts needs a name of its own, found another value named 'x'}}
  %1 = mpt.cast %y {mpt.name = "b"} : (tensor<4x4xf32>) -> tensor<4x4xf32, #mpt.format<bf16, rounding = stochastic>>
  return
}

// -----

// A dropout of the id that the cast would have: FNV-1a of "x/cast.bf16".
func.func @step(%x: tensor<4x4xf32> {mpt.name = "x"}, %n: tensor<i64>) {
  %id = mpt.constant dense<64454540> : tensor<i64>
  %0 = mpt.dropout %x, %n, %n, %id {keep_probability = 0.5 : f32, mpt.name = "drop"} : (tensor<4x4xf32>, tensor<i64>, tensor<i64>, tensor<i64>) -> tensor<4x4xf32>
  // expected-error@+1 {{named 'b': 'x/cast.bf16' and 'drop' have one hash (64454540) and would draw the same random bits; rename one}}
  %1 = mpt.cast %x {mpt.name = "b"} : (tensor<4x4xf32>) -> tensor<4x4xf32, #mpt.format<bf16, rounding = stochastic>>
  return
}

// -----

// expected-error@+1 {{mpt-materialize-formats: argument 0 is held in a format: 'tensor<4xf32, #mpt.format<bf16>>'}}
func.func @step(%x: tensor<4xf32, #mpt.format<bf16>>) {
  return
}

// -----

// expected-error@+1 {{mpt-materialize-formats: result 0 is held in a format: 'tensor<4xf32, #mpt.format<bf16>>'}}
func.func @step(%x: tensor<4xf32>) -> tensor<4xf32, #mpt.format<bf16>> {
  %0 = mpt.cast %x : (tensor<4xf32>) -> tensor<4xf32, #mpt.format<bf16>>
  return %0 : tensor<4xf32, #mpt.format<bf16>>
}

// -----

// expected-error@+1 {{mpt-materialize-formats expects the result 'skipped' to be 'tensor<i1>', found 'tensor<f32>'}}
func.func @step(%x: tensor<f32>) -> (tensor<f32> {mpt.name = "skipped"}) {
  return %x : tensor<f32>
}

// -----

// expected-error@+1 {{mpt-materialize-formats adds the argument 'x/scale.f8E5M2', which is there already}}
func.func @step(%x: tensor<4xf32> {mpt.name = "x"}, %s: tensor<f32> {mpt.name = "x/scale.f8E5M2"}) {
  %0 = mpt.cast %x : (tensor<4xf32>) -> tensor<4xf32, #mpt.format<f8E5M2, recipe = delayed>>
  return
}
