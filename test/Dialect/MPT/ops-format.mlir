// Formats, casts, storage and the dialect's attributes print and parse as they are.
// RUN: mpt-opt %s | FileCheck %s

// Scale and recipe have defaults where a format takes them; they are printed.
// CHECK-LABEL: func.func @formats
// CHECK-SAME: tensor<2xf32, #mpt.format<f32>>
// CHECK-SAME: tensor<2xf32, #mpt.format<bf16, rounding = stochastic>>
// CHECK-SAME: tensor<2xf32, #mpt.format<f8E4M3FN, scale = per_tensor, recipe = current>>
// CHECK-SAME: tensor<2xf32, #mpt.format<f8E5M2, scale = per_row, recipe = delayed, rounding = stochastic>>
// CHECK-SAME: tensor<2xf32, #mpt.format<i8, scale = block128, recipe = fixed>>
// CHECK-SAME: tensor<2xf32, #mpt.format<i8, scale = per_column, recipe = current>>
// What is the default is not printed.
// CHECK-SAME: tensor<2xf32, #mpt.format<f8E4M3FN, scale = per_tensor, recipe = fixed>>
// CHECK-SAME: tensor<2xf32, #mpt.format<f8E4M3FN, scale = per_tensor, recipe = fixed, value = 1.600000e+01>>
// CHECK-SAME: tensor<2xf32, #mpt.format<f8E5M2, scale = per_tensor, recipe = delayed>>
// CHECK-SAME: tensor<2xf32, #mpt.format<f8E5M2, scale = per_tensor, recipe = delayed, history = 16, margin = -1, rounding = stochastic>>
func.func @formats(%a: tensor<2xf32, #mpt.format<f32>>,
                   %b: tensor<2xf32, #mpt.format<bf16, rounding = stochastic>>,
                   %c: tensor<2xf32, #mpt.format<f8E4M3FN>>,
                   %d: tensor<2xf32, #mpt.format<f8E5M2, rounding = stochastic, recipe = delayed, scale = per_row>>,
                   %e: tensor<2xf32, #mpt.format<i8, scale = block128, recipe = fixed>>,
                   %f: tensor<2xf32, #mpt.format<i8, scale = per_column>>,
                   %g: tensor<2xf32, #mpt.format<f8E4M3FN, recipe = fixed, value = 1.0>>,
                   %h: tensor<2xf32, #mpt.format<f8E4M3FN, recipe = fixed, value = 16.0>>,
                   %i: tensor<2xf32, #mpt.format<f8E5M2, recipe = delayed, history = 1024, margin = 0>>,
                   %j: tensor<2xf32, #mpt.format<f8E5M2, margin = -1, recipe = delayed, history = 16, rounding = stochastic>>) {
  return
}

