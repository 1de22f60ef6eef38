// What the step would compute of its parameters to cast them, the step before leaves as derived
// arguments; @init computes the first ones.
// RUN: mpt-opt %s --split-input-file --mpt-carry-casts | FileCheck %s

// A BF16 weight: the update's result is cast for the next step.
// CHECK-LABEL: func.func @step
// CHECK-SAME: %[[W:[^:]*]]: tensor<8x8xf32>
// CHECK-SAME: %[[C:[^:]*]]: tensor<8x8xbf16> {mpt.kind = #mpt.kind<derived>, mpt.name = "w/cast.bf16"}
// CHECK-SAME: tensor<8x8xf32> {mpt.alias = 1 : i64, mpt.name = "w"}
// CHECK-SAME: tensor<8x8xbf16> {mpt.alias = 2 : i64, mpt.name = "w/cast.bf16"}
// CHECK-NOT: mpt.quantize %[[W]]
// CHECK: mpt.scaled_matmul %{{.*}}, %[[C]]
// CHECK: %[[U:.*]] = mpt.sub %[[W]]
// CHECK: %[[NEXT:.*]] = mpt.quantize %[[U]] {mpt.name = "w/cast.bf16"}
// CHECK: return %{{.*}}, %[[U]], %[[NEXT]]
// CHECK-LABEL: func.func @init
// CHECK-SAME: %[[W:.*]]: tensor<8x8xf32> {mpt.kind = #mpt.kind<parameter>, mpt.name = "w"}
// CHECK-SAME: -> (tensor<8x8xbf16> {mpt.name = "w/cast.bf16"})
// CHECK: %[[FIRST:.*]] = mpt.quantize %[[W]]
// CHECK: return %[[FIRST]]
func.func @step(%x: tensor<4x8xbf16> {mpt.name = "x", mpt.kind = #mpt.kind<input>},
                %w: tensor<8x8xf32> {mpt.name = "w", mpt.kind = #mpt.kind<parameter>})
    -> (tensor<4x8xf32> {mpt.name = "y"}, tensor<8x8xf32> {mpt.name = "w", mpt.alias = 1 : i64}) {
  %c = mpt.quantize %w {mpt.name = "w/cast.bf16"} : (tensor<8x8xf32>) -> tensor<8x8xbf16>
  %y = mpt.scaled_matmul %x, %c {mpt.name = "layer", operandSegmentSizes = array<i32: 1, 1, 0, 0>} : (tensor<4x8xbf16>, tensor<8x8xbf16>) -> tensor<4x8xf32>
  %u = mpt.sub %w, %w {mpt.name = "w/update"} : (tensor<8x8xf32>, tensor<8x8xf32>) -> tensor<8x8xf32>
  return %y, %u : tensor<4x8xf32>, tensor<8x8xf32>
}

// -----

// Current scaling: codes, inverse scale and the amax that the flag looks at are carried, and the
// transposed copy of the codes; what the flag makes of the amax stays.
// CHECK-LABEL: func.func @step
// CHECK-SAME: %[[W:[^:]*]]: tensor<16x16xf32>
// CHECK-SAME: %[[AMAX:[^:]*]]: tensor<1x1xf32> {mpt.kind = #mpt.kind<derived>, mpt.name = "w/amax"}
// CHECK-SAME: %[[INVERSE:[^:]*]]: tensor<f32> {mpt.kind = #mpt.kind<derived>, mpt.name = "w/scale.f8E4M3FN/inverse"}
// CHECK-SAME: %[[C:[^:]*]]: tensor<16x16xf8E4M3FN> {mpt.kind = #mpt.kind<derived>, mpt.name = "w/cast.f8E4M3FN"}
// CHECK-SAME: %[[T:[^:]*]]: tensor<16x16xf8E4M3FN> {mpt.kind = #mpt.kind<derived>, mpt.name = "w/cast.f8E4M3FN/transposed"}
// CHECK: %[[FINITE:.*]] = mpt.reshape %[[AMAX]]
// CHECK: mpt.scaled_matmul %{{.*}}, %[[C]], %{{.*}}, %[[INVERSE]]
// CHECK: mpt.scaled_matmul %{{.*}}, %[[T]], %{{.*}}, %[[INVERSE]]
// CHECK: mpt.compare %[[FINITE]]
// CHECK: mpt.reduce
// CHECK: mpt.scale
// CHECK: %[[NEXT:.*]] = mpt.quantize
// CHECK: mpt.copy
// CHECK: return
// CHECK-LABEL: func.func @init
// CHECK-SAME: (%{{[^%]*}} {mpt.kind = #mpt.kind<parameter>, mpt.name = "w"}) -> (tensor<1x1xf32> {mpt.name = "w/amax"}, tensor<f32>
func.func @step(%x: tensor<16x16xf8E4M3FN> {mpt.name = "x", mpt.kind = #mpt.kind<input>},
                %s: tensor<f32> {mpt.name = "s", mpt.kind = #mpt.kind<input>},
                %w: tensor<16x16xf32> {mpt.name = "w", mpt.kind = #mpt.kind<parameter>})
    -> (tensor<16x16xf32> {mpt.name = "y"}, tensor<16x16xf32> {mpt.name = "z"}, tensor<i1> {mpt.name = "skipped"},
        tensor<16x16xf32> {mpt.name = "w", mpt.alias = 2 : i64}) {
  %m = mpt.reduce %w {axes = array<i64: 0, 1>, kind = #mpt.reduction<absmax>, mpt.name = "w/amax"} : (tensor<16x16xf32>) -> tensor<1x1xf32>
  %a = mpt.reshape %m {mpt.name = "w/amax"} : (tensor<1x1xf32>) -> tensor<f32>
  %scale, %inverse = mpt.scale %a {mpt.name = "w/scale.f8E4M3FN", storage = f8E4M3FN} : (tensor<f32>) -> (tensor<f32>, tensor<f32>)
  %c = mpt.quantize %w, %scale {mpt.name = "w/cast.f8E4M3FN"} : (tensor<16x16xf32>, tensor<f32>) -> tensor<16x16xf8E4M3FN>
  %y = mpt.scaled_matmul %x, %c, %s, %inverse {mpt.name = "a", operandSegmentSizes = array<i32: 1, 1, 1, 1>, transpose_rhs}
      : (tensor<16x16xf8E4M3FN>, tensor<16x16xf8E4M3FN>, tensor<f32>, tensor<f32>) -> tensor<16x16xf32>
  %v = mpt.transpose %c {permutation = array<i64: 1, 0>, mpt.name = "w/cast.f8E4M3FN/transposed"} : (tensor<16x16xf8E4M3FN>) -> tensor<16x16xf8E4M3FN>
  %t = mpt.copy %v {mpt.name = "w/cast.f8E4M3FN/transposed"} : (tensor<16x16xf8E4M3FN>) -> tensor<16x16xf8E4M3FN>
  %z = mpt.scaled_matmul %x, %t, %s, %inverse {mpt.name = "b", operandSegmentSizes = array<i32: 1, 1, 1, 1>, transpose_rhs}
      : (tensor<16x16xf8E4M3FN>, tensor<16x16xf8E4M3FN>, tensor<f32>, tensor<f32>) -> tensor<16x16xf32>
  %flag = mpt.compare %a, %s {predicate = #mpt.predicate<le>} : (tensor<f32>, tensor<f32>) -> tensor<i1>
  %u = mpt.select %flag, %w, %w {mpt.name = "w/update"} : (tensor<i1>, tensor<16x16xf32>, tensor<16x16xf32>) -> tensor<16x16xf32>
  return %y, %z, %flag, %u : tensor<16x16xf32>, tensor<16x16xf32>, tensor<i1>, tensor<16x16xf32>
}

// -----

// A delayed scale: the next codes are under the scale that this step leaves. The parameter that no
// step trains is cast again all the same, since its scale moves; the one in BF16 is not.
// CHECK-LABEL: func.func @step
// CHECK-SAME: %[[S:[^:]*]]: tensor<f32> {mpt.kind = #mpt.kind<scale_state>
// CHECK-SAME: %[[FROZEN:[^:]*]]: tensor<8x8xbf16> {mpt.kind = #mpt.kind<derived>, mpt.name = "v/cast.bf16"}
// CHECK-SAME: -> (tensor<4x8xf32> {mpt.name = "y"}, tensor<4x8xf32> {mpt.name = "z"}, tensor<f32> {mpt.alias = 3 : i64, mpt.name = "s"}, tensor<8x8xi8> {mpt.alias = 4 : i64, mpt.name = "w/cast.i8"})
// CHECK: %[[LATER:.*]] = mpt.add %[[S]], %[[S]]
// CHECK: mpt.quantize %{{.*}}, %[[LATER]] {mpt.name = "w/cast.i8"}
// CHECK-NOT: mpt.quantize
// CHECK-LABEL: func.func @init
func.func @step(%x: tensor<4x8xf32> {mpt.name = "x", mpt.kind = #mpt.kind<input>},
                %w: tensor<8x8xf32> {mpt.name = "w", mpt.kind = #mpt.kind<parameter>},
                %v: tensor<8x8xf32> {mpt.name = "v", mpt.kind = #mpt.kind<parameter>},
                %s: tensor<f32> {mpt.name = "s", mpt.kind = #mpt.kind<scale_state>})
    -> (tensor<4x8xf32> {mpt.name = "y"}, tensor<4x8xf32> {mpt.name = "z"}, tensor<f32> {mpt.name = "s", mpt.alias = 3 : i64}) {
  %c = mpt.quantize %w, %s {mpt.name = "w/cast.i8"} : (tensor<8x8xf32>, tensor<f32>) -> tensor<8x8xi8>
  %d = mpt.dequantize %c, %s {mpt.name = "w/decode"} : (tensor<8x8xi8>, tensor<f32>) -> tensor<8x8xf32>
  %y = mpt.matmul %x, %d {mpt.name = "a"} : (tensor<4x8xf32>, tensor<8x8xf32>) -> tensor<4x8xf32>
  %b = mpt.quantize %v {mpt.name = "v/cast.bf16"} : (tensor<8x8xf32>) -> tensor<8x8xbf16>
  %e = mpt.dequantize %b {mpt.name = "v/decode"} : (tensor<8x8xbf16>) -> tensor<8x8xf32>
  %z = mpt.matmul %x, %e {mpt.name = "b"} : (tensor<4x8xf32>, tensor<8x8xf32>) -> tensor<4x8xf32>
  %t = mpt.add %s, %s {mpt.name = "s"} : (tensor<f32>, tensor<f32>) -> tensor<f32>
  return %y, %z, %t : tensor<4x8xf32>, tensor<4x8xf32>, tensor<f32>
}

// -----

// A value computed from a parameter is cast in the step; there is nothing to carry.
// CHECK-LABEL: func.func @step
// CHECK-NOT: derived
// CHECK: mpt.quantize
// CHECK-NOT: func.func @init
func.func @step(%w: tensor<8x8xf32> {mpt.name = "w", mpt.kind = #mpt.kind<parameter>}) -> tensor<8x8xf32> {
  %h = mpt.mul %w, %w {mpt.name = "h"} : (tensor<8x8xf32>, tensor<8x8xf32>) -> tensor<8x8xf32>
  %c = mpt.quantize %h {mpt.name = "h/cast.bf16"} : (tensor<8x8xf32>) -> tensor<8x8xbf16>
  %y = mpt.scaled_matmul %c, %c {mpt.name = "layer", operandSegmentSizes = array<i32: 1, 1, 0, 0>} : (tensor<8x8xbf16>, tensor<8x8xbf16>) -> tensor<8x8xf32>
  return %y : tensor<8x8xf32>
}
