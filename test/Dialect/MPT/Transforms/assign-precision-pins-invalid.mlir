// Pins that cannot be followed.
// RUN: not mpt-opt %s --assign-precision='policy=bf16 pin=encoder.layer.0.querry=fp32' 2>&1 | FileCheck %s --check-prefix=NEAREST
// RUN: not mpt-opt %s --assign-precision='policy=bf16 pin=encoder.*=fp32,*.key=bf16' 2>&1 | FileCheck %s --check-prefix=CONTRADICT
// RUN: not mpt-opt %s --assign-precision='policy=bf16 pin=*.key=f8E4M3FN' 2>&1 | FileCheck %s --check-prefix=ALIGN
// RUN: not mpt-opt %s --assign-precision='policy=bf16 pin=*.key=fp7' 2>&1 | FileCheck %s --check-prefix=UNKNOWN
// RUN: not mpt-opt %s --assign-precision='policy=bf16 pin=*.key=f8E5M2' 2>&1 | FileCheck %s --check-prefix=PAIR
// RUN: not mpt-opt %s --assign-precision='policy=bf16 pin=*.key' 2>&1 | FileCheck %s --check-prefix=FORM
// RUN: not mpt-opt %s --assign-precision='policy=bf16 pin=[=bf16' 2>&1 | FileCheck %s --check-prefix=GLOB
// RUN: not mpt-opt %s --assign-precision='policy=bf16 alignment=0' 2>&1 | FileCheck %s --check-prefix=ZERO
// RUN: not mpt-opt %s --assign-precision='policy=bf16 record=%t.missing/decisions.json' 2>&1 | FileCheck %s --check-prefix=RECORD

// NEAREST: error: assign-precision: pin 'encoder.layer.0.querry=fp32' matches no product; nearest: 'encoder.layer.0.query', 'encoder.layer.0.key'
// CONTRADICT: error: assign-precision: pins 'encoder.*=fp32' and '*.key=bf16' contradict each other on 'encoder.layer.0.key'
// ALIGN: error: assign-precision: pin '*.key=f8E4M3FN' on 'encoder.layer.0.key': m = 24 is not a multiple of 16, which FP8 needs
// UNKNOWN: error: assign-precision: pin '*.key=fp7': unknown format 'fp7', expected bf16, fp32, f8E4M3FN, or a pair such as f8E5M2/f8E4M3FN
// PAIR: error: assign-precision: pin '*.key=f8E5M2': h200 does not run f8E5M2 x f8E5M2
// FORM: error: assign-precision: pin '*.key' is not of the form PATTERN=FORMAT
// GLOB: error: assign-precision: pin '[=bf16': invalid glob pattern
// ZERO: error: assign-precision: alignment must be 1 or more, found 0
// RECORD: error: assign-precision: decision record '{{.*}}decisions.json' cannot be written:
func.func @step(%x: tensor<24x16xf32>, %w: tensor<16x16xf32>) {
  %0 = mpt.matmul %x, %w {mpt.name = "encoder.layer.0.query", role = #mpt.role<fprop>}
      : (tensor<24x16xf32>, tensor<16x16xf32>) -> tensor<24x16xf32>
  %1 = mpt.matmul %x, %w {mpt.name = "encoder.layer.0.key", role = #mpt.role<fprop>}
      : (tensor<24x16xf32>, tensor<16x16xf32>) -> tensor<24x16xf32>
  return
}
