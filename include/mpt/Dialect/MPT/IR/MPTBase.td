//===- MPTBase.td - the mpt dialect and its attributes -----*- tablegen -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// The dialect itself and the attributes that every op family shares: number
// formats (tensor encodings), argument kinds, product roles and metrics.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_DIALECT_MPT_IR_MPTBASE
#define MPT_DIALECT_MPT_IR_MPTBASE

include "mlir/IR/AttrTypeBase.td"
include "mlir/IR/EnumAttr.td"
include "mlir/IR/OpBase.td"
include "mlir/IR/TensorEncoding.td"

def MPT_Dialect : Dialect {
  let name = "mpt";
  let cppNamespace = "::mpt";
  let summary = "Training steps whose tensors carry number formats";
  let description = [{
    Ops of a transformer's training step on statically shaped tensors. Every op
    computes in f32 and yields f32; `mpt.cast` is the one op at which a value
    changes format. A format is a tensor encoding, so that differentiation,
    profiling and export see a plain f32 graph.

    Discardable attributes: `mpt.name` (stable name of an op, a function
    argument or a result), `mpt.kind` (what a function argument is),
    `mpt.alias` (a result updates that argument in place), `mpt.init` (what
    every element of a scale state starts as, default 1), `mpt.range` (half
    open range that an integer input must stay in), `mpt.ignore_index`,
    `mpt.amax` (on a product: the largest magnitudes of lhs and rhs in its
    profile; on a cast: that of its operand), `mpt.graph_hash` (on the module:
    which forward graph this is, as 16 hex digits), `mpt.implementation` and
    `mpt.reason` (on a product of a CUDA step: `own` or `cublaslt`, and why).
  }];
  let dependentDialects = ["::mlir::func::FuncDialect"];
  let useDefaultAttributePrinterParser = 1;
  let hasConstantMaterializer = 1;
  let hasOperationAttrVerify = 1;
  let hasRegionArgAttrVerify = 1;
  let hasRegionResultAttrVerify = 1;
}

//===----------------------------------------------------------------------===//
// Enums
//===----------------------------------------------------------------------===//

class MPT_Enum<string name, string summary, list<I32EnumAttrCase> cases>
    : I32EnumAttr<name, summary, cases> {
  let cppNamespace = "::mpt";
  let genSpecializedAttr = 0;
}

def MPT_Storage : MPT_Enum<"Storage", "how one element is held", [
  I32EnumAttrCase<"F32", 0, "f32">, I32EnumAttrCase<"BF16", 1, "bf16">,
  I32EnumAttrCase<"E4M3", 2, "f8E4M3FN">, I32EnumAttrCase<"E5M2", 3, "f8E5M2">,
  I32EnumAttrCase<"I8", 4, "i8">]>;
def MPT_Granularity : MPT_Enum<"Granularity", "what shares one scale", [
  I32EnumAttrCase<"None", 0, "none">,
  I32EnumAttrCase<"PerTensor", 1, "per_tensor">,
  I32EnumAttrCase<"PerRow", 2, "per_row">,
  I32EnumAttrCase<"PerColumn", 3, "per_column">,
  I32EnumAttrCase<"Block128", 4, "block128">]>;
def MPT_Recipe : MPT_Enum<"Recipe", "where a scale comes from", [
  I32EnumAttrCase<"None", 0, "none">, I32EnumAttrCase<"Current", 1, "current">,
  I32EnumAttrCase<"Delayed", 2, "delayed">,
  I32EnumAttrCase<"Fixed", 3, "fixed">]>;
def MPT_Rounding : MPT_Enum<"Rounding", "how a value is rounded", [
  I32EnumAttrCase<"Nearest", 0, "nearest">,
  I32EnumAttrCase<"Stochastic", 1, "stochastic">]>;
def MPT_KindEnum : MPT_Enum<"Kind", "what a function argument is", [
  I32EnumAttrCase<"Parameter", 0, "parameter">,
  I32EnumAttrCase<"OptimizerState", 1, "optimizer_state">,
  I32EnumAttrCase<"ScaleState", 2, "scale_state">,
  I32EnumAttrCase<"Derived", 3, "derived">,
  I32EnumAttrCase<"Input", 4, "input">, I32EnumAttrCase<"Label", 5, "label">,
  I32EnumAttrCase<"Rng", 6, "rng">, I32EnumAttrCase<"Hyper", 7, "hyper">]>;
def MPT_RoleEnum : MPT_Enum<"Role", "a product's role in training", [
  I32EnumAttrCase<"Fprop", 0, "fprop">, I32EnumAttrCase<"Dgrad", 1, "dgrad">,
  I32EnumAttrCase<"Wgrad", 2, "wgrad">]>;
def MPT_ReductionEnum : MPT_Enum<"Reduction", "an associative reduction", [
  I32EnumAttrCase<"Sum", 0, "sum">, I32EnumAttrCase<"Max", 1, "max">,
  I32EnumAttrCase<"AbsMax", 2, "absmax">]>;
