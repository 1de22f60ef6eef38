// The stage that the pass expects.
// RUN: mpt-opt %s --split-input-file --verify-diagnostics --mpt-k-major

// expected-error@+1 {{mpt-k-major expects a function @step}}
module {}
