//===- SampleStep.cu - A small step as the CUDA back end writes it --------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// One linear layer in FP8 with a softmax behind it and an embedding gradient:
// every construct that emitted sources use, once. Compiled by nvcc (build check
// only) and by the host compiler against the simulator (run by SampleStepTest).
//
//===----------------------------------------------------------------------===//

#include "mpt/CUDA/Port.h"
#include "mpt/CUDA/Products.h"

namespace {

constexpr int64_t rows = 48, inner = 64, columns = 80, vocabulary = 24;

/// out[i] = x[i]·scale + bias[i mod columns]: a thread an element.
__global__ void scaleAndBias(const float *__restrict__ x,
                             const float *__restrict__ bias,
                             float *__restrict__ out, float scale,
                             int64_t count) {
  for (int64_t i = mpt::gridThreadId(); i < count; i += mpt::gridThreads())
    out[i] = x[i] * scale + __ldg(bias + i % columns);
}

/// Row maximum and sum of differences to it: a warp a row.
__global__ void __launch_bounds__(128)
    centre(const float *__restrict__ x, float *__restrict__ out, int64_t n) {
  int64_t row = mpt::gridWarpId();
  if (row >= rows)
    return;
  const float *from = x + row * n;
  float largest = -INFINITY;
  for (int64_t i = mpt::laneId(); i < n; i += 32)
    largest = mpt::num::maxOf(largest, from[i]);
  largest = mpt::warpMax(largest);
  float sum = 0.0f;
  for (int64_t i = mpt::laneId(); i < n; i += 32)
    sum = sum + (from[i] - largest);
  sum = mpt::warpSum(sum);
  for (int64_t i = mpt::laneId(); i < n; i += 32)
    out[row * n + i] = (from[i] - largest) / sum;
}

/// gradient[id[row]][column] += x[row][column], rows ascending: a thread owns a
/// column, so that the order of the sum is fixed without atomics.
__global__ void scatterRows(const float *__restrict__ x,
                            const int64_t *__restrict__ ids,
                            float *__restrict__ gradient) {
  int64_t column = mpt::gridThreadId();
  if (column >= columns)
    return;
  for (int64_t row = 0; row < rows; ++row) {
    float *to = gradient + ids[row] * columns + column;
    *to = *to + x[row * columns + column];
  }
}

/// Largest magnitude of all elements: block reduction, then one atomic.
__global__ void amax(const float *__restrict__ x, float *__restrict__ result,
                     int64_t count) {
  MPT_SHARED(float, partial, 8);
  float largest = 0.0f;
  for (int64_t i = mpt::gridThreadId(); i < count; i += mpt::gridThreads())
    largest = mpt::num::maxOf(largest, fabsf(x[i]));
  largest = mpt::warpMax(largest);
  if (mpt::laneId() == 0)
    partial[mpt::warpId()] = largest;
  __syncthreads();
  if (threadIdx.x == 0) {
    for (int i = 1; i < 8; ++i)
      largest = mpt::num::maxOf(largest, partial[i]);
    mpt::atomicAmax(result, largest);
  }
}

/// What stays between two calls.
struct State {
  mpt::Products products;
  cudaStream_t stream = nullptr;
  cudaGraphExec_t graph = nullptr;
  char *arena = nullptr;
};
State state;

/// Offsets in the arena.
enum : size_t {
  xAt = 0,                               // rows x inner, e4m3
  wAt = xAt + rows * inner,              // columns x inner, e4m3
  scaleAt = wAt + columns * inner,       // two f32, then amax
  biasAt = scaleAt + 256,                // columns f32
  idsAt = biasAt + columns * 4 + 192,    // rows i64
  yAt = idsAt + rows * 8 + 128,          // rows x columns f32
  zAt = yAt + rows * columns * 4,        // rows x columns f32
  gradientAt = zAt + rows * columns * 4, // vocabulary x columns f32
  arenaBytes = gradientAt + vocabulary * columns * 4
};

template <typename T> T *at(size_t offset) {
  return reinterpret_cast<T *>(state.arena + offset);
}

void enqueue() {
  cudaStream_t stream = state.stream;
  float *scales = at<float>(scaleAt);
  state.products.run(0, at<uint8_t>(xAt), at<uint8_t>(wAt), at<float>(yAt),
                     scales, scales + 1, stream);
  mpt::launch("dense/bias", scaleAndBias, mpt::blocksFor(rows * columns, 256),
              256, 0, stream, at<float>(yAt), at<float>(biasAt), at<float>(zAt),
              0.5f, rows * columns);
  mpt::launch("centre", centre, mpt::blocksFor(rows, 4), 128, 0, stream,
              at<float>(zAt), at<float>(yAt), columns);
  mpt::check(cudaMemsetAsync(at<float>(gradientAt), 0, vocabulary * columns * 4,
                             stream),
             "clear gradient");
  mpt::launch("embedding/wgrad", scatterRows, mpt::blocksFor(columns, 128), 128,
              0, stream, at<float>(yAt), at<int64_t>(idsAt),
              at<float>(gradientAt));
  mpt::check(cudaMemsetAsync(scales + 2, 0, 4, stream), "clear amax");
  mpt::launch("amax", amax, 3, 256, 0, stream, at<float>(yAt), scales + 2,
              rows * columns);
}

int finish() { return mpt::failed() ? 1 : 0; }

} // namespace

