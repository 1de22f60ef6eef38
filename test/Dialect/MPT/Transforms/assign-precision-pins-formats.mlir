// Pins that name a format in full: what passes make runs, and the record says all of it.
// RUN: mpt-opt %s --assign-precision='policy=bf16 target=cpu-emulated pin=layer=i8[per_row]/i8[per_column],layer/dgrad=f8E5M2[delayed=16,margin=1,stochastic]/f8E5M2[fixed=0.1] pin=layer/wgrad=i8[per_vector,stochastic] record=%t.json' | FileCheck %s
// RUN: FileCheck %s --check-prefix=RECORD < %t.json
// RUN: mpt-opt %s --assign-precision='policy=bf16 target=cpu-emulated pin=layer=i8[per_row]/i8[per_column],layer/dgrad=f8E5M2[delayed=16,margin=1,stochastic]/f8E5M2[fixed=0.1] pin=layer/wgrad=i8[per_vector,stochastic]' --mpt-materialize-formats | FileCheck %s --check-prefix=CODES

// Rows and columns are of the operand as the product reads it: a cast of one that is read transposed
// has the other.
// CHECK-DAG: mpt.cast %arg0 {{.*}} #mpt.format<i8, scale = per_row, recipe = current>>
// CHECK-DAG: mpt.cast %arg1 {{.*}} #mpt.format<i8, scale = per_row, recipe = current>>
// CHECK-DAG: mpt.cast %arg1 {{.*}} #mpt.format<f8E5M2, scale = per_tensor, recipe = fixed, value = 1.000000e-01>>
// CHECK-DAG: mpt.cast %{{.*}} #mpt.format<f8E5M2, scale = per_tensor, recipe = delayed, history = 16, margin = 1, rounding = stochastic>>
// CHECK-DAG: mpt.cast %arg0 {{.*}} #mpt.format<i8, scale = per_column, recipe = current, rounding = stochastic>>
// CODES-COUNT-3: mpt.scaled_matmul

// RECORD: "format": "f8E5M2[delayed=16,margin=1,stochastic] x f8E5M2[fixed=0.100000001]"
// RECORD: "name": "layer/dgrad"
// RECORD: "chosen": {
// RECORD: "recipe": "delayed"
// RECORD-NEXT: "rounding": "stochastic"
// RECORD-NEXT: "history": 16
// RECORD-NEXT: "margin": 1
// RECORD: "recipe": "fixed"
// RECORD-NEXT: "rounding": "nearest"
// RECORD-NEXT: "value": 0.10000000149011612
func.func @step(%x: tensor<16x32xf32> {mpt.name = "x", mpt.kind = #mpt.kind<input>},
                %w: tensor<32x32xf32> {mpt.name = "layer.weight", mpt.kind = #mpt.kind<parameter>})
    -> (tensor<16x32xf32>, tensor<32x32xf32>) {
  %y = mpt.matmul %x, %w {mpt.name = "layer", transpose_rhs, role = #mpt.role<fprop>}
      : (tensor<16x32xf32>, tensor<32x32xf32>) -> tensor<16x32xf32>
  %dy = mpt.tanh %y {mpt.name = "dy"} : (tensor<16x32xf32>) -> tensor<16x32xf32>
  %dx = mpt.matmul %dy, %w {mpt.name = "layer/dgrad", role = #mpt.role<dgrad>}
      : (tensor<16x32xf32>, tensor<32x32xf32>) -> tensor<16x32xf32>
  %dw = mpt.matmul %dy, %x {mpt.name = "layer/wgrad", transpose_lhs, role = #mpt.role<wgrad>}
      : (tensor<16x32xf32>, tensor<16x32xf32>) -> tensor<32x32xf32>
  return %dx, %dw : tensor<16x32xf32>, tensor<32x32xf32>
}
