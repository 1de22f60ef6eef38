// Two pins that give one product different formats.
// RUN: mpt-opt %s --verify-diagnostics --assign-precision='policy=bf16 pin=encoder.*=fp32,*.key=bf16'

// expected-error@+1 {{assign-precision: pins 'encoder.*=fp32' and '*.key=bf16' contradict each other on 'encoder.layer.0.key'}}
func.func @step(%x: tensor<16x16xf32>) {
  %0 = mpt.matmul %x, %x {mpt.name = "encoder.layer.0.query", role = #mpt.role<fprop>}
      : (tensor<16x16xf32>, tensor<16x16xf32>) -> tensor<16x16xf32>
  %1 = mpt.matmul %x, %x {mpt.name = "encoder.layer.0.key", role = #mpt.role<fprop>}
      : (tensor<16x16xf32>, tensor<16x16xf32>) -> tensor<16x16xf32>
  return
}
