// The stage, the target and the table that the pass expects.
// RUN: mpt-opt %s --split-input-file --verify-diagnostics --mpt-choose-products
// RUN: echo 'func.func @step() { return }' > %t.mlir
// RUN: not mpt-opt %t.mlir --mpt-choose-products=target=abacus 2>&1 | FileCheck %s --check-prefix=TARGET
// RUN: not mpt-opt %t.mlir --mpt-choose-products=tuning=%t.none 2>&1 | FileCheck %s --check-prefix=TABLE
// TARGET: error: mpt-choose-products: {{.*}}abacus
// TABLE: error: mpt-choose-products: tuning table '{{.*}}.none' cannot be read

// expected-error@+1 {{mpt-choose-products expects a function @step}}
module {}
