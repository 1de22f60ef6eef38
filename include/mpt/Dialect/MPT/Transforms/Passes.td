//===- Passes.td - passes on the mpt dialect ---------------*- tablegen -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Every pass on the dialect: why it exists, what it expects, what holds after.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_DIALECT_MPT_TRANSFORMS_PASSES
#define MPT_DIALECT_MPT_TRANSFORMS_PASSES

include "mlir/Pass/PassBase.td"

def Differentiate : Pass<"mpt-differentiate", "::mlir::ModuleOp"> {
  let summary = "append the gradient of the loss to the forward graph";
  let description = [{
    Expects one function `@forward` that returns a scalar f32 loss, without
    casts. Afterwards the function is `@gradient`: it returns the loss and, for
    each parameter in order, its gradient (`mpt.name` = the parameter's name).
    Work that no parameter depends on is never built. Products carry their role
    and the names `<forward name>/dgrad` and `/wgrad`.
  }];
}

def AddOptimizer : Pass<"mpt-add-optimizer", "::mlir::ModuleOp"> {
  let summary = "turn gradients into a training step with AdamW";
  let description = [{
    Expects `@gradient` as `--mpt-differentiate` leaves it. Afterwards the
    function is `@step`: it takes the moments (`optimizer_state`) and `lr`
    (`hyper`) besides, clips the gradients by their global norm, and returns
    loss, gradient norm, `skipped` and the updated state, each result aliased to
    its argument. Parameters of rank 1 or less take no weight decay. A non-finite
    gradient norm sets `skipped`, which leaves all state as it was.
  }];
  let options = [
    Option<"beta1", "beta1", "double", "0.9", "decay of the first moment">,
    Option<"beta2", "beta2", "double", "0.999", "decay of the second moment">,
    Option<"epsilon", "epsilon", "double", "1e-8", "added to the denominator">,
    Option<"weightDecay", "weight-decay", "double", "0.01",
           "decoupled decay of parameters of rank 2 or more">,
    Option<"maxGradNorm", "max-grad-norm", "double", "1.0",
           "global norm that gradients are clipped to; 0 leaves them">
  ];
}

def AttachMetrics : Pass<"mpt-attach-metrics", "::mlir::ModuleOp"> {
  let summary = "put measured errors on the products that they were measured on";
  let dependentDialects = ["::mpt::MPTDialect"];
  let description = [{
    Expects `@step` and a metrics file of the same graph: the file's hash is the
    module's `mpt.graph_hash`, which `--mpt-differentiate` sets and which no
    batch or sequence length changes. Afterwards every product carries
    `#mpt.metrics`: per candidate the worst point of training of every metric.
    Where the contraction was of another length when it was profiled, backward
    errors are rescaled by sqrt(K profiled / K here), and `rescaled` says so.
    Nothing is attached unless every product of the step is in the file.
  }];
  let options = [
    Option<"profile", "profile", "std::string", "\"\"",
           "metrics file (metrics.json)">
  ];
  let statistics = [
    Statistic<"numProducts", "products", "products that got metrics">,
    Statistic<"numRescaled", "rescaled", "products profiled at another K">
  ];
}

def ProbeKept : Pass<"mpt-probe-kept", "::mlir::ModuleOp"> {
  let summary = "choose at run time what the backward pass sees of kept tensors";
  let dependentDialects = ["::mpt::MPTDialect"];
  let description = [{
    Expects `@step` without casts. Each tensor that the forward pass computes and
    the backward pass reads again, by other ops than products, gets an argument
    `<name>/kept` (i64, `hyper`): at 0 the backward pass reads it as it is, at 1 held in
    BF16, at 2 in E4M3 with a current scale. The forward pass is the same at any
    of them. `mpt.kept` compares the gradients.

        %d = mpt.gelu_grad %x, %dy

    becomes

        %c = mpt.cast %x : (tensor<8x8xf32>) -> tensor<8x8xf32, #mpt.format<bf16>>
        %on = mpt.compare %which, %one
        %seen = mpt.select %on, %c, %x
        %d = mpt.gelu_grad %seen, %dy
  }];
  let statistics = [
    Statistic<"numTensors", "tensors", "kept tensors that got a switch">
  ];
}

def AssignPrecision : Pass<"assign-precision", "::mlir::ModuleOp"> {
  let summary = "give every product's operands a number format";
  let dependentDialects = ["::mpt::MPTDialect"];
  let description = [{
    Expects `@step` without casts, and for the policy `threshold` metrics on
    every product that no pin decides. Only inserts `mpt.cast`, directly behind
    the definition of what a product reads (through views that keep all
    elements), one per value and format; products then read the casts. The
    policies, the rules that overrule them and the decision record are described
    in docs/precision.md.

        %y = mpt.matmul %x, %w {mpt.name = "layer", metrics = #mpt.metrics<...>, ...}

    becomes

        %1 = mpt.cast %w {mpt.name = "layer.weight/cast.f8E4M3FN"} : ...
        %2 = mpt.cast %x {mpt.name = "x/cast.f8E4M3FN"} : ...
        %y = mpt.matmul %2, %1 {mpt.name = "layer", ...}
  }];
  let options = [
    Option<"policy", "policy", "::mpt::precision::PolicyKind",
           "::mpt::precision::PolicyKind::Threshold", "who decides", [{
      ::llvm::cl::values(
        clEnumValN(::mpt::precision::PolicyKind::Threshold, "threshold",
                   "cheapest candidate whose backward error is within its bound"),
        clEnumValN(::mpt::precision::PolicyKind::Budget, "budget",
                   "least predicted time under bounds on sums of errors"),
        clEnumValN(::mpt::precision::PolicyKind::Uniform, "uniform",
                   "FP8 in every linear layer but the loss head"),
        clEnumValN(::mpt::precision::PolicyKind::BF16, "bf16", "BF16 products"),
        clEnumValN(::mpt::precision::PolicyKind::FP32, "fp32", "no casts"))
    }]>,
    ListOption<"pins", "pin", "std::string",
               "PATTERN=FORMAT: products whose name matches get this format">,
    Option<"target", "target", "std::string",
           "::mpt::precision::kDefaultTarget",
           "machine that runs the step: h100, h200, a100, cpu-emulated or the "
           "path of a description">,
    Option<"tuning", "tuning", "std::string", "\"\"",
           "measured times of products on the target (JSON)">,
    Option<"price", "price-at", "std::string", "\"\"",
           "step of the same model at the size that times are predicted for">,
    Option<"lossMse", "loss-mse", "double", "-1",
           "budget: largest sum of loss_mse over the forward products">,
    Option<"noiseRatio", "noise-ratio", "double", "5e-2",
           "budget: largest sum of noise_ratio over the gradients' products">,
    Option<"persistent", "persistent", "double", "3e-2",
           "budget: largest sum of persistent over the gradients' products">,
    Option<"whereItPays", "where-it-pays", "bool", "false",
           "threshold: 8 bits only where that makes the step faster">,
    Option<"problem", "problem", "std::string", "\"\"",
           "budget: file to write the problem to (docs/budget.md)">,
    Option<"alignment", "alignment", "int64_t", "-1",
           "FP8 products need m, n and k to be multiples of this (-1: what the "
           "target says)">,
    Option<"kept", "kept", "::mpt::precision::KeptPolicy",
           "::mpt::precision::KeptPolicy::F32",
           "formats of what the backward pass reads again", [{
      ::llvm::cl::values(
        clEnumValN(::mpt::precision::KeptPolicy::F32, "f32", "f32"),
        clEnumValN(::mpt::precision::KeptPolicy::BF16, "bf16",
                   "BF16, but for what the loss reads"),
        clEnumValN(::mpt::precision::KeptPolicy::Auto, "auto",
                   "least bytes under kept-noise"))
    }]>,
    Option<"keptProfile", "kept-profile", "std::string", "\"\"",
           "measured errors of kept tensors (kept.json)">,
    Option<"keptNoise", "kept-noise", "double", "1e-3",
           "kept=auto: largest sum of noise ratios">,
    Option<"record", "record", "std::string", "\"\"",
           "decision record to write (decisions.json)">
  ];
  let statistics = [
    Statistic<"numCasts", "casts", "casts inserted">,
    Statistic<"numEightBit", "fp8", "products in FP8">
  ];
}

def MaterializeFormats : Pass<"mpt-materialize-formats", "::mlir::ModuleOp"> {
  let summary = "casts become scales and stored codes";
  let dependentDialects = ["::mpt::MPTDialect"];
  let description = [{
    Expects `@step` as `--assign-precision` leaves it. Every cast becomes
    `mpt.quantize` (`mpt.quantize_stochastic`) to its storage type. Its scale is
    that of the tensor's amax (`current`), a constant (`fixed`), or an argument of
    the kind `scale_state` (`delayed`), which a ring of the last amaxes updates at
    the end of the step. The amax is computed once per tensor, whatever it is cast
    to. Products that read casts become `mpt.scaled_matmul`, views are rebuilt on
    the storage types, and any other reader gets `mpt.dequantize`. Afterwards no
    type has an encoding.

    Casts saturate, so an infinity could go unseen: the step's result `skipped`,
    and with it the mask of all updates, becomes true where a tensor that is cast
    with a scale holds an infinity or a NaN. Delayed scales start from
    `mpt.amax`, which `--mpt-attach-metrics` puts on the products.

        %c = mpt.cast %x : ... -> tensor<4x4xf32, #mpt.format<f8E5M2, recipe = delayed>>

    becomes

        %inverse = mpt.div %one, %x_scale
        %c = mpt.quantize %x, %x_scale : ... -> tensor<4x4xf8E5M2>
  }];
  let options = [
    Option<"sentinels", "sentinels", "bool", "false",
           "return counts of what each scaled cast loses: saturated, flushed and "
           "non-finite elements">
  ];
  let statistics = [
    Statistic<"numCodes", "codes", "tensors that are quantized">,
    Statistic<"numScales", "scales", "scales that are computed">,
    Statistic<"numDelayed", "delayed", "scales that are kept between steps">
  ];
}

def CarryCasts : Pass<"mpt-carry-casts", "::mlir::ModuleOp"> {
  let summary = "low copies of parameters are made where the step before ends";
  let dependentDialects = ["::mpt::MPTDialect"];
  let description = [{
    A parameter's codes are known once it is updated: the kernel that updates it
    can write them, and the next step need not read it to cast it. Expects
    `@step` after `--mpt-materialize-formats` (and, for transposed copies,
    `--mpt-k-major`). What the step computes from parameters, scale state and
    constants alone to cast a parameter becomes arguments of the kind `derived`:
    codes, transposed copies, inverse scales, and the amaxes that histories and
    the flag want. The step returns them for the next one, from the updated
    state; `@init` computes them from the state as it is, before the first step
    and after a checkpoint or a parameter was loaded. No bit of any step changes.

    Stochastic casts stay, with a remark: they draw the random bits of their
    step. Casts of what is computed from a parameter stay too.

        func.func @step(%w: tensor<8x8xf32>, ...) {
          %c = mpt.quantize %w : (tensor<8x8xf32>) -> tensor<8x8xbf16>
          %y = mpt.scaled_matmul %x, %c : ...
          %u:3 = mpt.adamw %w, ...
          return %u#0

    becomes

        func.func @step(%w: tensor<8x8xf32>, ..., %c: tensor<8x8xbf16>) {
          %y = mpt.scaled_matmul %x, %c : ...
          %u:3 = mpt.adamw %w, ...
          %next = mpt.quantize %u#0 : (tensor<8x8xf32>) -> tensor<8x8xbf16>
          return %u#0, %next
  }];
  let statistics = [
    Statistic<"numCasts", "casts", "casts of parameters that leave the step">,
    Statistic<"numCarried", "carried", "derived arguments that they become">
  ];
}

def EmulateProducts : Pass<"mpt-emulate-products", "::mlir::ModuleOp"> {
  let summary = "low-precision products become f32 products of decoded operands";
  let description = [{
    For targets without low-precision products (the CPU). Expects `@step` after
    `--mpt-materialize-formats`. Every stored operand of a `mpt.scaled_matmul` is
    decoded once, for all products that read it, and the product becomes a
    `mpt.matmul` with the same name and role.
  }];
}

def KMajor : Pass<"mpt-k-major", "::mlir::ModuleOp"> {
  let summary = "FP8 operands contiguous along the contraction";
  let description = [{
    For targets whose FP8 products read both operands along K (cuBLASLt on
    sm_90: lhs [M, K], rhs [N, K]). Expects `@step` after
    `--mpt-materialize-formats`. Codes that a product reads the other way are
    transposed once, into a copy (`<name>/transposed`) that all such products
    share; batches folded into the contraction become part of K. Products of
    other formats stay as they are.

        %y = mpt.scaled_matmul %x, %w, %sx, %sw : [M, K], [K, N]

    becomes

        %0 = mpt.transpose %w : [K, N] -> [N, K]
        %1 = mpt.copy %0
        %y = mpt.scaled_matmul %x, %1, %sx, %sw {transpose_rhs}
  }];
  let statistics = [
    Statistic<"numCopies", "copies", "tensors of codes that are transposed">
  ];
}

def FormAttention : Pass<"mpt-form-attention", "::mlir::ModuleOp"> {
  let summary = "attention's products and what is between them become one op";
  let dependentDialects = ["::mpt::MPTDialect"];
  let description = [{
    For targets with a kernel that computes attention without storing its scores
    (CUDA). Expects `@step` after `--mpt-materialize-formats`. Where the products
    of attention have operands in BF16, the scores, their scale, the mask, the
    softmax, dropout and the context become `mpt.attention`; the four products
    of its gradient and what is between them become `mpt.attention_grad`, which
    computes the weights anew. Operands and results are views
    [batch, sequence, heads, head size] of what the linear layers read and write.
    A result that is only rounded to BF16 is computed in BF16.

    Attention that does not have this form (other formats, another reader of the
    probabilities, sizes without a kernel) stays as it is; a remark names its
    product of the context and says why.

        %s = mpt.scaled_matmul %q, %k {transpose_rhs}
        %0 = mpt.mul %s, %scale
        %1 = mpt.add %0, %mask
        %2 = mpt.softmax %1
        %p = mpt.quantize %2
        %o = mpt.scaled_matmul %p, %v

    becomes

        %o, %row_max, %log_sum = mpt.attention %q, %k, %v, %mask {scale}
  }];
  let statistics = [
    Statistic<"numFormed", "attentions", "attentions that became one op">,
    Statistic<"numGradients", "gradients", "gradients that became one op">,
    Statistic<"numLeft", "left", "attentions that stayed decomposed">
  ];
}

def Decompose : Pass<"mpt-decompose", "::mlir::ModuleOp"> {
  let summary = "composite ops and general reductions become primitives";
  let description = [{
    Afterwards the module holds no composite op (softmax, layer_norm,
    cross_entropy), and every `mpt.reduce` is one of the two that kernels run:
    along the last axis, or over axis 0 of the chunk sums that
    `mpt.reduce_chunks` leaves. The order of summation is fixed here, for every
    target.
  }];
}

def Fuse : Pass<"mpt-fuse", "::mlir::ModuleOp"> {
  let summary = "group elementwise and row-wise ops into kernels, shared by layers";
  let description = [{
    Expects `@step` without composite ops. Ops over the same rows and columns
    that feed each other become one private function with the unit attribute
    `mpt.kernel`; equal kernels are shared. Afterwards `@step` holds kernel
    calls, products, scatters and views only.
  }];
  let statistics = [
    Statistic<"numCalls", "kernel-calls", "kernel launches in the step">,
    Statistic<"numKernels", "kernels", "distinct kernels">
  ];
}

def ChooseProducts : Pass<"mpt-choose-products", "::mlir::ModuleOp"> {
  let summary = "our kernel or cuBLASLt, product by product";
  let description = [{
    For CUDA. Expects `@step` as `--mpt-fuse` leaves it. Every product gets
    `mpt.implementation`, `own` (include/mpt/CUDA/Gemm.h) or `cublaslt`, and
    `mpt.reason`. Our kernels take products in FP8 and BF16 that are no batch;
    with `products=auto`, those that are faster: as measured where `tuning` has
    times of both, else as predicted for `target`.

        %y = mpt.scaled_matmul %x, %w : (tensor<256x128xbf16>, tensor<128x512xbf16>) -> tensor<256x512xf32>

    gets

        {mpt.implementation = "own", mpt.reason = "predicted: own 2.1 us, cublaslt 2.1 us"}
  }];
  let options = [
    Option<"products", "products", "::mpt::ProductEngine",
           "::mpt::ProductEngine::Auto", "who multiplies", [{
      ::llvm::cl::values(
        clEnumValN(::mpt::ProductEngine::Own, "own",
                   "our kernels, but for products that they do not take"),
        clEnumValN(::mpt::ProductEngine::CublasLt, "cublaslt", "cuBLASLt"),
        clEnumValN(::mpt::ProductEngine::Auto, "auto", "the faster one"))
    }]>,
    Option<"target", "target", "std::string",
           "::mpt::precision::kDefaultTarget", "machine that runs the step">,
    Option<"tuning", "tuning", "std::string", "\"\"",
           "measured times of products on the target (JSON)">
  ];
  let statistics = [
    Statistic<"numOwn", "own", "products of our kernels">,
    Statistic<"numCublasLt", "cublaslt", "products of cuBLASLt">
  ];
}

def FuseEpilogues : Pass<"mpt-fuse-epilogues", "::mlir::ModuleOp"> {
  let summary = "products of our kernels take in the kernel behind them";
  let description = [{
    Expects `@step` as `--mpt-choose-products` leaves it. A product that is
    `own` and whose result a kernel reads at the product's own rows and columns
    becomes one `mpt.fused_matmul` with that kernel. What needs whole rows
    (layer norm, softmax) stays a kernel; who else reads the product keeps it in
    memory.

        %0 = mpt.scaled_matmul %x, %w {mpt.implementation = "own"}
        %y = call @kernel_3(%0, %bias)

    becomes

        %y = mpt.fused_matmul %x, %w, %bias {epilogue = @kernel_3, position = 0 : i64}
  }];
  let options = [Option<"remarks", "remarks", "bool", "false",
                        "say why a kernel behind an own product stays one">];
  let statistics = [Statistic<"numFused", "fused", "products with an epilogue">];
}

def PlanMemory : Pass<"mpt-plan-memory", "::mlir::ModuleOp"> {
  let summary = "give the step's values places in one arena";
  let description = [{
    Expects `@step` as `--mpt-fuse` leaves it. Plans buffers and launches
    (`StepPlan`, which every target prints), verifies the plan, and records
    `mpt.arena_bytes` and `mpt.live_bytes` (the most bytes live at once, which
    no arena can undercut) on the function.
  }];
  let options = [
    Option<"print", "print", "bool", "false",
           "say of each launch what it reads and writes, and where">,
    Option<"group", "group", "bool", "false",
           "have independent launches of one kind share one">
  ];
  let statistics = [Statistic<"numLaunches", "launches", "launches in the step">];
}

def HoistTransposes : Pass<"mpt-hoist-transposes", "::mlir::ModuleOp"> {
  let summary = "transposes of a product's result move in front of its casts";
  let description = [{
    A product writes through a transpose of its result if nothing else reads it
    (merged heads). Casts stand right behind the product, so codes would be
    transposed instead, and what is read in both orders would be one kernel each.
    Expects `@step` after `--mpt-materialize-formats`, before `--mpt-decompose`.
    Where every reader of a product's result is the same transpose, a cast whose
    codes all go through it, or a maximum over all axes, they read the transposed
    result instead; then the same for a reshape behind it. Stochastic casts stay:
    their bits go by the element's index.

        %c = mpt.quantize %x, %scale
        %t = mpt.transpose %c {permutation = array<i64: 0, 2, 1, 3>}

    becomes

        %0 = mpt.transpose %x {permutation = array<i64: 0, 2, 1, 3>}
        %t = mpt.quantize %0, %scale
  }];
  let statistics = [
    Statistic<"numHoisted", "hoisted", "casts that follow a transpose now">
  ];
}

def FusionReport : Pass<"mpt-fusion-report", "::mlir::ModuleOp"> {
  let summary = "launches and bytes of the step, by layer";
  let description = [{
    Expects `@step` as `--mpt-fuse` leaves it, and changes nothing. Writes to
    stderr what each layer launches and moves (products, kernels, one-row
    kernels, passes that only cast, transpose or find an amax, the optimizer),
    then the stand-alone passes by name. The same figures are in CUDA manifests.
  }];
  let options = [Option<"list", "list", "bool", "false",
                        "say of each launch what it computes and moves">];
}

#endif // MPT_DIALECT_MPT_TRANSFORMS_PASSES
