// A metrics file of another graph, and graphs that the file does not cover.
// RUN: cd %S && mpt-opt %s --split-input-file --verify-diagnostics --mpt-attach-metrics=profile=Inputs/metrics.json

// expected-error@+1 {{Inputs/metrics.json: metrics of another graph: expected graph_hash 'fedcba9876543210', found '0123456789abcdef'}}
module attributes {mpt.graph_hash = "fedcba9876543210"} {
  func.func @step() { return }
}

// -----

// expected-error@+1 {{expects a module with 'mpt.graph_hash', which --mpt-differentiate sets}}
module {
  func.func @step() { return }
}

// -----

// expected-error@+1 {{'mpt.graph_hash' must be 16 lower-case hex digits, found "0123"}}
module attributes {mpt.graph_hash = "0123"} {
  func.func @step() { return }
}

// -----

module attributes {mpt.graph_hash = "0123456789abcdef"} {
  // expected-error@+1 {{Inputs/metrics.json: no metrics for 2 products: 'other', 'another'}}
  func.func @step(%x: tensor<16x16xf32>) {
    %0 = mpt.matmul %x, %x {mpt.name = "other", role = #mpt.role<fprop>} : (tensor<16x16xf32>, tensor<16x16xf32>) -> tensor<16x16xf32>
    %1 = mpt.matmul %x, %x {mpt.name = "layer", role = #mpt.role<fprop>} : (tensor<16x16xf32>, tensor<16x16xf32>) -> tensor<16x16xf32>
    %2 = mpt.matmul %x, %x {mpt.name = "another", role = #mpt.role<fprop>} : (tensor<16x16xf32>, tensor<16x16xf32>) -> tensor<16x16xf32>
    return
  }
}

// -----

module attributes {mpt.graph_hash = "0123456789abcdef"} {
  func.func @step(%x: tensor<16x16xf32>) {
    // expected-error@+1 {{named 'layer' is dgrad, but Inputs/metrics.json has it as fprop}}
    %0 = mpt.matmul %x, %x {mpt.name = "layer", role = #mpt.role<dgrad>} : (tensor<16x16xf32>, tensor<16x16xf32>) -> tensor<16x16xf32>
    return
  }
}

// -----

module attributes {mpt.graph_hash = "0123456789abcdef"} {
  func.func @step(%x: tensor<16x16xf32>) {
    // expected-error@+1 {{named 'layer' has no role; --mpt-differentiate gives it one}}
    %0 = mpt.matmul %x, %x {mpt.name = "layer"} : (tensor<16x16xf32>, tensor<16x16xf32>) -> tensor<16x16xf32>
    return
  }
}