// CHECK-LABEL: func.func @cast
// CHECK-NEXT: mpt.cast %{{.*}} {mpt.name = "q"} : (tensor<2xf32>) -> tensor<2xf32, #mpt.format<f8E4M3FN, scale = per_tensor, recipe = current>>
// CHECK-NEXT: mpt.add %{{.*}} : (tensor<2xf32, #mpt.format<{{.*}}>>, tensor<2xf32>) -> tensor<2xf32>
func.func @cast(%x: tensor<2xf32>) {
  %0 = mpt.cast %x {mpt.name = "q"} : (tensor<2xf32>) -> tensor<2xf32, #mpt.format<f8E4M3FN>>
  %1 = mpt.add %0, %x : (tensor<2xf32, #mpt.format<f8E4M3FN>>, tensor<2xf32>) -> tensor<2xf32>
  return
}

// CHECK-LABEL: func.func @storage
// CHECK-NEXT: mpt.scale %{{.*}} {storage = f8E5M2} : (tensor<f32>) -> (tensor<f32>, tensor<f32>)
// CHECK-NEXT: mpt.quantize %{{.*}} : (tensor<2xf32>, tensor<f32>) -> tensor<2xf8E5M2>
// CHECK-NEXT: mpt.dequantize %{{.*}} : (tensor<2xf8E5M2>, tensor<f32>) -> tensor<2xf32>
// CHECK-NEXT: mpt.quantize %{{.*}} : (tensor<2xf32>) -> tensor<2xbf16>
func.func @storage(%x: tensor<2xf32>, %amax: tensor<f32>) {
  %scale, %inverse = mpt.scale %amax {storage = f8E5M2} : (tensor<f32>) -> (tensor<f32>, tensor<f32>)
  %0 = mpt.quantize %x, %scale : (tensor<2xf32>, tensor<f32>) -> tensor<2xf8E5M2>
  %1 = mpt.dequantize %0, %inverse : (tensor<2xf8E5M2>, tensor<f32>) -> tensor<2xf32>
  %2 = mpt.quantize %x : (tensor<2xf32>) -> tensor<2xbf16>
  return
}

// One scale per row or column; random bits; counts of what was lost.
// CHECK-LABEL: func.func @vectors
// CHECK-NEXT: mpt.scale %{{.*}}, %{{.*}} {margin = 1 : i64, storage = i8} : (tensor<4x1xf32>, tensor<4x1xf32>) -> (tensor<4x1xf32>, tensor<4x1xf32>)
// CHECK-NEXT: mpt.quantize %{{.*}} : (tensor<4x3xf32>, tensor<4x1xf32>) -> tensor<4x3xi8>
// CHECK-NEXT: mpt.quantize_stochastic %{{.*}} : (tensor<4x3xf32>, tensor<i64>, tensor<i64>, tensor<i64>, tensor<4x1xf32>) -> tensor<4x3xi8>
// CHECK-NEXT: mpt.quantize_stochastic %{{.*}} : (tensor<4x3xf32>, tensor<i64>, tensor<i64>, tensor<i64>) -> tensor<4x3xbf16>
// CHECK-NEXT: mpt.sentinels %{{.*}} : (tensor<4x3xf32>, tensor<4x3xi8>, tensor<4x1xf32>) -> (tensor<4x3xf32>, tensor<4x3xf32>, tensor<4x3xf32>)
// CHECK-NEXT: mpt.dequantize %{{.*}} : (tensor<4x3xi8>, tensor<4x1xf32>) -> tensor<4x3xf32>
func.func @vectors(%x: tensor<4x3xf32>, %amax: tensor<4x1xf32>, %n: tensor<i64>) {
  %s, %i = mpt.scale %amax, %amax {storage = i8, margin = 1 : i64} : (tensor<4x1xf32>, tensor<4x1xf32>) -> (tensor<4x1xf32>, tensor<4x1xf32>)
  %0 = mpt.quantize %x, %s : (tensor<4x3xf32>, tensor<4x1xf32>) -> tensor<4x3xi8>
  %1 = mpt.quantize_stochastic %x, %n, %n, %n, %s : (tensor<4x3xf32>, tensor<i64>, tensor<i64>, tensor<i64>, tensor<4x1xf32>) -> tensor<4x3xi8>
  %2 = mpt.quantize_stochastic %x, %n, %n, %n : (tensor<4x3xf32>, tensor<i64>, tensor<i64>, tensor<i64>) -> tensor<4x3xbf16>
  %3:3 = mpt.sentinels %x, %0, %s : (tensor<4x3xf32>, tensor<4x3xi8>, tensor<4x1xf32>) -> (tensor<4x3xf32>, tensor<4x3xf32>, tensor<4x3xf32>)
  %4 = mpt.dequantize %0, %i : (tensor<4x3xi8>, tensor<4x1xf32>) -> tensor<4x3xf32>
  return
}

// CHECK-LABEL: func.func @signature
// CHECK-SAME: %{{.*}}: tensor<2xf32> {mpt.kind = #mpt.kind<parameter>, mpt.name = "w"}
// CHECK-SAME: %{{.*}}: tensor<2xi64> {mpt.ignore_index = -100 : i64, mpt.kind = #mpt.kind<label>, mpt.name = "labels", mpt.range = array<i64: 0, 9>}
// CHECK-SAME: -> (tensor<2xf32> {mpt.alias = 0 : i64, mpt.name = "w"})
func.func @signature(%w: tensor<2xf32> {mpt.name = "w", mpt.kind = #mpt.kind<parameter>},
                     %l: tensor<2xi64> {mpt.name = "labels", mpt.kind = #mpt.kind<label>,
                                        mpt.range = array<i64: 0, 9>, mpt.ignore_index = -100 : i64})
    -> (tensor<2xf32> {mpt.name = "w", mpt.alias = 0 : i64}) {
  return %w : tensor<2xf32>
}

// CHECK-LABEL: func.func @metrics
// CHECK: metrics = #mpt.metrics<m = 2, n = 4, k = 3, [#mpt.candidate<#mpt.format<bf16>, #mpt.format<f8E4M3FN, scale = per_tensor, recipe = current>, {be_median = 2.500000e-01 : f64}>]>
func.func @metrics(%x: tensor<2x3xf32>, %w: tensor<3x4xf32>) {
  %0 = mpt.matmul %x, %w {metrics = #mpt.metrics<m = 2, n = 4, k = 3, [
      #mpt.candidate<#mpt.format<bf16>, #mpt.format<f8E4M3FN>, {be_median = 0.25 : f64}>]>}
      : (tensor<2x3xf32>, tensor<3x4xf32>) -> tensor<2x4xf32>
  return
}
