// One kernel per shape of code, as it reads. python/tests/test_cuda_sim.py runs
// them, and those of test/Target/CPU/kernels.mlir, against the CPU's.
// RUN: rm -rf %t && mpt-build %s --kernels-only --target=cuda -o %t
// RUN: FileCheck %s --match-full-lines --strict-whitespace < %t/kernels.cu

//      CHECK:/// mul, gelu.
// CHECK-NEXT:/// 1 x 231, a thread an element.
// CHECK-NEXT:__global__ void __launch_bounds__(128)
// CHECK-NEXT:    elements_kernel(const float *in0, const float *__restrict__ in1,
// CHECK-NEXT:                    float *out0) {
// CHECK-NEXT:  const float x1 = in1[0];
// CHECK-NEXT:  for (int64_t c = mpt::gridThreadId(); c < 231; c += mpt::gridThreads()) {
// CHECK-NEXT:    const float x0 = in0[c];
// CHECK-NEXT:    const float mul2 = x0 * x1;
// CHECK-NEXT:    const float gelu3 = num::gelu(mul2);
// CHECK-NEXT:    out0[c] = gelu3;
// CHECK-NEXT:  }
// CHECK-NEXT:}
func.func private @elements(%x: tensor<3x7x11xf32>, %s: tensor<f32>) -> tensor<3x7x11xf32> attributes {mpt.kernel} {
  %0 = mpt.mul %x, %s : (tensor<3x7x11xf32>, tensor<f32>) -> tensor<3x7x11xf32>
  %1 = mpt.gelu %0 : (tensor<3x7x11xf32>) -> tensor<3x7x11xf32>
  return %1 : tensor<3x7x11xf32>
}

