// Formats in pins that no target can run, or that are not written as formats are.
// RUN: not mpt-opt %s --assign-precision='policy=bf16 target=cpu-emulated pin=layer=i8[row]' 2>&1 | FileCheck %s --check-prefix=ROW
// RUN: not mpt-opt %s --assign-precision='policy=bf16 target=cpu-emulated pin=layer=i8[delayed=x]' 2>&1 | FileCheck %s --check-prefix=DIGITS
// RUN: not mpt-opt %s --assign-precision='policy=bf16 target=cpu-emulated pin=layer=i8[fixed=0]' 2>&1 | FileCheck %s --check-prefix=ZERO
// RUN: not mpt-opt %s --assign-precision='policy=bf16 target=cpu-emulated pin=layer=i8[fixed=1,current]' 2>&1 | FileCheck %s --check-prefix=TWICE
// RUN: not mpt-opt %s --assign-precision='policy=bf16 target=cpu-emulated pin=layer=i8[margin=3]' 2>&1 | FileCheck %s --check-prefix=MARGIN
// RUN: not mpt-opt %s --assign-precision='policy=bf16 target=cpu-emulated pin=layer=bf16[per_row]' 2>&1 | FileCheck %s --check-prefix=BF16
// RUN: not mpt-opt %s --assign-precision='policy=bf16 target=cpu-emulated pin=layer=f32[stochastic]' 2>&1 | FileCheck %s --check-prefix=F32
// RUN: not mpt-opt %s --assign-precision='policy=bf16 target=cpu-emulated pin=layer=i8[stochastic' 2>&1 | FileCheck %s --check-prefix=OPEN
// RUN: not mpt-opt %s --assign-precision='policy=bf16 target=cpu-emulated pin=layer=i8[per_row]' 2>&1 | FileCheck %s --check-prefix=ALONG
// RUN: not mpt-opt %s --assign-precision='policy=bf16 target=cpu-emulated pin=layer=i8[delayed=16,per_vector]' 2>&1 | FileCheck %s --check-prefix=VECTOR
// RUN: not mpt-opt %s --assign-precision='policy=bf16 target=cpu-emulated pin=layer=i8[delayed=0]' 2>&1 | FileCheck %s --check-prefix=LONG
// RUN: not mpt-opt %s --assign-precision='policy=bf16 pin=layer=f8E4M3FN[per_vector]' 2>&1 | FileCheck %s --check-prefix=HOPPER

// ROW: error: assign-precision: pin 'layer=i8[row]': {{.*}}format 'i8[row]': option 'row' is none of per_tensor
// DIGITS: error: assign-precision: pin 'layer=i8[delayed=x]': {{.*}}'delayed=x' needs an integer
// ZERO: error: assign-precision: pin 'layer=i8[fixed=0]': {{.*}}value must be a positive, normal f32, found 0.000000e+00
// TWICE: error: assign-precision: pin 'layer=i8[fixed=1,current]': {{.*}}'current' comes after another of its kind
// MARGIN: error: assign-precision: pin 'layer=i8[margin=3]': {{.*}}history and margin belong to recipe delayed, found recipe = current
// BF16: error: assign-precision: pin 'layer=bf16[per_row]': {{.*}}storage bf16 takes no scale, found scale = per_row
// F32: error: assign-precision: pin 'layer=f32[stochastic]': {{.*}}f32 has nothing to round
// OPEN: error: assign-precision: pin 'layer=i8[stochastic': {{.*}}format 'i8[stochastic': expected ']' at the end
// ALONG: error: assign-precision: pin 'layer=i8[per_row]': {{.*}}scale per_row of the rhs varies along the contraction, expected per_column
// VECTOR: error: assign-precision: pin 'layer=i8[delayed=16,per_vector]': {{.*}}recipe delayed keeps one scale per tensor, found per_row
// LONG: error: assign-precision: pin 'layer=i8[delayed=0]': {{.*}}history must be 1 to 65536 steps, found 0
// HOPPER: h200 does not run f8E4M3FN[per_row] x f8E4M3FN[per_column], only f8E4M3FN x f8E4M3FN with scale per_tensor, recipe current, delayed or fixed and rounding nearest or stochastic
func.func @step(%x: tensor<16x32xf32> {mpt.name = "x", mpt.kind = #mpt.kind<input>},
                %w: tensor<32x32xf32> {mpt.name = "layer.weight", mpt.kind = #mpt.kind<parameter>})
    -> (tensor<16x32xf32>, tensor<32x32xf32>) {
  %y = mpt.matmul %x, %w {mpt.name = "layer", transpose_rhs, role = #mpt.role<fprop>}
      : (tensor<16x32xf32>, tensor<32x32xf32>) -> tensor<16x32xf32>
  %dy = mpt.tanh %y {mpt.name = "dy"} : (tensor<16x32xf32>) -> tensor<16x32xf32>
  %dx = mpt.matmul %dy, %w {mpt.name = "layer/dgrad", role = #mpt.role<dgrad>}
      : (tensor<16x32xf32>, tensor<32x32xf32>) -> tensor<16x32xf32>
  %dw = mpt.matmul %dy, %x {mpt.name = "layer/wgrad", transpose_lhs, role = #mpt.role<wgrad>}
      : (tensor<16x32xf32>, tensor<16x32xf32>) -> tensor<32x32xf32>
  return %dx, %dw : tensor<16x32xf32>, tensor<32x32xf32>
}
