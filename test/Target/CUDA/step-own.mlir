// A step on our own kernels alone: cuBLASLt is not mentioned. The first product
// takes in bias, GELU and the cast; the second reads BF16 as it lies.
// RUN: rm -rf %t && mpt-build %s --target=cuda --products=own -o %t
// RUN: FileCheck %s < %t/step.cu
// RUN: FileCheck %s --check-prefix=MANIFEST < %t/manifest.json

// CHECK-NOT: Products.h
// CHECK: #include "mpt/CUDA/Gemm.h"

// CHECK: /// add, gelu, quantize: kernel_{{.*}} on a product of 16 x 48.
// CHECK-NEXT: struct [[EPILOGUE:Epilogue_kernel_.*]] : mpt::gemm::Op {
// CHECK-NEXT:   const float *in1;
// CHECK-NEXT:   uint16_t *out0;
// CHECK:   const float [[BIAS:x.*]] = __ldg(in1 + c);
// CHECK-NEXT:   const float [[SUM:add.*]] = v[i] + [[BIAS]];
// CHECK-NEXT:   const float [[GELU:gelu.*]] = num::gelu([[SUM]]);
// CHECK-NEXT:   const uint32_t [[CODE:quantize.*]] = num::encodeBF16([[GELU]]);
// CHECK-NEXT:   y0[i] = static_cast<uint16_t>([[CODE]]);
// CHECK:   mpt::gemm::storePair(out0 + int64_t(at.row) * 48 + at.column, y0, at);

// CHECK: /// BF16 x BF16, tiles of 128 x 128. For layer.
// CHECK-NEXT: using [[TILE:product_bf16_bf16_128_kernel_.*_tile]] =
// CHECK-NEXT:     mpt::gemm::Config<num::Format::BF16, num::Format::BF16, 128, 6,
// CHECK-NEXT:                       false, false, false>;
// CHECK-NEXT: extern "C" __global__ void __launch_bounds__(mpt::gemm::threads, 1)
// CHECK-NEXT:     product_bf16_bf16_128_kernel_{{[0-9]+}}(
// CHECK: const __grid_constant__ mpt::gemm::Chain<[[EPILOGUE]]> epilogue) {
// CHECK: mpt::gemm::multiply<[[TILE]]>(a, b, args, epilogue);

// CHECK: /// BF16 x BF16 held along its rows, tiles of 128 x 64. For head.
// CHECK-NEXT: using product_bf16_bf16t_64_tile =

// CHECK: void loadOwn0() {
// CHECK-NEXT: mpt::gemm::load<[[TILE]]>(
// CHECK: "layer",

// CHECK: void enqueue0(cudaStream_t stream) {
// CHECK: mpt::gemm::run<[[TILE]]>(
// CHECK: mpt::gemm::run<product_bf16_bf16t_64_tile>(
// CHECK-NEXT: "head", product_bf16_bf16t_64, product_bf16_bf16t_64_calls[0], stream);

// MANIFEST: "name": "layer",
// MANIFEST: "implementation": "own",
// MANIFEST-NEXT: "reason": "asked for",
// MANIFEST-NEXT: "kernel": "product_bf16_bf16_128_[[EPILOGUE:kernel_.*]]",
// MANIFEST-NEXT: "epilogue": "[[EPILOGUE]]",
// MANIFEST-NEXT: "position": 0,
// MANIFEST-NEXT: "keep": false,
// MANIFEST-NEXT: "saved_bytes": 6144,
// MANIFEST: "name": "head",
// MANIFEST: "kernel": "product_bf16_bf16t_64"
func.func @step(%x: tensor<16x32xf32> {mpt.name = "x", mpt.kind = #mpt.kind<input>},
                %w: tensor<48x32xf32> {mpt.name = "w", mpt.kind = #mpt.kind<parameter>},
                %b: tensor<48xf32> {mpt.name = "b", mpt.kind = #mpt.kind<parameter>},
                %v: tensor<48x64xf32> {mpt.name = "v", mpt.kind = #mpt.kind<parameter>})
    -> (tensor<16x64xf32> {mpt.name = "y"}) {
  %0 = mpt.cast %x {mpt.name = "x/cast.bf16"} : (tensor<16x32xf32>) -> tensor<16x32xf32, #mpt.format<bf16>>
  %1 = mpt.cast %w {mpt.name = "w/cast.bf16"} : (tensor<48x32xf32>) -> tensor<48x32xf32, #mpt.format<bf16>>
  %2 = mpt.matmul %0, %1 {mpt.name = "layer", role = #mpt.role<fprop>, transpose_rhs} : (tensor<16x32xf32, #mpt.format<bf16>>, tensor<48x32xf32, #mpt.format<bf16>>) -> tensor<16x48xf32>
  %3 = mpt.add %2, %b {mpt.name = "layer.add"} : (tensor<16x48xf32>, tensor<48xf32>) -> tensor<16x48xf32>
  %4 = mpt.gelu %3 {mpt.name = "layer.gelu"} : (tensor<16x48xf32>) -> tensor<16x48xf32>
  %5 = mpt.cast %4 {mpt.name = "layer.gelu/cast.bf16"} : (tensor<16x48xf32>) -> tensor<16x48xf32, #mpt.format<bf16>>
  %6 = mpt.cast %v {mpt.name = "v/cast.bf16"} : (tensor<48x64xf32>) -> tensor<48x64xf32, #mpt.format<bf16>>
  %7 = mpt.matmul %5, %6 {mpt.name = "head", role = #mpt.role<fprop>} : (tensor<16x48xf32, #mpt.format<bf16>>, tensor<48x64xf32, #mpt.format<bf16>>) -> tensor<16x64xf32>
  return %7 : tensor<16x64xf32>
}