//      CHECK:/// max of row, sub, exp, sum of row, div.
// CHECK-NEXT:/// 40 x 100, a warp a row.
// CHECK-NEXT:__global__ void __launch_bounds__(128)
// CHECK-NEXT:    softmax_kernel(const float *in0, float *out0) {
// CHECK-NEXT:  const int64_t row = mpt::gridWarpId();
// CHECK-NEXT:  if (row >= 40)
// CHECK-NEXT:    return;
// CHECK-NEXT:  MPT_SHARED_DYN(float, shared);
// CHECK-NEXT:  float *const kept3 = shared + mpt::warpId() * 128;
// CHECK-NEXT:  float max1 = -INFINITY;
// CHECK-NEXT:  for (int64_t c = mpt::laneId(); c < 100; c += 32) {
// CHECK-NEXT:    const float x0 = in0[row * 100 + c];
// CHECK-NEXT:    max1 = num::maxOf(max1, x0);
// CHECK-NEXT:  }
// CHECK-NEXT:  max1 = mpt::warpMax(max1);
// CHECK-NEXT:  float sum4 = 0.0f;
// CHECK-NEXT:  for (int64_t c = mpt::laneId(); c < 100; c += 32) {
// CHECK-NEXT:    const float x0 = in0[row * 100 + c];
// CHECK-NEXT:    const float sub2 = x0 - max1;
// CHECK-NEXT:    const float exp3 = num::exp(sub2);
// CHECK-NEXT:    sum4 = sum4 + exp3;
// CHECK-NEXT:    kept3[c] = exp3;
// CHECK-NEXT:  }
// CHECK-NEXT:  sum4 = mpt::warpSum(sum4);
// CHECK-NEXT:  for (int64_t c = mpt::laneId(); c < 100; c += 32) {
// CHECK-NEXT:    const float exp3 = kept3[c];
// CHECK-NEXT:    const float div5 = exp3 / sum4;
// CHECK-NEXT:    out0[row * 100 + c] = div5;
// CHECK-NEXT:  }
// CHECK-NEXT:}
func.func private @softmax(%x: tensor<40x100xf32>) -> tensor<40x100xf32> attributes {mpt.kernel} {
  %0 = mpt.reduce %x {kind = #mpt.reduction<max>, axes = array<i64: 1>} : (tensor<40x100xf32>) -> tensor<40x1xf32>
  %1 = mpt.sub %x, %0 : (tensor<40x100xf32>, tensor<40x1xf32>) -> tensor<40x100xf32>
  %2 = mpt.exp %1 : (tensor<40x100xf32>) -> tensor<40x100xf32>
  %3 = mpt.reduce %2 {kind = #mpt.reduction<sum>, axes = array<i64: 1>} : (tensor<40x100xf32>) -> tensor<40x1xf32>
  %4 = mpt.div %2, %3 : (tensor<40x100xf32>, tensor<40x1xf32>) -> tensor<40x100xf32>
  return %4 : tensor<40x100xf32>
}

//      CHECK:/// mul, chunk sums.
// CHECK-NEXT:/// 100 x 48, a thread a column of 64 rows.
// CHECK-NEXT:__global__ void __launch_bounds__(64)
// CHECK-NEXT:    columns_kernel(const float *__restrict__ in0, const float *__restrict__ in1,
// CHECK-NEXT:                   float *__restrict__ out0) {
// CHECK-NEXT:  const int64_t c = mpt::gridThreadId();
// CHECK-NEXT:  if (c >= 48)
// CHECK-NEXT:    return;
// CHECK-NEXT:  const int64_t chunk = blockIdx.y;
// CHECK-NEXT:  const int64_t begin = 64 * chunk;
// CHECK-NEXT:  const int64_t end = begin + 64 < 100 ? begin + 64 : 100;
// CHECK-NEXT:  float sum0 = 0.0f;
// CHECK-NEXT:  for (int64_t row = begin; row < end; ++row) {
// CHECK-NEXT:    const float x1 = in1[row];
// CHECK-NEXT:    const float x0 = in0[row * 48 + c];
// CHECK-NEXT:    const float mul2 = x0 * x1;
// CHECK-NEXT:    sum0 = sum0 + mul2;
// CHECK-NEXT:  }
// CHECK-NEXT:  out0[chunk * 48 + c] = sum0;
// CHECK-NEXT:}
func.func private @columns(%x: tensor<100x48xf32>, %s: tensor<100x1xf32>) -> tensor<2x48xf32> attributes {mpt.kernel} {
  %0 = mpt.mul %x, %s : (tensor<100x48xf32>, tensor<100x1xf32>) -> tensor<100x48xf32>
  %1 = mpt.reduce_chunks %0 : (tensor<100x48xf32>) -> tensor<2x48xf32>
  return %1 : tensor<2x48xf32>
}

// Codes are unsigned integers; transposed ones turn in shared memory and leave
// in pieces of 16 bytes.
//      CHECK:/// copy.
// CHECK-NEXT:/// 16 x 32, a block 64 rows, some columns at a time.
// CHECK-NEXT:__global__ void __launch_bounds__(256)
// CHECK-NEXT:    transposed_kernel(const uint8_t *__restrict__ in0,
// CHECK-NEXT:                      uint8_t *__restrict__ out0) {
// CHECK-NEXT:  const int64_t begin = 64 * blockIdx.x;
// CHECK-NEXT:  const int64_t end = begin + 64 < 16 ? begin + 64 : 16;
// CHECK-NEXT:  MPT_SHARED_DYN(float, shared);
// CHECK-NEXT:  uint8_t *const turned0 = reinterpret_cast<uint8_t *>(shared);
// CHECK-NEXT:  for (int64_t row = begin + mpt::warpId(); row < end; row += 8) {
// CHECK-NEXT:    for (int64_t c = mpt::laneId(); c < 32; c += 32) {
// CHECK-NEXT:      const uint32_t x0 = in0[row * 32 + c];
// CHECK-NEXT:      turned0[c * 68 + row - begin] = static_cast<uint8_t>(x0);
// CHECK-NEXT:    }
// CHECK-NEXT:  }
// CHECK-NEXT:  __syncthreads();
// CHECK-NEXT:  for (int64_t i = threadIdx.x; i < 32 * 4; i += 256) {
// CHECK-NEXT:    const int64_t c = i / 4;
// CHECK-NEXT:    const int64_t row = begin + i % 4 * 16;
// CHECK-NEXT:    mpt::storePiece(turned0 + c * 68 + row - begin, out0 + row + c * 16,
// CHECK-NEXT:                    end - row);
// CHECK-NEXT:  }
// CHECK-NEXT:}
func.func private @transposed(%x: tensor<16x32xf8E4M3FN>) -> tensor<32x16xf8E4M3FN> attributes {mpt.kernel} {
  %0 = mpt.transpose %x {permutation = array<i64: 1, 0>} : (tensor<16x32xf8E4M3FN>) -> tensor<32x16xf8E4M3FN>
  %1 = mpt.copy %0 : (tensor<32x16xf8E4M3FN>) -> tensor<32x16xf8E4M3FN>
  return %1 : tensor<32x16xf8E4M3FN>
}

// Sums over rows that are also reduced along: the warps of a block take a row
// each, then threads add the rows of their columns.
//      CHECK:/// mul, sum of row, mul, chunk sums.
// CHECK-NEXT:/// 70 x 40, a block 64 rows, a warp a row at a time.
//      CHECK:  for (int64_t first = begin; first < end; first += 8) {
// CHECK-NEXT:    const int64_t row = first + mpt::warpId();
// CHECK-NEXT:    if (row < end) {
//      CHECK:        stage0[mpt::warpId() * 40 + c] = mul3;
//      CHECK:    __syncthreads();
//      CHECK:        sums0[c] = sums0[c] + stage0[r * 40 + c];
//      CHECK:    __syncthreads();
//      CHECK:    out0[chunk * 40 + c] = sums0[c];
func.func private @both(%x: tensor<70x40xf32>) -> tensor<2x40xf32> attributes {mpt.kernel} {
  %0 = mpt.mul %x, %x : (tensor<70x40xf32>, tensor<70x40xf32>) -> tensor<70x40xf32>
  %1 = mpt.reduce %0 {kind = #mpt.reduction<sum>, axes = array<i64: 1>} : (tensor<70x40xf32>) -> tensor<70x1xf32>
  %2 = mpt.mul %x, %1 : (tensor<70x40xf32>, tensor<70x1xf32>) -> tensor<70x40xf32>
  %3 = mpt.reduce_chunks %2 : (tensor<70x40xf32>) -> tensor<2x40xf32>
  return %3 : tensor<2x40xf32>
}

// A kept row of more than 48 KiB: one warp a block.
//      CHECK:  mpt::launch("wide", wide_kernel, 3, 32, 50048, nullptr,
func.func private @wide(%x: tensor<3x12500xf32>) -> tensor<3x12500xf32> attributes {mpt.kernel} {
  %0 = mpt.exp %x : (tensor<3x12500xf32>) -> tensor<3x12500xf32>
  %1 = mpt.reduce %0 {kind = #mpt.reduction<sum>, axes = array<i64: 1>} : (tensor<3x12500xf32>) -> tensor<3x1xf32>
  %2 = mpt.div %0, %1 : (tensor<3x12500xf32>, tensor<3x1xf32>) -> tensor<3x12500xf32>
  return %2 : tensor<3x12500xf32>
}

// Two of them do not fit: values are computed anew.
//      CHECK:  mpt::launch("wider", wider_kernel, 1, 96, 0, nullptr,
func.func private @wider(%x: tensor<3x16000xf32>) -> tensor<3x16000xf32> attributes {mpt.kernel} {
  %0 = mpt.exp %x : (tensor<3x16000xf32>) -> tensor<3x16000xf32>
  %1 = mpt.tanh %x : (tensor<3x16000xf32>) -> tensor<3x16000xf32>
  %2 = mpt.reduce %0 {kind = #mpt.reduction<sum>, axes = array<i64: 1>} : (tensor<3x16000xf32>) -> tensor<3x1xf32>
  %3 = mpt.reduce %1 {kind = #mpt.reduction<absmax>, axes = array<i64: 1>} : (tensor<3x16000xf32>) -> tensor<3x1xf32>
  %4 = mpt.div %0, %2 : (tensor<3x16000xf32>, tensor<3x1xf32>) -> tensor<3x16000xf32>
  %5 = mpt.mul %1, %3 : (tensor<3x16000xf32>, tensor<3x1xf32>) -> tensor<3x16000xf32>
  %6 = mpt.add %4, %5 : (tensor<3x16000xf32>, tensor<3x16000xf32>) -> tensor<3x16000xf32>
  return %6 : tensor<3x16000xf32>
}

// Rows that are too wide to stay in shared memory: reductions first, then the
// columns tile by tile; maxima that are not done wait in shared memory.
//      CHECK:/// 130 x 4097, a block 64 rows, some columns at a time.
//      CHECK:  for (int64_t row = begin + mpt::warpId(); row < end; row += 8) {
//      CHECK:    if (mpt::laneId() == 0) {
// CHECK-NEXT:      sum[[SUM:[0-9]+]]Rows[row - begin] = sum[[SUM]];
//      CHECK:  __syncwarp();
//      CHECK:  for (int64_t first = 0; first < 4097; first += 128) {
//      CHECK:      const float sum[[SUM]] = sum[[SUM]]Rows[row - begin];
//      CHECK:      if (last < 4097) {
// CHECK-NEXT:        absmax[[MAX:[0-9]+]]Lanes[(row - begin) * 32 + mpt::laneId()] = absmax[[MAX]];
// CHECK-NEXT:        continue;
//      CHECK:      absmax[[MAX]] = mpt::warpMax(absmax[[MAX]]);
//      CHECK:    __syncthreads();
//      CHECK:        out2[row + c * 130] = turned2[(c - first) * 68 + row - begin];
func.func private @tiles(%x: tensor<130x4097xf32>, %s: tensor<f32>) -> (tensor<130x1xf32>, tensor<130x4097xf8E5M2>, tensor<4097x130xf8E5M2>, tensor<3x4097xf32>) attributes {mpt.kernel} {
  %0 = mpt.exp %x : (tensor<130x4097xf32>) -> tensor<130x4097xf32>
  %1 = mpt.reduce %0 {kind = #mpt.reduction<sum>, axes = array<i64: 1>} : (tensor<130x4097xf32>) -> tensor<130x1xf32>
  %2 = mpt.div %0, %1 : (tensor<130x4097xf32>, tensor<130x1xf32>) -> tensor<130x4097xf32>
  %3 = mpt.reduce %2 {kind = #mpt.reduction<absmax>, axes = array<i64: 1>} : (tensor<130x4097xf32>) -> tensor<130x1xf32>
  %4 = mpt.quantize %2, %s : (tensor<130x4097xf32>, tensor<f32>) -> tensor<130x4097xf8E5M2>
  %5 = mpt.transpose %4 {permutation = array<i64: 1, 0>} : (tensor<130x4097xf8E5M2>) -> tensor<4097x130xf8E5M2>
  %6 = mpt.copy %5 : (tensor<4097x130xf8E5M2>) -> tensor<4097x130xf8E5M2>
  %7 = mpt.reduce_chunks %2 : (tensor<130x4097xf32>) -> tensor<3x4097xf32>
  return %3, %4, %6, %7 : tensor<130x1xf32>, tensor<130x4097xf8E5M2>, tensor<4097x130xf8E5M2>, tensor<3x4097xf32>
}
