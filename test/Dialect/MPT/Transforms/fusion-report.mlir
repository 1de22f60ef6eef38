// Launches and bytes by layer, and the passes that only cast by name.
// RUN: mpt-opt %s --mpt-fuse --mpt-fusion-report -o /dev/null 2>&1 | FileCheck %s
// RUN: mpt-opt %s --mpt-fuse --mpt-fusion-report=list -o /dev/null 2>&1 | FileCheck %s --check-prefix=LIST

// 4 x 8 numbers are 128 bytes as f32 and 64 as bf16. A scale's inverse is small;
// a table of 100 rows is read as far as it is taken.
// CHECK: layer.0: 4 launches, 972 bytes
// CHECK-NEXT: products 1, 512 bytes
// CHECK-NEXT: kernels 1, 260 bytes
// CHECK-NEXT: small 1, 8 bytes
// CHECK-NEXT: stand_alone 1, 192 bytes
// CHECK-NEXT: rest: 1 launches, 416 bytes
// CHECK-NEXT: kernels 1, 416 bytes
// CHECK-NEXT: stand_alone 'layer.0.dense/cast' reads 128, writes 64: quantize
// CHECK-NOT: :

// LIST: small 'layer.0.scale/inverse' reads 4, writes 4: div
// LIST-NEXT: kernels 'embedding' reads 160, writes 256: gather gelu
// LIST-NEXT: products 'layer.0.dense' reads 384, writes 128{{$}}
// LIST-NEXT: stand_alone 'layer.0.dense/cast' reads 128, writes 64: quantize
// LIST-NEXT: kernels 'layer.0.mul' reads 132, writes 128: mul
func.func @step(%t: tensor<100x8xf32>, %i: tensor<4xi64>, %w: tensor<8x8xf32>, %s: tensor<f32>)
    -> (tensor<4x8xf32>, tensor<4x8xbf16>, tensor<4x8xf32>, tensor<f32>) {
  %one = mpt.constant dense<1.0> : tensor<f32>
  %inverse = mpt.div %one, %s {mpt.name = "layer.0.scale/inverse"} : (tensor<f32>, tensor<f32>) -> tensor<f32>
  %x = mpt.gather %t, %i {mpt.name = "embedding"} : (tensor<100x8xf32>, tensor<4xi64>) -> tensor<4x8xf32>
  %y = mpt.matmul %x, %w {mpt.name = "layer.0.dense"} : (tensor<4x8xf32>, tensor<8x8xf32>) -> tensor<4x8xf32>
  %c = mpt.quantize %y {mpt.name = "layer.0.dense/cast"} : (tensor<4x8xf32>) -> tensor<4x8xbf16>
  %g = mpt.gelu %x {mpt.name = "layer.0.gelu"} : (tensor<4x8xf32>) -> tensor<4x8xf32>
  %m = mpt.mul %g, %inverse {mpt.name = "layer.0.mul"} : (tensor<4x8xf32>, tensor<f32>) -> tensor<4x8xf32>
  return %y, %c, %m, %inverse : tensor<4x8xf32>, tensor<4x8xbf16>, tensor<4x8xf32>, tensor<f32>
}
