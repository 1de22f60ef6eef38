// Where each recipe's scale comes from, what keeps it, and how rounding and granularity show.
// RUN: mpt-opt %s --split-input-file --mpt-materialize-formats | FileCheck %s

#delayed = #mpt.format<f8E5M2, recipe = delayed, history = 4, margin = 1>

// The scale is an argument; at the end the ring takes the step's amax, and the scale its largest. The
// flag that the step has also sees what x's cast would hide. The profile's 7 gives 57344 / 2 / 7 = 4096.
// CHECK-LABEL: func.func @step
// CHECK-SAME: %[[X:[^:]*]]: tensor<2x8xf32>
// CHECK-SAME: %[[S:[^:]*]]: tensor<f32> {mpt.init = 4.096000e+03 : f64, mpt.kind = #mpt.kind<scale_state>, mpt.name = "x/scale.f8E5M2"}
// CHECK-SAME: %[[H:[^:]*]]: tensor<4xf32> {mpt.init = 7.000000e+00 : f64, mpt.kind = #mpt.kind<scale_state>, mpt.name = "x/amax_history.f8E5M2"}
// CHECK-SAME: %[[P:[^:]*]]: tensor<f32> {mpt.init = 0.000000e+00 : f64, mpt.kind = #mpt.kind<scale_state>, mpt.name = "amax_history.position.4"}
// CHECK-SAME: -> (tensor<2x2xf32>, tensor<i1> {mpt.name = "skipped"}
// CHECK-SAME: tensor<f32> {mpt.alias = [[#SCALE:]] : i64, mpt.name = "x/scale.f8E5M2"}
// CHECK-SAME: tensor<4xf32> {mpt.alias = [[#SCALE+1]] : i64, mpt.name = "x/amax_history.f8E5M2"}
// CHECK-SAME: tensor<f32> {mpt.alias = [[#SCALE+2]] : i64, mpt.name = "amax_history.position.4"}
// CHECK: %[[I:.*]] = mpt.div %{{.*}}, %[[S]] {mpt.name = "x/scale.f8E5M2/inverse"}
// CHECK: mpt.reduce %[[X]] {axes = array<i64: 0, 1>, kind = #mpt.reduction<absmax>, mpt.name = "x/amax"}
// CHECK: %[[A:.*]] = mpt.reshape {{.*}}"x/amax"
// CHECK: %[[C:.*]] = mpt.quantize %[[X]], %[[S]] {mpt.name = "x/cast.f8E5M2"}
// CHECK: mpt.scaled_matmul %[[C]], %[[C]], %[[I]], %[[I]]
// CHECK: %[[FINITE:.*]] = mpt.compare %[[A]], %{{.*}} {mpt.name = "skipped", predicate = #mpt.predicate<le>}
// CHECK: %[[HIDDEN:.*]] = mpt.not %[[FINITE]]
// CHECK: %[[SKIP:.*]] = mpt.or %{{.*}}, %[[HIDDEN]] {mpt.name = "skipped"}
// CHECK: %[[HERE:.*]] = mpt.compare %{{.*}}, %[[P]] {mpt.name = "x/amax_history.f8E5M2", predicate = #mpt.predicate<eq>}
// CHECK: %[[NEXT:.*]] = mpt.select %[[HERE]], %[[A]], %[[H]]
// CHECK: %[[KEPT:.*]] = mpt.select %[[SKIP]], %[[H]], %[[NEXT]]
// CHECK: mpt.reduce %[[KEPT]] {axes = array<i64: 0>, kind = #mpt.reduction<absmax>
// CHECK: %[[NEW:.*]], %{{.*}} = mpt.scale %{{.*}}, %[[S]] {margin = 1 : i64, mpt.name = "x/scale.f8E5M2", storage = f8E5M2}
// CHECK: %[[LATER:.*]] = mpt.select %[[SKIP]], %[[S]], %[[NEW]]
// CHECK: %[[POSITION:.*]] = mpt.select %[[SKIP]], %[[P]]
// CHECK: return %{{.*}}, %[[SKIP]], %[[LATER]], %[[KEPT]], %[[POSITION]]
func.func @step(%x: tensor<2x8xf32> {mpt.name = "x", mpt.kind = #mpt.kind<input>}, %flag: tensor<i1> {mpt.kind = #mpt.kind<input>})
    -> (tensor<2x2xf32>, tensor<i1> {mpt.name = "skipped"}) {
  %0 = mpt.cast %x {mpt.name = "x/cast.f8E5M2"} : (tensor<2x8xf32>) -> tensor<2x8xf32, #delayed>
  %1 = mpt.matmul %0, %0 {mpt.amax = array<f32: 7.0, 3.0>, mpt.name = "layer", transpose_rhs}
      : (tensor<2x8xf32, #delayed>, tensor<2x8xf32, #delayed>) -> tensor<2x2xf32>
  %2 = mpt.not %flag : (tensor<i1>) -> tensor<i1>
  return %1, %2 : tensor<2x2xf32>, tensor<i1>
}

// -----

#one = #mpt.format<f8E4M3FN, recipe = delayed, history = 1>

// A history of one step needs no ring; without a profile the scale starts at 1.
// CHECK-LABEL: func.func @step
// CHECK-SAME: %[[S:[^:]*]]: tensor<f32> {mpt.init = 1.000000e+00 : f64, mpt.kind = #mpt.kind<scale_state>, mpt.name = "x/scale.f8E4M3FN"}
// CHECK-SAME: %[[H:[^:]*]]: tensor<1xf32> {mpt.init = 0.000000e+00 : f64, mpt.kind = #mpt.kind<scale_state>, mpt.name = "x/amax_history.f8E4M3FN"})
// CHECK-NOT: mpt.iota
func.func @step(%x: tensor<2x8xf32> {mpt.name = "x"}) -> tensor<2x8xf32> {
  %0 = mpt.cast %x : (tensor<2x8xf32>) -> tensor<2x8xf32, #one>
  %1 = mpt.tanh %0 : (tensor<2x8xf32, #one>) -> tensor<2x8xf32>
  return %1 : tensor<2x8xf32>
}

// -----

#fixed = #mpt.format<f8E4M3FN, recipe = fixed, value = 16.0>

// A fixed scale is a constant. The amax is there for the flag only.
// CHECK-LABEL: func.func @step
// CHECK: %[[S:.*]] = mpt.constant dense<1.600000e+01> : tensor<f32>
// CHECK: %[[I:.*]] = mpt.constant dense<6.250000e-02> : tensor<f32>
// CHECK: mpt.reduce {{.*}}"x/amax"
// CHECK: %[[C:.*]] = mpt.quantize %{{.*}}, %[[S]]
// CHECK: mpt.dequantize %[[C]], %[[I]]
func.func @step(%x: tensor<2x8xf32> {mpt.name = "x"}) -> tensor<2x8xf32> {
  %0 = mpt.cast %x : (tensor<2x8xf32>) -> tensor<2x8xf32, #fixed>
  %1 = mpt.tanh %0 : (tensor<2x8xf32, #fixed>) -> tensor<2x8xf32>
  return %1 : tensor<2x8xf32>
}

// -----

#stochastic = #mpt.format<bf16, rounding = stochastic>

// Random bits are keyed by the step's seed and number, which it takes as arguments from here on, and by
// the FNV-1a hash of "x/cast.bf16".
// CHECK-LABEL: func.func @step
// CHECK-SAME: %[[SEED:[^:]*]]: tensor<i64> {mpt.kind = #mpt.kind<rng>, mpt.name = "rng.seed"}
// CHECK-SAME: %[[STEP:[^:]*]]: tensor<i64> {mpt.kind = #mpt.kind<rng>, mpt.name = "rng.step"}
// CHECK: %[[ID:.*]] = mpt.constant dense<64454540> : tensor<i64>
// CHECK: mpt.quantize_stochastic %{{.*}}, %[[SEED]], %[[STEP]], %[[ID]] {mpt.name = "x/cast.bf16"}
func.func @step(%x: tensor<2x8xf32> {mpt.name = "x"}) -> tensor<2x8xf32> {
  %0 = mpt.cast %x : (tensor<2x8xf32>) -> tensor<2x8xf32, #stochastic>
  %1 = mpt.tanh %0 : (tensor<2x8xf32, #stochastic>) -> tensor<2x8xf32>
  return %1 : tensor<2x8xf32>
}

// -----

#row = #mpt.format<i8, scale = per_row>
#column = #mpt.format<i8, scale = per_column>

// One scale per row of lhs and per column of rhs; what is no product reads decoded values.
// CHECK-LABEL: func.func @step
// CHECK: mpt.reduce %{{.*}} {axes = array<i64: 1>, {{.*}}"x/amax"} : (tensor<4x8xf32>) -> tensor<4x1xf32>
// CHECK: mpt.quantize {{.*}} : (tensor<4x8xf32>, tensor<4x1xf32>) -> tensor<4x8xi8>
// CHECK: %[[D:.*]] = mpt.dequantize {{.*}} : (tensor<4x8xi8>, tensor<4x1xf32>) -> tensor<4x8xf32>
// CHECK: %[[T:.*]] = mpt.transpose %{{.*}} {mpt.name = "w/amax", permutation = array<i64: 1, 0>}
// CHECK: mpt.reduce %[[T]] {axes = array<i64: 1>, {{.*}}"w/amax"} : (tensor<2x8xf32>) -> tensor<2x1xf32>
// CHECK: mpt.quantize {{.*}} : (tensor<8x2xf32>, tensor<1x2xf32>) -> tensor<8x2xi8>
// CHECK: %[[V:.*]] = mpt.reshape %[[D]] : (tensor<4x8xf32>) -> tensor<2x16xf32>
// CHECK: mpt.scaled_matmul {{.*}} : (tensor<4x8xi8>, tensor<8x2xi8>, tensor<4x1xf32>, tensor<1x2xf32>) -> tensor<4x2xf32>
// CHECK: mpt.tanh %[[V]]
func.func @step(%x: tensor<4x8xf32> {mpt.name = "x"}, %w: tensor<8x2xf32> {mpt.name = "w"}) -> (tensor<4x2xf32>, tensor<2x16xf32>) {
  %0 = mpt.cast %x : (tensor<4x8xf32>) -> tensor<4x8xf32, #row>
  %1 = mpt.cast %w : (tensor<8x2xf32>) -> tensor<8x2xf32, #column>
  %v = mpt.reshape %0 : (tensor<4x8xf32, #row>) -> tensor<2x16xf32, #row>
  %2 = mpt.matmul %0, %1 : (tensor<4x8xf32, #row>, tensor<8x2xf32, #column>) -> tensor<4x2xf32>
  %3 = mpt.tanh %v : (tensor<2x16xf32, #row>) -> tensor<2x16xf32>
  return %2, %3 : tensor<4x2xf32>, tensor<2x16xf32>
}

// -----

#column = #mpt.format<i8, scale = per_column>

// A weight gradient contracts over the batch too: its operands' columns run through all of it.
// CHECK-LABEL: func.func @step
// CHECK: mpt.quantize {{.*}} : (tensor<3x4x8xf32>, tensor<1x1x8xf32>) -> tensor<3x4x8xi8>
// CHECK: mpt.quantize {{.*}} : (tensor<3x4x8xf32>, tensor<3x1x8xf32>) -> tensor<3x4x8xi8>
func.func @step(%x: tensor<3x4x8xf32> {mpt.name = "x"}, %v: tensor<3x4x8xf32> {mpt.name = "v"}, %p: tensor<3x4x4xf32>) -> (tensor<8x8xf32>, tensor<3x4x8xf32>) {
  %0 = mpt.cast %x : (tensor<3x4x8xf32>) -> tensor<3x4x8xf32, #column>
  %1 = mpt.cast %v : (tensor<3x4x8xf32>) -> tensor<3x4x8xf32, #column>
  %2 = mpt.matmul %0, %0 {fold_batch, transpose_lhs} : (tensor<3x4x8xf32, #column>, tensor<3x4x8xf32, #column>) -> tensor<8x8xf32>
  %3 = mpt.matmul %p, %1 : (tensor<3x4x4xf32>, tensor<3x4x8xf32, #column>) -> tensor<3x4x8xf32>
  return %2, %3 : tensor<8x8xf32>, tensor<3x4x8xf32>
}
