// Malformed formats, metrics and attributes of functions.
// RUN: mpt-opt %s --verify-diagnostics --split-input-file

// expected-error @below {{a format annotates f32 tensors, found element type 'i32'}}
func.func private @of_integers(tensor<3xi32, #mpt.format<bf16>>)

// -----

// expected-error @below {{unknown storage 'bf17', expected f32, bf16, f8E4M3FN, f8E5M2 or i8}}
func.func private @storage(tensor<3xf32, #mpt.format<bf17>>)

// -----

// expected-error @below {{expected valid keyword}}
func.func private @empty(tensor<3xf32, #mpt.format<>>)

// -----

// expected-error @below {{expected valid keyword}}
func.func private @trailing_comma(tensor<3xf32, #mpt.format<bf16, >>)

// -----

// expected-error @below {{storage bf16 takes no scale, found scale = per_tensor}}
func.func private @scale_of_bf16(tensor<3xf32, #mpt.format<bf16, scale = per_tensor>>)

// -----

// expected-error @below {{storage bf16 takes no recipe, found recipe = current}}
func.func private @recipe_of_bf16(tensor<3xf32, #mpt.format<bf16, recipe = current>>)

// -----

// expected-error @below {{storage f8E4M3FN needs a scale, found scale = none}}
func.func private @no_scale(tensor<3xf32, #mpt.format<f8E4M3FN, scale = none>>)

// -----

// expected-error @below {{storage f8E4M3FN needs a recipe, found recipe = none}}
func.func private @no_recipe(tensor<3xf32, #mpt.format<f8E4M3FN, recipe = none>>)

// -----

// expected-error @below {{unknown format property 'margin = high'}}
func.func private @property(tensor<3xf32, #mpt.format<f8E4M3FN, margin = high>>)

// -----

// expected-error @below {{unknown format property 'scale = per_head'}}
func.func private @granularity(tensor<3xf32, #mpt.format<f8E4M3FN, scale = per_head>>)

// -----

// expected-error @below {{unknown attribute `shape` in dialect `mpt`}}
func.func private @unknown(tensor<3xf32, #mpt.shape<f8E4M3FN>>)

// -----

// expected-error @below {{a product's sizes are positive, found m = 0, n = 2, k = 3}}
func.func private @metrics_sizes() attributes {m = #mpt.metrics<m = 0, n = 2, k = 3, [#mpt.candidate<#mpt.format<bf16>, #mpt.format<bf16>, {}>]>}

// -----

// expected-error @+2 {{integer value too large}}
// expected-error @below {{failed to parse MPT_MetricsAttr parameter 'k' which is to be a `int64_t`}}
func.func private @metrics_number() attributes {m = #mpt.metrics<m = 1, n = 2, k = 99999999999999999999, []>}

// -----

// expected-error @+2 {{invalid kind of attribute specified}}
// expected-error @below {{failed to parse MPT_MetricsAttr parameter 'candidates' which is to be a `::llvm::ArrayRef<CandidateMetricsAttr>`}}
func.func private @metrics_candidate() attributes {m = #mpt.metrics<m = 1, n = 2, k = 3, [#mpt.format<bf16>]>}

// -----

// expected-error @+2 {{expected ::mpt::Kind to be one of: parameter, optimizer_state, scale_state, derived, input, label, rng, hyper}}
// expected-error @below {{failed to parse MPT_KindAttr parameter 'value' which is to be a `::mpt::Kind`}}
func.func private @kind(tensor<3xf32> {mpt.kind = #mpt.kind<weight>})

// -----

// expected-error @below {{'func.func' op argument 0: 'mpt.kind' must be a #mpt.kind, found "parameter"}}
func.func private @kind_text(tensor<3xf32> {mpt.kind = "parameter"})

// -----

// expected-error @below {{'func.func' op argument 0: 'mpt.name' must be a string, found 3 : i64}}
func.func private @name(tensor<3xf32> {mpt.name = 3 : i64})

// -----

func.func @op_name(%x: tensor<3xf32>) {
  // expected-error @below {{'mpt.exp' op 'mpt.name' must be a string, found 3 : i64}}
  %0 = mpt.exp %x {mpt.name = 3 : i64} : (tensor<3xf32>) -> tensor<3xf32>
  return
}

// -----

// expected-error @below {{'func.func' op result 0: 'mpt.name' must be a string, found 3 : i64}}
func.func private @result_name() -> (tensor<3xf32> {mpt.name = 3 : i64})

// -----

// expected-error @below {{'func.func' op argument 0: 'mpt.range' must be a half open range array<i64: low, high> with low < high, found array<i64: 4, 4>}}
func.func private @range(tensor<3xi64> {mpt.range = array<i64: 4, 4>})

// -----

// expected-error @below {{'func.func' op argument 0: 'mpt.range' must be a half open range array<i64: low, high> with low < high, found array<i64: 4>}}
func.func private @range_length(tensor<3xi64> {mpt.range = array<i64: 4>})

// -----

// expected-error @below {{'func.func' op argument 0: 'mpt.range' is for integer tensors, found 'tensor<3xf32>'}}
func.func private @range_of_floats(tensor<3xf32> {mpt.range = array<i64: 0, 4>})

// -----

// expected-error @below {{'func.func' op argument 0: 'mpt.ignore_index' must be an integer, found "none"}}
func.func private @ignore_index(tensor<3xi64> {mpt.ignore_index = "none"})

// -----

// expected-error @below {{'func.func' op result 0: 'mpt.alias' must be an integer on a func.func}}
func.func private @alias(tensor<3xf32>) -> (tensor<3xf32> {mpt.alias = "w"})

// -----

// expected-error @below {{'func.func' op result 0: 'mpt.alias' names argument 1, but there are 1}}
func.func private @alias_index(tensor<3xf32>) -> (tensor<3xf32> {mpt.alias = 1 : i64})

// -----

// expected-error @below {{'func.func' op result 0 of type 'tensor<3xf32>' cannot update argument 1 of type 'tensor<2xf32>'}}
func.func private @alias_type(tensor<3xf32>, tensor<2xf32>) -> (tensor<3xf32> {mpt.alias = 1 : i64})

// -----

// expected-error @+2 {{expected '<'}}
// expected-error @below {{failed to parse MPT_MetricsAttr parameter 'candidates' which is to be a `::llvm::ArrayRef<CandidateMetricsAttr>`}}
func.func private @metrics_empty() attributes {m = #mpt.metrics<m = 1, n = 2, k = 3, []>}

// -----

// expected-error @below {{'builtin.module' op 'mpt.graph_hash' must be 16 lower-case hex digits, found "0123456789ABCDEF"}}
module attributes {mpt.graph_hash = "0123456789ABCDEF"} {}

// -----

// expected-error @below {{'builtin.module' op 'mpt.graph_hash' must be 16 lower-case hex digits, found "0123"}}
module attributes {mpt.graph_hash = "0123"} {}

// -----

// expected-error @below {{'func.func' op results 0 and 1 both update argument 0}}
func.func private @alias_twice(tensor<3xf32>) -> (tensor<3xf32> {mpt.alias = 0 : i64}, tensor<3xf32> {mpt.alias = 0 : i64})

// -----

// expected-error @below {{'func.func' op argument 0: 'mpt.init' must be a float, found 1 : i64}}
func.func private @init(tensor<f32> {mpt.init = 1 : i64})
