// The stage that the pass expects.
// RUN: mpt-opt %s --split-input-file --verify-diagnostics --mpt-fusion-report

// expected-error@+1 {{mpt-fusion-report expects a function @step}}
module {}