def MPT_PredicateEnum : MPT_Enum<"Predicate", "a comparison", [
  I32EnumAttrCase<"EQ", 0, "eq">, I32EnumAttrCase<"NE", 1, "ne">,
  I32EnumAttrCase<"LT", 2, "lt">, I32EnumAttrCase<"LE", 3, "le">,
  I32EnumAttrCase<"GT", 4, "gt">, I32EnumAttrCase<"GE", 5, "ge">]>;

def MPT_KindAttr : EnumAttr<MPT_Dialect, MPT_KindEnum, "kind"> {
  let assemblyFormat = "`<` $value `>`";
}
def MPT_RoleAttr : EnumAttr<MPT_Dialect, MPT_RoleEnum, "role"> {
  let assemblyFormat = "`<` $value `>`";
}
def MPT_ReductionAttr : EnumAttr<MPT_Dialect, MPT_ReductionEnum, "reduction"> {
  let assemblyFormat = "`<` $value `>`";
}
def MPT_PredicateAttr : EnumAttr<MPT_Dialect, MPT_PredicateEnum, "predicate"> {
  let assemblyFormat = "`<` $value `>`";
}

//===----------------------------------------------------------------------===//
// Attributes
//===----------------------------------------------------------------------===//

class MPT_Attr<string name, string attrMnemonic, list<Trait> traits = []>
    : AttrDef<MPT_Dialect, name, traits> {
  let mnemonic = attrMnemonic;
}

def MPT_FormatAttr : MPT_Attr<"Format", "format",
    [DeclareAttrInterfaceMethods<VerifiableTensorEncoding>]> {
  let summary = "how a tensor's real values are held";
  let description = [{
    Storage type, scale granularity, scaling recipe and rounding. As a tensor
    encoding it says that the tensor's numbers are those that the format can
    hold. BF16 and F32 take no scale; FP8 and INT8 need one.

    `per_row` and `per_column` are those of the tensor that is cast: all
    elements of a row (last axis), or of a column, share a scale. `value` is the
    scale of the recipe `fixed`. A delayed scale is that of the largest amax of
    the last `history` steps, divided by 2^`margin`.

        #mpt.format<bf16>
        #mpt.format<f8E4M3FN, scale = per_tensor, recipe = current>
        #mpt.format<f8E4M3FN, scale = per_tensor, recipe = fixed, value = 1.600000e+01>
        #mpt.format<f8E5M2, scale = per_tensor, recipe = delayed, history = 16, margin = 1, rounding = stochastic>
  }];
  let parameters = (ins EnumParameter<MPT_Storage>:$storage,
                        EnumParameter<MPT_Granularity>:$scale,
                        EnumParameter<MPT_Recipe>:$recipe,
                        EnumParameter<MPT_Rounding>:$rounding,
                        APFloatParameter<"scale of the recipe fixed">:$value,
                        "int64_t":$history, "int64_t":$margin);
  let builders = [AttrBuilder<(ins "Storage":$storage), [{
    bool scaled = storage != Storage::F32 && storage != Storage::BF16;
    return get($_ctxt, storage,
               scaled ? Granularity::PerTensor : Granularity::None,
               scaled ? Recipe::Current : Recipe::None, Rounding::Nearest);
  }]>, AttrBuilder<(ins "Storage":$storage, "Granularity":$scale,
                        "Recipe":$recipe, "Rounding":$rounding), [{
    return $_get($_ctxt, storage, scale, recipe, rounding,
                 ::llvm::APFloat(1.0f), kDefaultHistory, int64_t(0));
  }]>];
  let hasCustomAssemblyFormat = 1;
  let genVerifyDecl = 1;
  let extraClassDeclaration = [{
    static constexpr int64_t kDefaultHistory = 1024;
    /// Longest history, and margins from its negative to itself.
    static constexpr int64_t kMaxHistory = 65536, kMaxMargin = 60;
    /// Whether values are multiplied by a scale before they are rounded.
    bool isScaled() const { return getScale() != Granularity::None; }
    /// Bytes of one stored element.
    unsigned getBytes() const;
  }];
}

def MPT_CandidateMetricsAttr : MPT_Attr<"CandidateMetrics", "candidate"> {
  let summary = "measured error of one product under one pair of formats";
  let description = [{
    Metric values by name as docs/metrics.md defines them (`be_median`,
    `be_p99`, ...), worst point of training.
  }];
  let parameters = (ins "FormatAttr":$lhs, "FormatAttr":$rhs,
                        "::mlir::DictionaryAttr":$values);
  let assemblyFormat = "`<` qualified($lhs) `,` qualified($rhs) `,` $values `>`";
}

def MPT_MetricsAttr : MPT_Attr<"Metrics", "metrics"> {
  let summary = "a product's profile";
  let description = [{
    The size at which the product was profiled and the metrics of every
    candidate that was measured.
  }];
  let parameters = (ins "int64_t":$m, "int64_t":$n, "int64_t":$k,
      ArrayRefParameter<"CandidateMetricsAttr">:$candidates);
  let assemblyFormat = [{
    `<` `m` `=` $m `,` `n` `=` $n `,` `k` `=` $k `,`
        `[` qualified($candidates) `]` `>`
  }];
  let genVerifyDecl = 1;
}

#endif // MPT_DIALECT_MPT_IR_MPTBASE
