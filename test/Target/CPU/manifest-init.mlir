// Derived arguments: a launch list of their own computes the first ones, and the step leaves the next
// ones where it read the last, without a copy.
// RUN: rm -rf %t && mpt-opt %s --mpt-cpu-pipeline=carry-casts -o %t.mlir
// RUN: mpt-build %t.mlir --target=cpu -o %t && tr -s '[:space:]' ' ' < %t/manifest.json | FileCheck %s
// RUN: mpt-opt %t.mlir --mpt-plan-memory=print -o /dev/null 2>&1 | FileCheck %s --check-prefix=PLAN
// RUN: rm -rf %t && mpt-build %s --carry-casts --target=cpu -o %t && tr -s '[:space:]' ' ' < %t/manifest.json | FileCheck %s

// CHECK: "name": "w", {{[^}]*}}"buffer": 1, "init": "file"
// CHECK-SAME: "name": "w/cast.bf16", "kind": "derived", "dtype": "bf16", "shape": [ 8, 8 ], "buffer": 2, "init": "launches" }
// CHECK-SAME: "launches": [
// CHECK-SAME: "name": "w/cast.bf16/decode", "args": [ [ 2, 0 ],
// CHECK-SAME: "op": "product"
// CHECK-SAME: "name": "w/update", "args": [ [ 1, 0 ], [ 1, 0 ], [ 2, 0 ] ], "written": 2
// CHECK-NOT: "op": "copy"
// CHECK-SAME: "init": [ { "op": "kernel", "symbol": "{{[^"]*}}", "name": "w/cast.bf16", "args": [ [ 1, 0 ], [ 2, 0 ] ], "written": 1
// PLAN: remark: init: kernel 'w/cast.bf16' (argument1+0) -> (argument2+0)
func.func @step(%x: tensor<4x8xf32> {mpt.name = "x", mpt.kind = #mpt.kind<input>},
                %w: tensor<8x8xf32> {mpt.name = "w", mpt.kind = #mpt.kind<parameter>})
    -> (tensor<4x8xf32> {mpt.name = "y"}, tensor<8x8xf32> {mpt.name = "w", mpt.alias = 1 : i64}) {
  %c = mpt.cast %w {mpt.name = "w/cast.bf16"} : (tensor<8x8xf32>) -> tensor<8x8xf32, #mpt.format<bf16>>
  %y = mpt.matmul %x, %c {mpt.name = "layer"} : (tensor<4x8xf32>, tensor<8x8xf32, #mpt.format<bf16>>) -> tensor<4x8xf32>
  %u = mpt.tanh %w {mpt.name = "w/update"} : (tensor<8x8xf32>) -> tensor<8x8xf32>
  return %y, %u : tensor<4x8xf32>, tensor<8x8xf32>
}
