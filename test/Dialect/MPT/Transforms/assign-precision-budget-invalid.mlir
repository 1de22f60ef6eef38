// Budgets that nothing keeps, and targets and tables that do not fit: nothing is written, and the graph stays as it is.
// RUN: rm -rf %t && mkdir %t && cp %s %t/in.mlir
// RUN: not mpt-opt %t/in.mlir --assign-precision='policy=budget loss-mse=1e-8 pin=layer=f8E4M3FN record=%t/b.json problem=%t/p.json' -o %t/out.mlir 2>&1 | FileCheck %s --check-prefix=LEAST
// RUN: diff %s %t/in.mlir && rm %t/in.mlir
// RUN: sed 's/"launch"/"lunch"/' %S/../../../../lib/Precision/targets/h200.json > %t/hole.json
// RUN: not mpt-opt %s --assign-precision='policy=bf16 target=%t/hole.json' -o %t/out.mlir 2>&1 | FileCheck %s --check-prefix=HOLE
// RUN: not mpt-opt %s --assign-precision='policy=budget' 2>&1 | FileCheck %s --check-prefix=NOLOSS
// RUN: not mpt-opt %s --assign-precision='policy=budget loss-mse=1e-8 pin=layer=f8E4M3FN record=%t/a.json' 2>&1 | FileCheck %s --check-prefix=LEAST
// RUN: not mpt-opt %s --assign-precision='policy=budget loss-mse=nan' 2>&1 | FileCheck %s --check-prefix=NOLOSS
// RUN: not mpt-opt %s --assign-precision='policy=budget loss-mse=1 persistent=-1' 2>&1 | FileCheck %s --check-prefix=NEGATIVE
// RUN: not mpt-opt %s --assign-precision='target=h300' 2>&1 | FileCheck %s --check-prefix=TARGET
// RUN: not mpt-opt %s --assign-precision='target=%t/none.json' 2>&1 | FileCheck %s --check-prefix=FILE
// RUN: not mpt-opt %s --assign-precision='policy=uniform target=a100 pin=layer=f8E4M3FN' 2>&1 | FileCheck %s --check-prefix=PIN
// RUN: echo '{"format": "mpt-tuning", "version": 1, "target": "h100", "products": []}' > %t/tuning.json
// RUN: not mpt-opt %s --assign-precision='policy=bf16 tuning=%t/tuning.json' 2>&1 | FileCheck %s --check-prefix=TUNING
// RUN: not mpt-opt %s --assign-precision='policy=bf16 problem=%t/problem.json' 2>&1 | FileCheck %s --check-prefix=PROBLEM
// RUN: ls %t | FileCheck %s --check-prefix=LEFT

// NOLOSS: error: assign-precision: policy budget needs loss-mse, the largest sum of forward errors: (1e-3 of the loss) squared is a start
// LEAST: error: assign-precision: no assignment keeps the budget; least feasible is loss_mse; smallest sums under the other bounds: loss_mse 1.00e-07 (bound 1.00e-08), noise_ratio 0.00e+00 (bound 5.00e-02), persistent 0.00e+00 (bound 3.00e-02)
// NEGATIVE: error: assign-precision: bound 'persistent' has limit -1.00, expected a number of 0 or more
// TARGET: error: assign-precision: unknown target 'h300', expected a100, cpu-emulated, h100, h200 or the path of a .json file
// FILE: error: assign-precision: target '{{.*}}none.json' cannot be read: No such file or directory
// PIN: error: assign-precision: pin 'layer=f8E4M3FN': a100 does not run f8E4M3FN x f8E4M3FN
// TUNING: error: assign-precision: {{.*}}tuning.json: measured on 'h100', expected 'h200'
// PROBLEM: error: assign-precision: only policy budget has a problem to write to
// HOLE: error: assign-precision: {{.*}}hole.json: figures: 'launch' is missing
// LEFT: hole.json
// LEFT-NEXT: tuning.json
// LEFT-NOT: {{json|mlir}}

#e4m3 = #mpt.format<f8E4M3FN>
func.func @step(%x: tensor<64x64xf32>, %w: tensor<64x64xf32>) -> tensor<64x64xf32> {
  %0 = mpt.matmul %x, %w {mpt.name = "layer", role = #mpt.role<fprop>,
      metrics = #mpt.metrics<m = 64, n = 64, k = 64, [
        #mpt.candidate<#e4m3, #e4m3, {be_median = 0.0 : f64, be_p99 = 0.0 : f64, loss_mse = 1.0e-7 : f64}>]>}
      : (tensor<64x64xf32>, tensor<64x64xf32>) -> tensor<64x64xf32>
  return %0 : tensor<64x64xf32>
}
