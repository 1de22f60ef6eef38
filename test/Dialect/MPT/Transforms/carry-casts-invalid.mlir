// The stage that the pass expects, and what it cannot carry.
// RUN: mpt-opt %s --split-input-file --verify-diagnostics --mpt-carry-casts

// expected-error@+1 {{mpt-carry-casts expects a function @step}}
module {}

// -----

func.func @step(%w: tensor<8x8xf32> {mpt.name = "w", mpt.kind = #mpt.kind<parameter>}) -> tensor<8x8xf32> {
  // expected-error@+1 {{named 'w/cast.bf16' reaches --mpt-carry-casts: run --mpt-materialize-formats first}}
  %c = mpt.cast %w {mpt.name = "w/cast.bf16"} : (tensor<8x8xf32>) -> tensor<8x8xf32, #mpt.format<bf16>>
  %y = mpt.matmul %c, %c {mpt.name = "layer"} : (tensor<8x8xf32, #mpt.format<bf16>>, tensor<8x8xf32, #mpt.format<bf16>>) -> tensor<8x8xf32>
  return %y : tensor<8x8xf32>
}

// -----

// expected-error@+1 {{mpt-carry-casts makes @init, which is there already}}
func.func @init() {
  return
}
func.func @step(%x: tensor<8x8xf32>) -> tensor<8x8xf32> {
  return %x : tensor<8x8xf32>
}

// -----

func.func @step(%w: tensor<8x8xf32> {mpt.name = "w", mpt.kind = #mpt.kind<parameter>}) -> tensor<8x8xbf16> {
  // expected-error@+1 {{named 'w/cast.bf16': mpt-carry-casts cannot carry what is result 0 of the step}}
  %c = mpt.quantize %w {mpt.name = "w/cast.bf16"} : (tensor<8x8xf32>) -> tensor<8x8xbf16>
  return %c : tensor<8x8xbf16>
}

// -----

func.func @step(%w: tensor<8x8xf32> {mpt.name = "w", mpt.kind = #mpt.kind<parameter>},
                %seed: tensor<i64> {mpt.name = "rng.seed", mpt.kind = #mpt.kind<rng>},
                %step: tensor<i64> {mpt.name = "rng.step", mpt.kind = #mpt.kind<rng>}) -> tensor<8x8xf32> {
  %id = mpt.constant dense<7> : tensor<i64>
  // expected-remark@+1 {{'w/cast.bf16' stays in the step: it draws the random bits of its step}}
  %c = mpt.quantize_stochastic %w, %seed, %step, %id {mpt.name = "w/cast.bf16"}
      : (tensor<8x8xf32>, tensor<i64>, tensor<i64>, tensor<i64>) -> tensor<8x8xbf16>
  %y = mpt.scaled_matmul %c, %c {mpt.name = "layer", operandSegmentSizes = array<i32: 1, 1, 0, 0>} : (tensor<8x8xbf16>, tensor<8x8xbf16>) -> tensor<8x8xf32>
  return %y : tensor<8x8xf32>
}