MPT_EXPORT const char *sample_error() {
  static std::string text;
  text = mpt::takeError();
  return text.c_str();
}

MPT_EXPORT int sample_load() {
  mpt::check(cudaMalloc(reinterpret_cast<void **>(&state.arena), arenaBytes),
             "arena");
  mpt::check(cudaStreamCreateWithFlags(&state.stream, cudaStreamNonBlocking),
             "stream");
  std::string error = state.products.open();
  if (!error.empty())
    mpt::fail(error);
  mpt::ProductDesc dense;
  dense.name = "dense/fprop";
  dense.m = rows, dense.n = columns, dense.k = inner;
  dense.a.type = dense.b.type = mpt::ProductType::E4M3;
  dense.b.transposed = true;
  dense.fastAccumulation = true;
  error = state.products.add(dense);
  if (!error.empty())
    mpt::fail(error);
  if (mpt::failed())
    return 1;
  mpt::nameBuffer(at<char>(yAt), rows * columns * 4, "y");
  mpt::nameBuffer(at<char>(zAt), rows * columns * 4, "z");
  mpt::nameBuffer(at<char>(gradientAt), vocabulary * columns * 4, "gradient");
  cudaGraph_t graph = nullptr;
  mpt::check(
      cudaStreamBeginCapture(state.stream, cudaStreamCaptureModeThreadLocal),
      "capture");
  enqueue();
  mpt::check(cudaStreamEndCapture(state.stream, &graph), "capture");
  if (mpt::failed())
    return 1;
  mpt::check(cudaGraphInstantiate(&state.graph, graph, 0), "instantiate");
  mpt::check(cudaGraphDestroy(graph), "graph");
  return finish();
}

MPT_EXPORT int sample_step(const uint8_t *x, const uint8_t *w,
                           const float *scales, const float *bias,
                           const int64_t *ids, float *y, float *gradient,
                           float *amaxOut) {
  cudaStream_t stream = state.stream;
  auto in = [&](size_t offset, const void *from, size_t bytes) {
    mpt::check(cudaMemcpyAsync(at<char>(offset), from, bytes,
                               cudaMemcpyHostToDevice, stream),
               "input");
  };
  auto out = [&](void *to, size_t offset, size_t bytes) {
    mpt::check(cudaMemcpyAsync(to, at<char>(offset), bytes,
                               cudaMemcpyDeviceToHost, stream),
               "output");
  };
  in(xAt, x, rows * inner);
  in(wAt, w, columns * inner);
  in(scaleAt, scales, 8);
  in(biasAt, bias, columns * 4);
  in(idsAt, ids, rows * 8);
  mpt::check(cudaGraphLaunch(state.graph, stream), "step");
  out(y, yAt, rows * columns * 4);
  out(gradient, gradientAt, vocabulary * columns * 4);
  out(amaxOut, scaleAt + 8, 4);
  mpt::check(cudaStreamSynchronize(stream), "step");
  return finish();
}

MPT_EXPORT int sample_close() {
  if (state.graph)
    cudaGraphExecDestroy(state.graph);
  state.products.close();
  if (state.stream)
    cudaStreamDestroy(state.stream);
  if (state.arena)
    mpt::check(cudaFree(state.arena), "arena");
  state.graph = nullptr, state.stream = nullptr, state.arena = nullptr;
  return finish();
}
