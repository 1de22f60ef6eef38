// Attention in a package: launches of one kernel are a table that is filled when
// the step is opened. Query, key and value are read where they are, in one
// tensor; the mask of a batch is one row per sequence.
// RUN: rm -rf %t && mpt-build %s --target=cuda -o %t
// RUN: FileCheck %s < %t/step.cu
// RUN: FileCheck %s --check-prefix=MANIFEST < %t/manifest.json

// CHECK: #include "mpt/CUDA/HopperAttentionGrad.h"
// CHECK-NOT: Products.h

// CHECK: mpt::attention::Launches<mpt::attention::Forward<32, false, float>> attention;
// CHECK-NOT: Gradient
// CHECK: void loadAttention() {
// CHECK-NEXT: attention.clear();
// CHECK-NEXT: attention.add({"context", 2,
// CHECK-NEXT: {at<uint16_t>(offset::qkv_cast_bf16), 192, 6144},
// CHECK-NEXT: {at<uint16_t>(offset::qkv_cast_bf16 + 128), 192, 6144},
// CHECK-NEXT: {at<uint16_t>(offset::qkv_cast_bf16 + 256), 192, 6144},
// CHECK-NEXT: {{[{][{]}}32, 2, 0.25f, at<float>(offset::mask), 32,
// CHECK-NEXT: {nullptr, nullptr, 0, 0, 0.0f},
// CHECK-NEXT: at<float>(offset::context_1), at<float>(offset::context_2)},
// CHECK-NEXT: at<float>(offset::context_0), 64, 2048{{[}][}]}});

// CHECK: attention.run(/*context*/ 0, stream);
// CHECK: return !step.open(memoryBytes, tensors, constants, buffers, loadAttention,

// MANIFEST: "op": "attention",
// MANIFEST-NEXT: "name": "context",
// MANIFEST-NEXT: "batches": 2,
// MANIFEST-NEXT: "sequence": 32,
// MANIFEST-NEXT: "heads": 2,
// MANIFEST-NEXT: "head_size": 32,
// MANIFEST-NEXT: "scale": 0.25,
// MANIFEST-NEXT: "bias": true,
// MANIFEST-NEXT: "bias_stride": 32,
// MANIFEST-NEXT: "heads_views": [
// MANIFEST-NEXT: {
// MANIFEST-NEXT: "dtype": "bf16",
// MANIFEST-NEXT: "rows": 192,
// MANIFEST-NEXT: "batch": 6144
func.func @step(%qkv: tensor<2x32x6x32xf32> {mpt.name = "qkv", mpt.kind = #mpt.kind<parameter>}, %mask: tensor<2x32xf32> {mpt.name = "mask", mpt.kind = #mpt.kind<input>})
    -> (tensor<2x2x32x32xf32> {mpt.name = "y"}) {
  %c = mpt.constant dense<0.25> : tensor<f32>
  %low = mpt.cast %qkv {mpt.name = "qkv/cast.bf16"} : (tensor<2x32x6x32xf32>) -> tensor<2x32x6x32xf32, #mpt.format<bf16>>
  %q4 = mpt.slice %low {offsets = array<i64: 0, 0, 0, 0>} : (tensor<2x32x6x32xf32, #mpt.format<bf16>>) -> tensor<2x32x2x32xf32, #mpt.format<bf16>>
  %k4 = mpt.slice %low {offsets = array<i64: 0, 0, 2, 0>} : (tensor<2x32x6x32xf32, #mpt.format<bf16>>) -> tensor<2x32x2x32xf32, #mpt.format<bf16>>
  %v4 = mpt.slice %low {offsets = array<i64: 0, 0, 4, 0>} : (tensor<2x32x6x32xf32, #mpt.format<bf16>>) -> tensor<2x32x2x32xf32, #mpt.format<bf16>>
  %q = mpt.transpose %q4 {permutation = array<i64: 0, 2, 1, 3>} : (tensor<2x32x2x32xf32, #mpt.format<bf16>>) -> tensor<2x2x32x32xf32, #mpt.format<bf16>>
  %k = mpt.transpose %k4 {permutation = array<i64: 0, 2, 1, 3>} : (tensor<2x32x2x32xf32, #mpt.format<bf16>>) -> tensor<2x2x32x32xf32, #mpt.format<bf16>>
  %v = mpt.transpose %v4 {permutation = array<i64: 0, 2, 1, 3>} : (tensor<2x32x2x32xf32, #mpt.format<bf16>>) -> tensor<2x2x32x32xf32, #mpt.format<bf16>>
  %s = mpt.matmul %q, %k {mpt.name = "scores", role = #mpt.role<fprop>, transpose_rhs}
      : (tensor<2x2x32x32xf32, #mpt.format<bf16>>, tensor<2x2x32x32xf32, #mpt.format<bf16>>) -> tensor<2x2x32x32xf32>
  %s1 = mpt.mul %s, %c {mpt.name = "factor"} : (tensor<2x2x32x32xf32>, tensor<f32>) -> tensor<2x2x32x32xf32>
  %bias = mpt.reshape %mask : (tensor<2x32xf32>) -> tensor<2x1x1x32xf32>
  %s2 = mpt.add %s1, %bias {mpt.name = "masked"} : (tensor<2x2x32x32xf32>, tensor<2x1x1x32xf32>) -> tensor<2x2x32x32xf32>
  %p = mpt.softmax %s2 {mpt.name = "softmax"} : (tensor<2x2x32x32xf32>) -> tensor<2x2x32x32xf32>
  %w = mpt.cast %p {mpt.name = "softmax/cast.bf16"} : (tensor<2x2x32x32xf32>) -> tensor<2x2x32x32xf32, #mpt.format<bf16>>
  %o = mpt.matmul %w, %v {mpt.name = "context", role = #mpt.role<fprop>}
      : (tensor<2x2x32x32xf32, #mpt.format<bf16>>, tensor<2x2x32x32xf32, #mpt.format<bf16>>) -> tensor<2x2x32x32xf32>
  %y = mpt.neg %o {mpt.name = "neg"} : (tensor<2x2x32x32xf32>) -> tensor<2x2x32x32xf32>
  return %y : tensor<2x2x32x32xf32>
}
