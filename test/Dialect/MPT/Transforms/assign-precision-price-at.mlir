// Times are predicted for the sizes of another step of the same model: what does not pay at 64 rows
// pays at 32768. The step itself keeps its sizes.
// RUN: split-file %s %t
// RUN: mpt-opt %t/small.mlir --assign-precision='policy=budget loss-mse=1' | FileCheck %s --check-prefix=SMALL
// RUN: mpt-opt %t/small.mlir --assign-precision='policy=budget loss-mse=1 price-at=%t/large.mlir record=%t/a.json' | FileCheck %s --check-prefix=LARGE
// RUN: FileCheck %s --check-prefix=RECORD < %t/a.json
// RUN: not mpt-opt %t/small.mlir --assign-precision='policy=bf16 price-at=%t/other.mlir' 2>&1 | FileCheck %s --check-prefix=OTHER
// RUN: not mpt-opt %t/small.mlir --assign-precision='policy=bf16 price-at=%t/names.mlir' 2>&1 | FileCheck %s --check-prefix=NAMES
// RUN: not mpt-opt %t/small.mlir --assign-precision='policy=bf16 price-at=%t/none.mlir' 2>&1 | FileCheck %s --check-prefix=NONE

// SMALL-NOT: cast.f8
// LARGE: mpt.cast {{.*}}"x/cast.f8E4M3FN"} : (tensor<64x1024xf32>)
// RECORD: "m": 64
// RECORD: "priced": {
// RECORD-NEXT: "m": 32768
// OTHER: error: assign-precision: price-at: '{{.*}}other.mlir' has product 'layer' as dgrad, expected fprop
// NAMES: error: assign-precision: price-at: '{{.*}}names.mlir' has no product 'layer'
// NONE: error: assign-precision: price-at: '{{.*}}none.mlir' cannot be read

//--- small.mlir
#e4m3 = #mpt.format<f8E4M3FN>
module {
  func.func @step(%in: tensor<64x1024xf32> {mpt.name = "in"}, %w: tensor<1024x4096xf32> {mpt.name = "w"}) -> tensor<64x4096xf32> {
    %x = mpt.tanh %in {mpt.name = "x"} : (tensor<64x1024xf32>) -> tensor<64x1024xf32>
    %0 = mpt.matmul %x, %w {mpt.name = "layer", role = #mpt.role<fprop>,
        metrics = #mpt.metrics<m = 64, n = 4096, k = 1024, [
          #mpt.candidate<#e4m3, #e4m3, {be_median = 0.0 : f64, be_p99 = 0.0 : f64, loss_mse = 0.0 : f64}>]>}
        : (tensor<64x1024xf32>, tensor<1024x4096xf32>) -> tensor<64x4096xf32>
    return %0 : tensor<64x4096xf32>
  }
}
//--- large.mlir
module {
  func.func @step(%in: tensor<32768x1024xf32> {mpt.name = "in"}, %w: tensor<1024x4096xf32> {mpt.name = "w"}) -> tensor<32768x4096xf32> {
    %x = mpt.tanh %in {mpt.name = "x"} : (tensor<32768x1024xf32>) -> tensor<32768x1024xf32>
    %0 = mpt.matmul %x, %w {mpt.name = "layer", role = #mpt.role<fprop>}
        : (tensor<32768x1024xf32>, tensor<1024x4096xf32>) -> tensor<32768x4096xf32>
    return %0 : tensor<32768x4096xf32>
  }
}
//--- other.mlir
func.func @step(%x: tensor<64x64xf32> {mpt.name = "x"}) -> tensor<64x64xf32> {
  %0 = mpt.matmul %x, %x {mpt.name = "layer", role = #mpt.role<dgrad>} : (tensor<64x64xf32>, tensor<64x64xf32>) -> tensor<64x64xf32>
  return %0 : tensor<64x64xf32>
}
//--- names.mlir
func.func @step() { return }
