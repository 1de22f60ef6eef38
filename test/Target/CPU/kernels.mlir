// RUN: mpt-build %s --kernels-only -o %t
// One kernel per shape of code: python/tests/test_kernels.py compiles this file
// and compares every kernel with NumPy.

func.func private @bias_gelu(%x: tensor<64x96xf32>, %b: tensor<96xf32>) -> tensor<64x96xf32> attributes {mpt.kernel} {
  %0 = mpt.add %x, %b : (tensor<64x96xf32>, tensor<96xf32>) -> tensor<64x96xf32>
  %1 = mpt.gelu %0 : (tensor<64x96xf32>) -> tensor<64x96xf32>
  return %1 : tensor<64x96xf32>
}

// Flattened: no broadcast.
func.func private @gelu_flat(%x: tensor<3x7x11xf32>, %s: tensor<f32>) -> tensor<3x7x11xf32> attributes {mpt.kernel} {
  %0 = mpt.mul %x, %s : (tensor<3x7x11xf32>, tensor<f32>) -> tensor<3x7x11xf32>
  %1 = mpt.gelu %0 : (tensor<3x7x11xf32>) -> tensor<3x7x11xf32>
  return %1 : tensor<3x7x11xf32>
}

func.func private @functions(%x: tensor<5x33xf32>) -> (tensor<5x33xf32>, tensor<5x33xf32>, tensor<5x33xf32>, tensor<5x33xf32>, tensor<5x33xf32>, tensor<5x33xf32>, tensor<5x33xf32>) attributes {mpt.kernel} {
  %exp = mpt.exp %x : (tensor<5x33xf32>) -> tensor<5x33xf32>
  %log = mpt.log %exp : (tensor<5x33xf32>) -> tensor<5x33xf32>
  %sqrt = mpt.sqrt %exp : (tensor<5x33xf32>) -> tensor<5x33xf32>
  %tanh = mpt.tanh %x : (tensor<5x33xf32>) -> tensor<5x33xf32>
  %erf = mpt.erf %x : (tensor<5x33xf32>) -> tensor<5x33xf32>
  %neg = mpt.neg %x : (tensor<5x33xf32>) -> tensor<5x33xf32>
  %dx = mpt.gelu_grad %x, %neg : (tensor<5x33xf32>, tensor<5x33xf32>) -> tensor<5x33xf32>
  return %exp, %log, %sqrt, %tanh, %erf, %neg, %dx : tensor<5x33xf32>, tensor<5x33xf32>, tensor<5x33xf32>, tensor<5x33xf32>, tensor<5x33xf32>, tensor<5x33xf32>, tensor<5x33xf32>
}

