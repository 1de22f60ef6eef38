// Who multiplies, and why: our kernels where there is one and it is asked for,
// or is faster as predicted or measured.
// RUN: split-file %s %t
// RUN: mpt-opt %t/step.mlir --mpt-choose-products=products=own | FileCheck %s --check-prefix=OWN
// RUN: mpt-opt %t/step.mlir --mpt-choose-products=products=cublaslt | FileCheck %s --check-prefix=LT
// RUN: mpt-opt %t/step.mlir --mpt-choose-products | FileCheck %s --check-prefix=AUTO
// RUN: mpt-opt %t/step.mlir --mpt-choose-products="tuning=%t/tuning.json" | FileCheck %s --check-prefix=MEASURED

// OWN: mpt.implementation = "own", mpt.name = "large", mpt.reason = "asked for"
// OWN: mpt.implementation = "own", mpt.name = "deep", mpt.reason = "asked for"
// OWN: mpt.implementation = "cublaslt", mpt.name = "heads", mpt.reason = "no own kernel: it is a batch of 4"
// OWN: mpt.implementation = "cublaslt", mpt.name = "exact", mpt.reason = "no own kernel: it multiplies f32"
// OWN: mpt.implementation = "cublaslt", mpt.name = "odd", mpt.reason = "no own kernel: it has a rhs whose rows are 14 bytes apart from byte 0 on, expected multiples of 16"

// LT-COUNT-5: mpt.implementation = "cublaslt", mpt.name = "{{.*}}", mpt.reason = "asked for"

// Whole waves of tiles that do not cut k: as fast as cuBLASLt. A small result
// of a long contraction is better cut.
// AUTO: mpt.implementation = "own", mpt.name = "large", mpt.reason = "predicted: own [[US:.*]] us, cublaslt [[US]] us"
// AUTO: mpt.implementation = "cublaslt", mpt.name = "deep", mpt.reason = "predicted: own {{.*}} us, cublaslt {{.*}} us"

// MEASURED: mpt.implementation = "cublaslt", mpt.name = "large", mpt.reason = "measured: own 30.0 us, cublaslt 20.0 us"
// MEASURED: mpt.implementation = "own", mpt.name = "deep", mpt.reason = "measured: own 5.0 us, cublaslt 6.0 us"

//--- step.mlir
func.func @step(%x: tensor<8192x1024xf8E4M3FN>, %w: tensor<4096x1024xf8E4M3FN>, %s: tensor<f32>,
                %a: tensor<8192x256xbf16>, %b: tensor<8192x256xbf16>, %q: tensor<4x64x64xbf16>,
                %f: tensor<16x16xf32>, %o: tensor<16x7xbf16>)
    -> (tensor<8192x4096xf32>, tensor<256x256xf32>, tensor<4x64x64xf32>, tensor<16x16xf32>, tensor<16x7xf32>) {
  %0 = mpt.scaled_matmul %x, %w, %s, %s {mpt.name = "large", transpose_rhs, role = #mpt.role<fprop>, operandSegmentSizes = array<i32: 1, 1, 1, 1>}
      : (tensor<8192x1024xf8E4M3FN>, tensor<4096x1024xf8E4M3FN>, tensor<f32>, tensor<f32>) -> tensor<8192x4096xf32>
  %1 = mpt.scaled_matmul %a, %b {mpt.name = "deep", transpose_lhs, role = #mpt.role<wgrad>, operandSegmentSizes = array<i32: 1, 1, 0, 0>}
      : (tensor<8192x256xbf16>, tensor<8192x256xbf16>) -> tensor<256x256xf32>
  %2 = mpt.scaled_matmul %q, %q {mpt.name = "heads", operandSegmentSizes = array<i32: 1, 1, 0, 0>}
      : (tensor<4x64x64xbf16>, tensor<4x64x64xbf16>) -> tensor<4x64x64xf32>
  %3 = mpt.matmul %f, %f {mpt.name = "exact"} : (tensor<16x16xf32>, tensor<16x16xf32>) -> tensor<16x16xf32>
  %5 = mpt.constant dense<1.0> : tensor<16x16xbf16>
  %4 = mpt.scaled_matmul %5, %o {mpt.name = "odd", operandSegmentSizes = array<i32: 1, 1, 0, 0>}
      : (tensor<16x16xbf16>, tensor<16x7xbf16>) -> tensor<16x7xf32>
  return %0, %1, %2, %3, %4 : tensor<8192x4096xf32>, tensor<256x256xf32>, tensor<4x64x64xf32>, tensor<16x16xf32>, tensor<16x7xf32>
}
//--- tuning.json
{"format": "mpt-tuning", "version": 1, "target": "h200", "products": [
 {"m": 8192, "n": 4096, "k": 1024, "batch": 1, "lhs": "f8E4M3FN", "rhs": "f8E4M3FN", "us": 30, "implementation": "own"},
 {"m": 8192, "n": 4096, "k": 1024, "batch": 1, "lhs": "f8E4M3FN", "rhs": "f8E4M3FN", "us": 20, "implementation": "cublaslt"},
 {"m": 256, "n": 256, "k": 8192, "batch": 1, "lhs": "bf16", "rhs": "bf16", "us": 5, "implementation": "own"},
 {"m": 256, "n": 256, "k": 8192, "batch": 1, "lhs": "bf16", "rhs": "bf16", "us": 6, "implementation": "cublaslt"}]}
