// The model of a kernel: domain, nodes, phases, results.
// RUN: mpt-opt %s -split-input-file --test-mpt-kernel-model -o /dev/null 2>&1 | FileCheck %s

// Without broadcasting, all elements are one row.
// CHECK-LABEL: remark: 1 x 131072 in {{[0-9]+}} tasks of 1 x {{[0-9]+}}
// CHECK: remark: #0 = argument 0 [0 + c*1] phase 0
// CHECK: remark: #1 = argument 1 [0] per row phase 0
// CHECK: remark: #2 = mpt.mul #0 #1 phase 0
// CHECK: remark: #3 = mpt.gelu #2 phase 0
// CHECK: remark: phase 0: stores
// CHECK: remark: result 0: full #3:0, may be argument 0
func.func private @flattened(%x: tensor<16x8192xf32>, %s: tensor<f32>) -> tensor<16x8192xf32> attributes {mpt.kernel} {
  %0 = mpt.mul %x, %s : (tensor<16x8192xf32>, tensor<f32>) -> tensor<16x8192xf32>
  %1 = mpt.gelu %0 : (tensor<16x8192xf32>) -> tensor<16x8192xf32>
  return %1 : tensor<16x8192xf32>
}

// -----

// Softmax: three phases. The masked scores are cheap to compute again, the
// exponentials are kept.
// CHECK-LABEL: remark: 48 x 45 in
// CHECK: remark: #0 = argument 0 [0 + r/1%48*45 + c*1] phase 0
// CHECK: remark: #1 = argument 1 [0 + r/12%4*45 + c*1] phase 0
// CHECK: remark: #2 = mpt.add #0 #1 phase 0
// CHECK: remark: #3 = mpt.reduce #2 per row phase 1
// CHECK: remark: #5 = mpt.exp #4 phase 1
// CHECK: remark: #6 = mpt.reduce #5 per row phase 2
// CHECK: remark: #7 = mpt.div #5 #6 phase 2
// CHECK: remark: phase 0: reduces #3{{$}}
// CHECK: remark: phase 1: reduces #6 keeps #5{{$}}
// CHECK: remark: phase 2: reuses #5 stores
// CHECK: remark: result 0: full #7:0, may be argument 0
func.func private @softmax(%x: tensor<4x12x45xf32>, %mask: tensor<4x1x45xf32>) -> tensor<4x12x45xf32> attributes {mpt.kernel} {
  %0 = mpt.add %x, %mask : (tensor<4x12x45xf32>, tensor<4x1x45xf32>) -> tensor<4x12x45xf32>
  %1 = mpt.reduce %0 {kind = #mpt.reduction<max>, axes = array<i64: 2>} : (tensor<4x12x45xf32>) -> tensor<4x12x1xf32>
  %2 = mpt.sub %0, %1 : (tensor<4x12x45xf32>, tensor<4x12x1xf32>) -> tensor<4x12x45xf32>
  %3 = mpt.exp %2 : (tensor<4x12x45xf32>) -> tensor<4x12x45xf32>
  %4 = mpt.reduce %3 {kind = #mpt.reduction<sum>, axes = array<i64: 2>} : (tensor<4x12x45xf32>) -> tensor<4x12x1xf32>
  %5 = mpt.div %3, %4 : (tensor<4x12x45xf32>, tensor<4x12x1xf32>) -> tensor<4x12x45xf32>
  return %5 : tensor<4x12x45xf32>
}

// -----

// Views are index arithmetic: rows are as long as one stride lasts. The result
// is not where the argument is read.
// CHECK-LABEL: remark: 48 x 16 in
// CHECK: remark: #0 = argument 0 [0 + r/1%8*48 + r/8%3*16 + r/24%2*384 + c*1] phase 0
// CHECK: remark: #1 = argument 1 [0 + r/8%3*16 + c*1] phase 0
// CHECK: remark: result 0: full #2:0{{$}}
func.func private @split_heads(%x: tensor<2x8x48xf32>, %b: tensor<48xf32>) -> tensor<2x3x8x16xf32> attributes {mpt.kernel} {
  %0 = mpt.add %x, %b : (tensor<2x8x48xf32>, tensor<48xf32>) -> tensor<2x8x48xf32>
  %1 = mpt.reshape %0 : (tensor<2x8x48xf32>) -> tensor<2x8x3x16xf32>
  %2 = mpt.transpose %1 {permutation = array<i64: 0, 2, 1, 3>} : (tensor<2x8x3x16xf32>) -> tensor<2x3x8x16xf32>
  return %2 : tensor<2x3x8x16xf32>
}

// -----

// Where a reduction settles the columns, a row may be made of segments.
// CHECK-LABEL: remark: 16 x 96 in
// CHECK: remark: #0 = argument 0 [0 + r/1%8*32 + r/8%2*768 + c/1%32*1 + c/32%3*256] phase 0
// CHECK: remark: result 0: per row #1:0
func.func private @segments(%x: tensor<2x3x8x32xf32>) -> tensor<16x1xf32> attributes {mpt.kernel} {
  %0 = mpt.transpose %x {permutation = array<i64: 0, 2, 1, 3>} : (tensor<2x3x8x32xf32>) -> tensor<2x8x3x32xf32>
  %1 = mpt.reshape %0 : (tensor<2x8x3x32xf32>) -> tensor<16x96xf32>
  %2 = mpt.reduce %1 {kind = #mpt.reduction<sum>, axes = array<i64: 1>} : (tensor<16x96xf32>) -> tensor<16x1xf32>
  return %2 : tensor<16x1xf32>
}

// -----

// Chunks of 64 rows; a slice of a table and a gather.
// CHECK-LABEL: remark: 130 x 64 in 3 tasks of 64 x 64
// CHECK: remark: #0 = argument 1 [0 + r/1%130*1] per row phase 0
// CHECK: remark: #1 = mpt.gather argument 0 [0 + c*1] + 64 * #0 phase 0
// CHECK: remark: #2 = argument 2 [128 + c*1] phase 0
// CHECK: remark: result 0: chunk #3:0{{$}}
// CHECK: remark: result 1: full #3:0{{$}}
func.func private @chunks(%t: tensor<100x64xf32>, %ids: tensor<130xi64>, %p: tensor<5x64xf32>) -> (tensor<3x64xf32>, tensor<130x64xf32>) attributes {mpt.kernel} {
  %0 = mpt.gather %t, %ids : (tensor<100x64xf32>, tensor<130xi64>) -> tensor<130x64xf32>
  %1 = mpt.slice %p {offsets = array<i64: 2, 0>} : (tensor<5x64xf32>) -> tensor<1x64xf32>
  %2 = mpt.add %0, %1 : (tensor<130x64xf32>, tensor<1x64xf32>) -> tensor<130x64xf32>
  %3 = mpt.reduce_chunks %2 : (tensor<130x64xf32>) -> tensor<3x64xf32>
  return %3, %2 : tensor<3x64xf32>, tensor<130x64xf32>
}
