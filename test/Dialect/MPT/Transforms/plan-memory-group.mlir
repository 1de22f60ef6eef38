// Launches of one kind that do not depend on each other become one; what reads
// old state stays in front of its update.
// RUN: mpt-opt %s --mpt-plan-memory="group=true print=true" -split-input-file -verify-diagnostics -o /dev/null

func.func private @kernel_0(%s: tensor<8xf32>, %x: tensor<8xf32>) -> tensor<8xf32> attributes {mpt.kernel} {
  %0 = mpt.add %s, %x : (tensor<8xf32>, tensor<8xf32>) -> tensor<8xf32>
  return %0 : tensor<8xf32>
}
func.func private @kernel_1(%s: tensor<4x4xf32>, %x: tensor<4x4xf32>) -> tensor<4x4xf32> attributes {mpt.kernel} {
  %0 = mpt.sub %s, %x : (tensor<4x4xf32>, tensor<4x4xf32>) -> tensor<4x4xf32>
  return %0 : tensor<4x4xf32>
}
// Both states are updated in place, by one launch, when the second can be.
// expected-remark @+1 {{group 'a and 1 more' (argument0+0, argument2+0, argument1+0, arena+0) -> (argument0+0, argument1+0)}}
func.func @step(%s: tensor<8xf32> {mpt.kind = #mpt.kind<optimizer_state>}, %t: tensor<4x4xf32> {mpt.kind = #mpt.kind<optimizer_state>},
                %x: tensor<8xf32>, %w: tensor<4x4xf32>)
    -> (tensor<8xf32> {mpt.name = "s", mpt.alias = 0 : i64}, tensor<4x4xf32> {mpt.name = "t", mpt.alias = 1 : i64}) {
  %0 = call @kernel_0(%s, %x) {mpt.name = "a"} : (tensor<8xf32>, tensor<8xf32>) -> tensor<8xf32>
  // expected-remark @+1 {{product 'p' (argument3+0, argument3+0) -> (arena+0)}}
  %1 = mpt.matmul %w, %w {mpt.name = "p"} : (tensor<4x4xf32>, tensor<4x4xf32>) -> tensor<4x4xf32>
  %2 = call @kernel_1(%t, %1) {mpt.name = "b"} : (tensor<4x4xf32>, tensor<4x4xf32>) -> tensor<4x4xf32>
  return %0, %2 : tensor<8xf32>, tensor<4x4xf32>
}

// -----

// b needs a, through the product: they stay apart.
func.func private @kernel_0(%x: tensor<4x4xf32>) -> tensor<4x4xf32> attributes {mpt.kernel} {
  %0 = mpt.exp %x : (tensor<4x4xf32>) -> tensor<4x4xf32>
  return %0 : tensor<4x4xf32>
}
func.func @step(%x: tensor<4x4xf32>) -> (tensor<4x4xf32> {mpt.name = "y"}) {
  // expected-remark @+1 {{kernel 'a' (argument0+0) -> (arena+0)}}
  %0 = call @kernel_0(%x) {mpt.name = "a"} : (tensor<4x4xf32>) -> tensor<4x4xf32>
  // expected-remark @+1 {{product 'p' (arena+0, argument0+0) -> (arena+64)}}
  %1 = mpt.matmul %0, %x {mpt.name = "p"} : (tensor<4x4xf32>, tensor<4x4xf32>) -> tensor<4x4xf32>
  // expected-remark @+1 {{kernel 'b' (arena+64) -> (arena+64)}}
  %2 = call @kernel_0(%1) {mpt.name = "b"} : (tensor<4x4xf32>) -> tensor<4x4xf32>
  return %2 : tensor<4x4xf32>
}

// -----

// The second kernel reads the state that the first one updates: it runs before
// the update, so the update is in place, and both cannot be one launch.
func.func private @kernel_0(%x: tensor<8xf32>, %y: tensor<8xf32>) -> tensor<8xf32> attributes {mpt.kernel} {
  %0 = mpt.mul %x, %y : (tensor<8xf32>, tensor<8xf32>) -> tensor<8xf32>
  return %0 : tensor<8xf32>
}
func.func @step(%s: tensor<8xf32> {mpt.kind = #mpt.kind<optimizer_state>}, %x: tensor<8xf32>)
    -> (tensor<8xf32> {mpt.name = "y"}, tensor<8xf32> {mpt.name = "s", mpt.alias = 0 : i64}) {
  // expected-remark @+1 {{kernel 'reads' (argument0+0, argument1+0) -> (arena+0)}}
  %0 = call @kernel_0(%s, %x) {mpt.name = "reads"} : (tensor<8xf32>, tensor<8xf32>) -> tensor<8xf32>
  // expected-remark @+1 {{kernel 'updates' (argument0+0, argument1+0) -> (argument0+0)}}
  %1 = call @kernel_0(%s, %x) {mpt.name = "updates"} : (tensor<8xf32>, tensor<8xf32>) -> tensor<8xf32>
  return %0, %1 : tensor<8xf32>, tensor<8xf32>
}
