//===- GemmInstances.cu - Own products under nvcc -------------------------===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// The products that a transformer's step needs, for the compiler of the GPU:
// all formats, tile shapes and epilogues that GemmTest.cpp runs in simulation.
// The test compiles them and fails if ptxas spills, serialises wgmma or ignores
// setmaxnreg. It links without libcuda, so a machine without a driver will do.
//
//===----------------------------------------------------------------------===//

#include "mpt/CUDA/Gemm.h"
#include "mpt/CUDA/HopperAttentionGrad.h"

using namespace mpt::gemm;
using mpt::num::Format;

namespace {

template <typename C, typename Epilogue>
void product(const void *a, const void *b, Args args,
             const Epilogue &epilogue) {
  Operands operands;
  std::string error = describe<C>(operands, a, args.k, b, args.k, args);
  if (!error.empty())
    mpt::fail(error);
  run<C>("product", operands, args, epilogue, 132, nullptr);
}

/// Instructions that no kernel uses yet: they assemble.
__global__ void __launch_bounds__(128)
    instructions(const __grid_constant__ mpt::TensorMap map, float *out) {
  MPT_SHARED_DYN(unsigned char, tile);
  MPT_SHARED(uint64_t, barrier, 1);
  if (threadIdx.x == 0) {
    mpt::initBarrier(barrier, 1);
    mpt::fenceBarrierInit();
    mpt::expectBytes(barrier, 8192);
    mpt::copyTile(tile, &map, 0, 0, 0, barrier);
    mpt::arrive(barrier);
  }
  mpt::arriveNamed(1, 256);
  mpt::syncNamed(2, 128);
  mpt::wait(barrier, 0);
  const uint64_t operand = mpt::operandDescriptor(tile, 1024, 8192);
  float d[32];
  mpt::fenceMma();
  mpt::issueMma<Format::BF16, Format::BF16, 64, true, true>(d, operand, operand,
                                                            false);
  mpt::commitMma();
  mpt::waitMma<0>(d);
  out[threadIdx.x] = d[0];
  if (threadIdx.x == 0) {
    mpt::storeTile(&map, 0, 0, 0, tile);
    mpt::commitStores();
    mpt::waitStores<0>();
  }
}

/// Attention and its gradient, with and without dropout.
template <int HeadSize, bool Drops, typename Out, typename Grad>
void attention(const void *a, const mpt::attention::Args<Out> &args,
               const mpt::attention::GradArgs<Grad> &gradArgs) {
  mpt::attention::Forward<HeadSize, Drops, Out> forward;
  mpt::attention::Gradient<HeadSize, Drops, Out, Grad> gradient;
  const mpt::attention::Operand qkv = {a, 3072, 3072 * 512};
  std::string error =
      forward.prepare({"attention", 64, qkv, qkv, qkv, args}) +
      gradient.prepare({"attention/grad",
                        64,
                        qkv,
                        qkv,
                        qkv,
                        {args.out, 1024, 1024 * 512},
                        {static_cast<const uint16_t *>(a), 1024, 1024 * 512},
                        gradArgs});
  if (!error.empty())
    mpt::fail(error);
  forward.run(nullptr);
  gradient.run(nullptr);
}

} // namespace

/// Never called: names every product.
MPT_EXPORT void instantiate(const void *a, const void *b, Args args,
                            const float *f32, const uint16_t *bf16, float *to,
                            uint16_t *toBF16, mpt::TensorMap map,
                            mpt::attention::Args<uint16_t> heads,
                            mpt::attention::Args<float> headsF32,
                            mpt::attention::GradArgs<uint16_t> grad,
                            mpt::attention::GradArgs<float> gradF32) {
  StoreFP8<Format::E4M3> e4m3 = {{}, map};
  StoreTransposedFP8<Format::E4M3> e4m3T = {{}, map};
  StoreFP8<Format::E5M2> e5m2 = {{}, map};
  StoreTransposedFP8<Format::E5M2> e5m2T = {{}, map};
  mpt::launch("instructions", instructions, 1, 128, 8192, nullptr, map, to);
  // Linear layer with GELU: pre-activation in BF16, result in FP8 both ways.
  product<Config<Format::E4M3, Format::E4M3, 128, 4, true>>(
      a, b, args,
      chain(AddBias{{}, f32}, Store<uint16_t>{{}, toBF16, args.n}, Gelu{},
            Amax{{}, to}, ScaleBy{{}, f32}, e4m3, e4m3T));
  product<Config<Format::E4M3, Format::E4M3, 128, 4, false>>(
      a, b, args,
      chain(AddBias{{}, f32}, Store<uint16_t>{{}, toBF16, args.n}, Gelu{},
            Amax{{}, to}, ScaleBy{{}, f32}, e4m3, e4m3T));
  // Its input gradient behind GELU.
  product<Config<Format::E5M2, Format::E4M3, 128, 4, true>>(
      a, b, args,
      chain(GeluGrad<uint16_t>{{}, bf16, args.n}, ColumnSums{{}, to},
            Amax{{}, to}, ScaleBy{{}, f32}, e5m2, e5m2T));
  // Weight gradients, and products that are only added to.
  product<Config<Format::E4M3, Format::E5M2, 128, 5, true>>(
      a, b, args, chain(Store<float>{{}, to, args.n}));
  product<Config<Format::E5M2, Format::E5M2, 128, 5, true>>(
      a, b, args, chain(Store<float>{{}, to, args.n}));
  product<Config<Format::E4M3, Format::E4M3, 256, 4, false>>(
      a, b, args,
      chain(AddBias{{}, f32}, AddResidual<float>{{}, f32, args.n},
            Store<float>{{}, to, args.n}));
  product<Config<Format::BF16, Format::BF16, 128, 6, false>>(
      a, b, args,
      chain(AddBias{{}, f32}, AddResidual<uint16_t>{{}, bf16, args.n},
            Store<uint16_t>{{}, toBF16, args.n}));
  product<Config<Format::BF16, Format::BF16, 64, 6, false>>(
      a, b, args, chain(RowSums{{}, to}, Store<float>{{}, to, args.n}));
  attention<64, true>(a, heads, gradF32);
  attention<64, false>(a, heads, grad);
  attention<32, true>(a, headsF32, gradF32);
  attention<80, true>(a, heads, grad);
  attention<96, true>(a, heads, gradF32);
  attention<128, true>(a, heads, gradF32);
}