func.func private @softmax(%x: tensor<4x6x45xf32>, %mask: tensor<4x1x45xf32>) -> tensor<4x6x45xf32> attributes {mpt.kernel} {
  %scale = mpt.constant dense<0.125> : tensor<f32>
  %one = mpt.constant dense<1.0> : tensor<f32>
  %0 = mpt.mul %x, %scale : (tensor<4x6x45xf32>, tensor<f32>) -> tensor<4x6x45xf32>
  %1 = mpt.add %0, %mask : (tensor<4x6x45xf32>, tensor<4x1x45xf32>) -> tensor<4x6x45xf32>
  %2 = mpt.reduce %1 {kind = #mpt.reduction<max>, axes = array<i64: 2>} : (tensor<4x6x45xf32>) -> tensor<4x6x1xf32>
  %3 = mpt.sub %1, %2 : (tensor<4x6x45xf32>, tensor<4x6x1xf32>) -> tensor<4x6x45xf32>
  %4 = mpt.exp %3 : (tensor<4x6x45xf32>) -> tensor<4x6x45xf32>
  %5 = mpt.reduce %4 {kind = #mpt.reduction<sum>, axes = array<i64: 2>} : (tensor<4x6x45xf32>) -> tensor<4x6x1xf32>
  %6 = mpt.div %one, %5 : (tensor<f32>, tensor<4x6x1xf32>) -> tensor<4x6x1xf32>
  %7 = mpt.mul %4, %6 : (tensor<4x6x45xf32>, tensor<4x6x1xf32>) -> tensor<4x6x45xf32>
  return %7 : tensor<4x6x45xf32>
}

func.func private @layer_norm(%x: tensor<4x32x96xf32>, %g: tensor<96xf32>, %b: tensor<96xf32>) -> (tensor<4x32x96xf32>, tensor<4x32x1xf32>, tensor<4x32x1xf32>) attributes {mpt.kernel} {
  %n = mpt.constant dense<0.010416667> : tensor<f32>
  %eps = mpt.constant dense<1.0e-5> : tensor<f32>
  %one = mpt.constant dense<1.0> : tensor<f32>
  %0 = mpt.reduce %x {kind = #mpt.reduction<sum>, axes = array<i64: 2>} : (tensor<4x32x96xf32>) -> tensor<4x32x1xf32>
  %mean = mpt.mul %0, %n : (tensor<4x32x1xf32>, tensor<f32>) -> tensor<4x32x1xf32>
  %1 = mpt.sub %x, %mean : (tensor<4x32x96xf32>, tensor<4x32x1xf32>) -> tensor<4x32x96xf32>
  %2 = mpt.mul %1, %1 : (tensor<4x32x96xf32>, tensor<4x32x96xf32>) -> tensor<4x32x96xf32>
  %3 = mpt.reduce %2 {kind = #mpt.reduction<sum>, axes = array<i64: 2>} : (tensor<4x32x96xf32>) -> tensor<4x32x1xf32>
  %4 = mpt.mul %3, %n : (tensor<4x32x1xf32>, tensor<f32>) -> tensor<4x32x1xf32>
  %5 = mpt.add %4, %eps : (tensor<4x32x1xf32>, tensor<f32>) -> tensor<4x32x1xf32>
  %6 = mpt.sqrt %5 : (tensor<4x32x1xf32>) -> tensor<4x32x1xf32>
  %rstd = mpt.div %one, %6 : (tensor<f32>, tensor<4x32x1xf32>) -> tensor<4x32x1xf32>
  %7 = mpt.mul %1, %rstd : (tensor<4x32x96xf32>, tensor<4x32x1xf32>) -> tensor<4x32x96xf32>
  %8 = mpt.mul %7, %g : (tensor<4x32x96xf32>, tensor<96xf32>) -> tensor<4x32x96xf32>
  %y = mpt.add %8, %b : (tensor<4x32x96xf32>, tensor<96xf32>) -> tensor<4x32x96xf32>
  return %y, %mean, %rstd : tensor<4x32x96xf32>, tensor<4x32x1xf32>, tensor<4x32x1xf32>
}

// 150 rows: the last chunk is short; 70 columns: a tail.
func.func private @layer_norm_grad(%x: tensor<3x50x70xf32>, %g: tensor<70xf32>, %mean: tensor<3x50x1xf32>, %rstd: tensor<3x50x1xf32>, %dy: tensor<3x50x70xf32>) -> (tensor<3x50x70xf32>, tensor<3x70xf32>, tensor<3x70xf32>) attributes {mpt.kernel} {
  %n = mpt.constant dense<0.014285714> : tensor<f32>
  %0 = mpt.sub %x, %mean : (tensor<3x50x70xf32>, tensor<3x50x1xf32>) -> tensor<3x50x70xf32>
  %xhat = mpt.mul %0, %rstd : (tensor<3x50x70xf32>, tensor<3x50x1xf32>) -> tensor<3x50x70xf32>
  %dg = mpt.mul %dy, %g : (tensor<3x50x70xf32>, tensor<70xf32>) -> tensor<3x50x70xf32>
  %1 = mpt.reduce %dg {kind = #mpt.reduction<sum>, axes = array<i64: 2>} : (tensor<3x50x70xf32>) -> tensor<3x50x1xf32>
  %2 = mpt.mul %1, %n : (tensor<3x50x1xf32>, tensor<f32>) -> tensor<3x50x1xf32>
  %3 = mpt.mul %dg, %xhat : (tensor<3x50x70xf32>, tensor<3x50x70xf32>) -> tensor<3x50x70xf32>
  %4 = mpt.reduce %3 {kind = #mpt.reduction<sum>, axes = array<i64: 2>} : (tensor<3x50x70xf32>) -> tensor<3x50x1xf32>
  %5 = mpt.mul %4, %n : (tensor<3x50x1xf32>, tensor<f32>) -> tensor<3x50x1xf32>
  %6 = mpt.mul %xhat, %5 : (tensor<3x50x70xf32>, tensor<3x50x1xf32>) -> tensor<3x50x70xf32>
  %7 = mpt.sub %dg, %2 : (tensor<3x50x70xf32>, tensor<3x50x1xf32>) -> tensor<3x50x70xf32>
  %8 = mpt.sub %7, %6 : (tensor<3x50x70xf32>, tensor<3x50x70xf32>) -> tensor<3x50x70xf32>
  %dx = mpt.mul %rstd, %8 : (tensor<3x50x1xf32>, tensor<3x50x70xf32>) -> tensor<3x50x70xf32>
  %9 = mpt.mul %dy, %xhat : (tensor<3x50x70xf32>, tensor<3x50x70xf32>) -> tensor<3x50x70xf32>
  %10 = mpt.reshape %9 : (tensor<3x50x70xf32>) -> tensor<150x70xf32>
  %11 = mpt.reshape %dy : (tensor<3x50x70xf32>) -> tensor<150x70xf32>
  %dgamma = mpt.reduce_chunks %10 : (tensor<150x70xf32>) -> tensor<3x70xf32>
  %dbeta = mpt.reduce_chunks %11 : (tensor<150x70xf32>) -> tensor<3x70xf32>
  return %dx, %dgamma, %dbeta : tensor<3x50x70xf32>, tensor<3x70xf32>, tensor<3x70xf32>
}

func.func private @cross_entropy(%x: tensor<70x30522xf32>, %labels: tensor<70xi64>) -> (tensor<70x1xf32>, tensor<2x1xf32>, tensor<2x1xf32>) attributes {mpt.kernel} {
  %zero = mpt.constant dense<0.0> : tensor<f32>
  %one = mpt.constant dense<1.0> : tensor<f32>
  %ignored = mpt.constant dense<-100> : tensor<i64>
  %column = mpt.reshape %labels : (tensor<70xi64>) -> tensor<70x1xi64>
  %valid = mpt.compare %column, %ignored {predicate = #mpt.predicate<ne>} : (tensor<70x1xi64>, tensor<i64>) -> tensor<70x1xi1>
  %max = mpt.reduce %x {kind = #mpt.reduction<max>, axes = array<i64: 1>} : (tensor<70x30522xf32>) -> tensor<70x1xf32>
  %0 = mpt.sub %x, %max : (tensor<70x30522xf32>, tensor<70x1xf32>) -> tensor<70x30522xf32>
  %1 = mpt.exp %0 : (tensor<70x30522xf32>) -> tensor<70x30522xf32>
  %2 = mpt.reduce %1 {kind = #mpt.reduction<sum>, axes = array<i64: 1>} : (tensor<70x30522xf32>) -> tensor<70x1xf32>
  %3 = mpt.log %2 : (tensor<70x1xf32>) -> tensor<70x1xf32>
  %lse = mpt.add %max, %3 : (tensor<70x1xf32>, tensor<70x1xf32>) -> tensor<70x1xf32>
  %iota = mpt.iota : () -> tensor<1x30522xi64>
  %4 = mpt.compare %iota, %column {predicate = #mpt.predicate<eq>} : (tensor<1x30522xi64>, tensor<70x1xi64>) -> tensor<70x30522xi1>
  %5 = mpt.select %4, %x, %zero : (tensor<70x30522xi1>, tensor<70x30522xf32>, tensor<f32>) -> tensor<70x30522xf32>
  %6 = mpt.reduce %5 {kind = #mpt.reduction<sum>, axes = array<i64: 1>} : (tensor<70x30522xf32>) -> tensor<70x1xf32>
  %7 = mpt.sub %lse, %6 : (tensor<70x1xf32>, tensor<70x1xf32>) -> tensor<70x1xf32>
  %8 = mpt.select %valid, %7, %zero : (tensor<70x1xi1>, tensor<70x1xf32>, tensor<f32>) -> tensor<70x1xf32>
  %9 = mpt.select %valid, %one, %zero : (tensor<70x1xi1>, tensor<f32>, tensor<f32>) -> tensor<70x1xf32>
  %10 = mpt.reduce_chunks %8 : (tensor<70x1xf32>) -> tensor<2x1xf32>
  %11 = mpt.reduce_chunks %9 : (tensor<70x1xf32>) -> tensor<2x1xf32>
  return %lse, %10, %11 : tensor<70x1xf32>, tensor<2x1xf32>, tensor<2x1xf32>
}

// Scalars from chunk sums.
func.func private @mean_loss(%loss: tensor<2x1xf32>, %count: tensor<2x1xf32>) -> (tensor<f32>, tensor<f32>) attributes {mpt.kernel} {
  %0 = mpt.reduce %loss {kind = #mpt.reduction<sum>, axes = array<i64: 0>} : (tensor<2x1xf32>) -> tensor<1x1xf32>
  %1 = mpt.reduce %count {kind = #mpt.reduction<sum>, axes = array<i64: 0>} : (tensor<2x1xf32>) -> tensor<1x1xf32>
  %2 = mpt.div %0, %1 : (tensor<1x1xf32>, tensor<1x1xf32>) -> tensor<1x1xf32>
  %3 = mpt.reshape %2 : (tensor<1x1xf32>) -> tensor<f32>
  %4 = mpt.reshape %1 : (tensor<1x1xf32>) -> tensor<f32>
  return %3, %4 : tensor<f32>, tensor<f32>
}

func.func private @logits_grad(%x: tensor<70x999xf32>, %labels: tensor<70xi64>, %lse: tensor<70x1xf32>, %count: tensor<f32>) -> (tensor<70x999xf32>, tensor<2x999xf32>) attributes {mpt.kernel} {
  %zero = mpt.constant dense<0.0> : tensor<f32>
  %one = mpt.constant dense<1.0> : tensor<f32>
  %ignored = mpt.constant dense<-100> : tensor<i64>
  %column = mpt.reshape %labels : (tensor<70xi64>) -> tensor<70x1xi64>
  %valid = mpt.compare %column, %ignored {predicate = #mpt.predicate<ne>} : (tensor<70x1xi64>, tensor<i64>) -> tensor<70x1xi1>
  %0 = mpt.sub %x, %lse : (tensor<70x999xf32>, tensor<70x1xf32>) -> tensor<70x999xf32>
  %1 = mpt.exp %0 : (tensor<70x999xf32>) -> tensor<70x999xf32>
  %iota = mpt.iota : () -> tensor<1x999xi64>
  %2 = mpt.compare %iota, %column {predicate = #mpt.predicate<eq>} : (tensor<1x999xi64>, tensor<70x1xi64>) -> tensor<70x999xi1>
  %3 = mpt.select %2, %one, %zero : (tensor<70x999xi1>, tensor<f32>, tensor<f32>) -> tensor<70x999xf32>
  %4 = mpt.div %one, %count : (tensor<f32>, tensor<f32>) -> tensor<f32>
  %5 = mpt.select %valid, %4, %zero : (tensor<70x1xi1>, tensor<f32>, tensor<f32>) -> tensor<70x1xf32>
  %6 = mpt.sub %1, %3 : (tensor<70x999xf32>, tensor<70x999xf32>) -> tensor<70x999xf32>
  %7 = mpt.mul %6, %5 : (tensor<70x999xf32>, tensor<70x1xf32>) -> tensor<70x999xf32>
  %8 = mpt.reduce_chunks %7 : (tensor<70x999xf32>) -> tensor<2x999xf32>
  return %7, %8 : tensor<70x999xf32>, tensor<2x999xf32>
}

func.func private @dropout(%x: tensor<6x64xf32>, %r: tensor<6x64xf32>, %seed: tensor<i64>, %step: tensor<i64>, %id: tensor<i64>) -> tensor<6x64xf32> attributes {mpt.kernel} {
  %0 = mpt.dropout %x, %seed, %step, %id {keep_probability = 0.75 : f32} : (tensor<6x64xf32>, tensor<i64>, tensor<i64>, tensor<i64>) -> tensor<6x64xf32>
  %1 = mpt.add %0, %r : (tensor<6x64xf32>, tensor<6x64xf32>) -> tensor<6x64xf32>
  return %1 : tensor<6x64xf32>
}

// Rows of 35: no group of four elements begins a row. Transposed besides, so
// that an element is not where it is in memory.
func.func private @dropout_rows(%x: tensor<35x6xf32>, %b: tensor<35xf32>, %seed: tensor<i64>, %step: tensor<i64>, %id: tensor<i64>) -> tensor<6x35xf32> attributes {mpt.kernel} {
  %0 = mpt.transpose %x {permutation = array<i64: 1, 0>} : (tensor<35x6xf32>) -> tensor<6x35xf32>
  %1 = mpt.add %0, %b : (tensor<6x35xf32>, tensor<35xf32>) -> tensor<6x35xf32>
  %2 = mpt.dropout %1, %seed, %step, %id {keep_probability = 0.75 : f32} : (tensor<6x35xf32>, tensor<i64>, tensor<i64>, tensor<i64>) -> tensor<6x35xf32>
  return %2 : tensor<6x35xf32>
}

func.func private @adamw(%p: tensor<17x40xf32>, %g: tensor<17x40xf32>, %m: tensor<17x40xf32>, %v: tensor<17x40xf32>, %lr: tensor<f32>, %clip: tensor<f32>, %c1: tensor<f32>, %c2: tensor<f32>, %skip: tensor<i1>) -> (tensor<17x40xf32>, tensor<17x40xf32>, tensor<17x40xf32>) attributes {mpt.kernel} {
  %0:3 = mpt.adamw %p, %g, %m, %v, %lr, %clip, %c1, %c2, %skip {beta1 = 0.9 : f64, beta2 = 0.999 : f64, epsilon = 1.0e-8 : f64, weight_decay = 0.01 : f64} : (tensor<17x40xf32>, tensor<17x40xf32>, tensor<17x40xf32>, tensor<17x40xf32>, tensor<f32>, tensor<f32>, tensor<f32>, tensor<f32>, tensor<i1>) -> (tensor<17x40xf32>, tensor<17x40xf32>, tensor<17x40xf32>)
  return %0#0, %0#1, %0#2 : tensor<17x40xf32>, tensor<17x40xf32>, tensor<17x40xf32>
}

func.func private @amax_scale(%x: tensor<9x50xf32>) -> (tensor<9x1xf32>, tensor<9x1xf32>, tensor<9x1xf32>) attributes {mpt.kernel} {
  %0 = mpt.reduce %x {kind = #mpt.reduction<absmax>, axes = array<i64: 1>} : (tensor<9x50xf32>) -> tensor<9x1xf32>
  %scale, %inverse = mpt.scale %0 {storage = f8E4M3FN} : (tensor<9x1xf32>) -> (tensor<9x1xf32>, tensor<9x1xf32>)
  return %0, %scale, %inverse : tensor<9x1xf32>, tensor<9x1xf32>, tensor<9x1xf32>
}

func.func private @quantize(%x: tensor<4x80xf32>, %s: tensor<f32>) -> (tensor<4x80xf8E4M3FN>, tensor<4x80xf8E5M2>, tensor<4x80xi8>, tensor<4x80xbf16>) attributes {mpt.kernel} {
  %0 = mpt.quantize %x, %s : (tensor<4x80xf32>, tensor<f32>) -> tensor<4x80xf8E4M3FN>
  %1 = mpt.quantize %x, %s : (tensor<4x80xf32>, tensor<f32>) -> tensor<4x80xf8E5M2>
  %2 = mpt.quantize %x, %s : (tensor<4x80xf32>, tensor<f32>) -> tensor<4x80xi8>
  %3 = mpt.quantize %x : (tensor<4x80xf32>) -> tensor<4x80xbf16>
  return %0, %1, %2, %3 : tensor<4x80xf8E4M3FN>, tensor<4x80xf8E5M2>, tensor<4x80xi8>, tensor<4x80xbf16>
}

func.func private @dequantize(%a: tensor<256xf8E4M3FN>, %b: tensor<256xf8E5M2>, %c: tensor<256xi8>, %d: tensor<256xbf16>, %s: tensor<f32>) -> (tensor<256xf32>, tensor<256xf32>, tensor<256xf32>, tensor<256xf32>) attributes {mpt.kernel} {
  %0 = mpt.dequantize %a, %s : (tensor<256xf8E4M3FN>, tensor<f32>) -> tensor<256xf32>
  %1 = mpt.dequantize %b, %s : (tensor<256xf8E5M2>, tensor<f32>) -> tensor<256xf32>
  %2 = mpt.dequantize %c, %s : (tensor<256xi8>, tensor<f32>) -> tensor<256xf32>
  %3 = mpt.dequantize %d : (tensor<256xbf16>) -> tensor<256xf32>
  return %0, %1, %2, %3 : tensor<256xf32>, tensor<256xf32>, tensor<256xf32>, tensor<256xf32>
}

func.func private @embeddings(%words: tensor<100x64xf32>, %positions: tensor<16x64xf32>, %types: tensor<2x64xf32>, %ids: tensor<3x8xi64>, %type_ids: tensor<3x8xi64>, %g: tensor<64xf32>, %b: tensor<64xf32>) -> tensor<3x8x64xf32> attributes {mpt.kernel} {
  %n = mpt.constant dense<0.015625> : tensor<f32>
  %eps = mpt.constant dense<1.0e-5> : tensor<f32>
  %one = mpt.constant dense<1.0> : tensor<f32>
  %0 = mpt.gather %words, %ids : (tensor<100x64xf32>, tensor<3x8xi64>) -> tensor<3x8x64xf32>
  %1 = mpt.gather %types, %type_ids : (tensor<2x64xf32>, tensor<3x8xi64>) -> tensor<3x8x64xf32>
  %2 = mpt.slice %positions {offsets = array<i64: 4, 0>} : (tensor<16x64xf32>) -> tensor<8x64xf32>
  %3 = mpt.add %0, %1 : (tensor<3x8x64xf32>, tensor<3x8x64xf32>) -> tensor<3x8x64xf32>
  %x = mpt.add %3, %2 : (tensor<3x8x64xf32>, tensor<8x64xf32>) -> tensor<3x8x64xf32>
  %4 = mpt.reduce %x {kind = #mpt.reduction<sum>, axes = array<i64: 2>} : (tensor<3x8x64xf32>) -> tensor<3x8x1xf32>
  %mean = mpt.mul %4, %n : (tensor<3x8x1xf32>, tensor<f32>) -> tensor<3x8x1xf32>
  %5 = mpt.sub %x, %mean : (tensor<3x8x64xf32>, tensor<3x8x1xf32>) -> tensor<3x8x64xf32>
  %6 = mpt.mul %5, %5 : (tensor<3x8x64xf32>, tensor<3x8x64xf32>) -> tensor<3x8x64xf32>
  %7 = mpt.reduce %6 {kind = #mpt.reduction<sum>, axes = array<i64: 2>} : (tensor<3x8x64xf32>) -> tensor<3x8x1xf32>
  %8 = mpt.mul %7, %n : (tensor<3x8x1xf32>, tensor<f32>) -> tensor<3x8x1xf32>
  %9 = mpt.add %8, %eps : (tensor<3x8x1xf32>, tensor<f32>) -> tensor<3x8x1xf32>
  %10 = mpt.sqrt %9 : (tensor<3x8x1xf32>) -> tensor<3x8x1xf32>
  %rstd = mpt.div %one, %10 : (tensor<f32>, tensor<3x8x1xf32>) -> tensor<3x8x1xf32>
  %11 = mpt.mul %5, %rstd : (tensor<3x8x64xf32>, tensor<3x8x1xf32>) -> tensor<3x8x64xf32>
  %12 = mpt.mul %11, %g : (tensor<3x8x64xf32>, tensor<64xf32>) -> tensor<3x8x64xf32>
  %y = mpt.add %12, %b : (tensor<3x8x64xf32>, tensor<64xf32>) -> tensor<3x8x64xf32>
  return %y : tensor<3x8x64xf32>
}

func.func private @sum_chunks(%x: tensor<5x77xf32>, %s: tensor<f32>) -> tensor<77xf32> attributes {mpt.kernel} {
  %0 = mpt.reduce %x {kind = #mpt.reduction<sum>, axes = array<i64: 0>} : (tensor<5x77xf32>) -> tensor<1x77xf32>
  %1 = mpt.reshape %0 : (tensor<1x77xf32>) -> tensor<77xf32>
  %2 = mpt.mul %1, %s : (tensor<77xf32>, tensor<f32>) -> tensor<77xf32>
  return %2 : tensor<77xf32>
}

// Heads split after the bias, and the way back: views inside a kernel.
func.func private @split_heads(%x: tensor<2x8x48xf32>, %b: tensor<48xf32>) -> tensor<2x3x8x16xf32> attributes {mpt.kernel} {
  %0 = mpt.add %x, %b : (tensor<2x8x48xf32>, tensor<48xf32>) -> tensor<2x8x48xf32>
  %1 = mpt.reshape %0 : (tensor<2x8x48xf32>) -> tensor<2x8x3x16xf32>
  %2 = mpt.transpose %1 {permutation = array<i64: 0, 2, 1, 3>} : (tensor<2x8x3x16xf32>) -> tensor<2x3x8x16xf32>
  return %2 : tensor<2x3x8x16xf32>
}

func.func private @merge_heads(%x: tensor<2x3x8x16xf32>, %b: tensor<48xf32>) -> tensor<16x48xf32> attributes {mpt.kernel} {
  %0 = mpt.transpose %x {permutation = array<i64: 0, 2, 1, 3>} : (tensor<2x3x8x16xf32>) -> tensor<2x8x3x16xf32>
  %1 = mpt.reshape %0 : (tensor<2x8x3x16xf32>) -> tensor<16x48xf32>
  %2 = mpt.add %1, %b : (tensor<16x48xf32>, tensor<48xf32>) -> tensor<16x48xf32>
  return %2 : tensor<16x48xf32>
}

func.func private @logic(%a: tensor<7x40xf32>, %m: tensor<7x40xi1>, %i: tensor<40xi32>) -> (tensor<7x40xi1>, tensor<7x40xf32>, tensor<7x40xi64>) attributes {mpt.kernel} {
  %zero = mpt.constant dense<0.0> : tensor<f32>
  %0 = mpt.compare %a, %zero {predicate = #mpt.predicate<gt>} : (tensor<7x40xf32>, tensor<f32>) -> tensor<7x40xi1>
  %1 = mpt.not %m : (tensor<7x40xi1>) -> tensor<7x40xi1>
  %2 = mpt.and %0, %1 : (tensor<7x40xi1>, tensor<7x40xi1>) -> tensor<7x40xi1>
  %3 = mpt.broadcast %i : (tensor<40xi32>) -> tensor<7x40xi32>
  %4 = mpt.convert %3 : (tensor<7x40xi32>) -> tensor<7x40xf32>
  %5 = mpt.select %2, %4, %a : (tensor<7x40xi1>, tensor<7x40xf32>, tensor<7x40xf32>) -> tensor<7x40xf32>
  %6 = mpt.convert %5 : (tensor<7x40xf32>) -> tensor<7x40xi64>
  return %2, %5, %6 : tensor<7x40xi1>, tensor<7x40xf32>, tensor<7x40xi64>
}

// A reduction along rows that merged heads make of several segments, of 32
// columns (whole vectors) or of 16.
func.func private @merged_rows(%x: tensor<2x3x8x32xf32>) -> (tensor<16x96xf32>, tensor<16x1xf32>) attributes {mpt.kernel} {
  %0 = mpt.transpose %x {permutation = array<i64: 0, 2, 1, 3>} : (tensor<2x3x8x32xf32>) -> tensor<2x8x3x32xf32>
  %1 = mpt.reshape %0 : (tensor<2x8x3x32xf32>) -> tensor<16x96xf32>
  %2 = mpt.neg %1 : (tensor<16x96xf32>) -> tensor<16x96xf32>
  %3 = mpt.reduce %2 {kind = #mpt.reduction<sum>, axes = array<i64: 1>} : (tensor<16x96xf32>) -> tensor<16x1xf32>
  return %2, %3 : tensor<16x96xf32>, tensor<16x1xf32>
}

func.func private @merged_rows_short(%x: tensor<2x3x8x15xf32>) -> (tensor<16x45xf32>, tensor<16x1xf32>) attributes {mpt.kernel} {
  %0 = mpt.transpose %x {permutation = array<i64: 0, 2, 1, 3>} : (tensor<2x3x8x15xf32>) -> tensor<2x8x3x15xf32>
  %1 = mpt.reshape %0 : (tensor<2x8x3x15xf32>) -> tensor<16x45xf32>
  %2 = mpt.neg %1 : (tensor<16x45xf32>) -> tensor<16x45xf32>
  %3 = mpt.reduce %2 {kind = #mpt.reduction<sum>, axes = array<i64: 1>} : (tensor<16x45xf32>) -> tensor<16x1xf32>
  return %2, %3 : tensor<16x45xf32>, tensor<16x1xf32>
}
