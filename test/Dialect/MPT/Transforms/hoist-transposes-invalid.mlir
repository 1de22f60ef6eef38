// The stage that the pass expects.
// RUN: mpt-opt %s --split-input-file --verify-diagnostics --mpt-hoist-transposes

// expected-error@+1 {{mpt-hoist-transposes expects a function @step}}
module {}
