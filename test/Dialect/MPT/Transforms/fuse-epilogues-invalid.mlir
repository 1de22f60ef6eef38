// The stage that the pass expects.
// RUN: mpt-opt %s --split-input-file --verify-diagnostics --mpt-fuse-epilogues

// expected-error@+1 {{mpt-fuse-epilogues expects a function @step}}
module {}
