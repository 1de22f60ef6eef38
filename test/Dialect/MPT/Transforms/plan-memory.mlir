// Buffers share the arena where their lives do not overlap; state is updated in
// place; a result takes the place of an argument that dies.
// RUN: mpt-opt %s --mpt-plan-memory="print=true" -split-input-file -verify-diagnostics | FileCheck %s

// Three values of 128 bytes, never more than two of them live.
// CHECK: func.func @step
// CHECK-SAME: mpt.arena_bytes = 256 : i64, mpt.live_bytes = 256 : i64
func.func @step(%x: tensor<4x8xf32>, %w: tensor<8x8xf32>) -> (tensor<4x8xf32> {mpt.name = "y"}) {
  // expected-remark @+1 {{product 'a' (argument0+0, argument1+0) -> (arena+0)}}
  %0 = mpt.matmul %x, %w {mpt.name = "a"} : (tensor<4x8xf32>, tensor<8x8xf32>) -> tensor<4x8xf32>
  // expected-remark @+1 {{product 'b' (arena+0, argument1+0) -> (arena+128)}}
  %1 = mpt.matmul %0, %w {mpt.name = "b"} : (tensor<4x8xf32>, tensor<8x8xf32>) -> tensor<4x8xf32>
  // expected-remark @+1 {{product 'c' (arena+128, argument1+0) -> (arena+0)}}
  %2 = mpt.matmul %1, %w {mpt.name = "c"} : (tensor<4x8xf32>, tensor<8x8xf32>) -> tensor<4x8xf32>
  return %2 : tensor<4x8xf32>
}

// -----

// The kernel writes over the product that it reads last, and over its state.
func.func private @kernel_0(%p: tensor<4x8xf32>, %s: tensor<4x8xf32>) -> (tensor<4x8xf32>, tensor<4x8xf32>) attributes {mpt.kernel} {
  %0 = mpt.exp %p : (tensor<4x8xf32>) -> tensor<4x8xf32>
  %1 = mpt.add %s, %p : (tensor<4x8xf32>, tensor<4x8xf32>) -> tensor<4x8xf32>
  return %0, %1 : tensor<4x8xf32>, tensor<4x8xf32>
}
// CHECK: func.func @step
// CHECK-SAME: mpt.arena_bytes = 128 : i64
func.func @step(%x: tensor<4x8xf32>, %w: tensor<8x8xf32>, %s: tensor<4x8xf32> {mpt.kind = #mpt.kind<optimizer_state>})
    -> (tensor<4x8xf32> {mpt.name = "y"}, tensor<4x8xf32> {mpt.name = "s", mpt.alias = 2 : i64}) {
  // expected-remark @+1 {{product 'a' (argument0+0, argument1+0) -> (arena+0)}}
  %0 = mpt.matmul %x, %w {mpt.name = "a"} : (tensor<4x8xf32>, tensor<8x8xf32>) -> tensor<4x8xf32>
  // expected-remark @+1 {{kernel 'k' (arena+0, argument2+0) -> (arena+0, argument2+0)}}
  %1:2 = call @kernel_0(%0, %s) {mpt.name = "k"} : (tensor<4x8xf32>, tensor<4x8xf32>) -> (tensor<4x8xf32>, tensor<4x8xf32>)
  return %1#0, %1#1 : tensor<4x8xf32>, tensor<4x8xf32>
}
