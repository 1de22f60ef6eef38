// A whole step: places, products, launch list. FP8 codes are written transposed where
// cuBLASLt needs it, and the inverse scales are passed by pointer.
// RUN: rm -rf %t && mpt-build %s --target=cuda --products=cublaslt -o %t
// RUN: FileCheck %s < %t/step.cu
// RUN: FileCheck %s --check-prefix=MANIFEST < %t/manifest.json

// CHECK: #include "mpt/CUDA/Products.h"

// CHECK: namespace offset {
// CHECK-NEXT: constexpr size_t w = 0;
// CHECK-NEXT: constexpr size_t x = [[X:.*]];

// CHECK: const mpt::ProductDesc productTable[] = {
// CHECK-NEXT: {"layer", 16, 48, 32, {1, 1},
// CHECK-NEXT:  {Type::E4M3, false, 32, {0, 0}, {{.*}}},
// CHECK-NEXT:  {Type::E4M3, true, 32, {0, 0}, {{.*}}},
// CHECK-NEXT:  {Type::F32, false, 48, {0, 0}, {{.*}}},
// CHECK-NEXT:  true, false},
// CHECK-NEXT: {"layer/dgrad", 16, 32, 48, {1, 1},
// CHECK-NEXT:  {Type::BF16, false, 48,
// CHECK-NEXT:  {Type::BF16, true, 48,
// CHECK-NEXT:  {Type::F32, false, 32,
// CHECK-NEXT:  false, false},

// CHECK: void enqueue0(cudaStream_t stream) {
// CHECK: products.run(/*layer*/ 0, at<uint8_t>(offset::x_cast_f8E4M3FN),
// CHECK-NEXT: at<uint8_t>(offset::w_cast_f8E4M3FN),
// CHECK: at<float>(offset::x_scale_f8E4M3FN_1),
// CHECK: at<float>(offset::w_scale_f8E4M3FN_1), stream);
// CHECK: products.run(/*layer/dgrad*/ 1, at<uint16_t>(
// CHECK: nullptr, nullptr, stream);

// CHECK: {"w", mpt::Kind::Parameter, mpt::Type::F32,
// CHECK-NEXT: offset::w, 1536, 0, 0, false, 0},
// CHECK: MPT_EXPORT int mpt_cuda_step() { return !step.run(); }

// MANIFEST: "target": "cuda",
// MANIFEST: "op": "product",
// MANIFEST-NEXT: "name": "layer",
// MANIFEST-NEXT: "role": "fprop",
func.func @step(%w: tensor<32x48xf32> {mpt.name = "w", mpt.kind = #mpt.kind<parameter>}, %x: tensor<16x32xf32> {mpt.name = "x", mpt.kind = #mpt.kind<input>})
    -> (tensor<16x48xf32> {mpt.name = "y"}, tensor<16x32xf32> {mpt.name = "dx"}) {
  %0 = mpt.cast %x {mpt.name = "x/cast.f8E4M3FN"} : (tensor<16x32xf32>) -> tensor<16x32xf32, #mpt.format<f8E4M3FN>>
  %1 = mpt.cast %w {mpt.name = "w/cast.f8E4M3FN"} : (tensor<32x48xf32>) -> tensor<32x48xf32, #mpt.format<f8E4M3FN>>
  %2 = mpt.matmul %0, %1 {mpt.name = "layer", role = #mpt.role<fprop>} : (tensor<16x32xf32, #mpt.format<f8E4M3FN>>, tensor<32x48xf32, #mpt.format<f8E4M3FN>>) -> tensor<16x48xf32>
  %3 = mpt.cast %2 {mpt.name = "y/cast.bf16"} : (tensor<16x48xf32>) -> tensor<16x48xf32, #mpt.format<bf16>>
  %4 = mpt.cast %w {mpt.name = "w/cast.bf16"} : (tensor<32x48xf32>) -> tensor<32x48xf32, #mpt.format<bf16>>
  %5 = mpt.matmul %3, %4 {mpt.name = "layer/dgrad", role = #mpt.role<dgrad>, transpose_rhs} : (tensor<16x48xf32, #mpt.format<bf16>>, tensor<32x48xf32, #mpt.format<bf16>>) -> tensor<16x32xf32>
  return %2, %5 : tensor<16x48xf32>, tensor<16x32xf32>
}
