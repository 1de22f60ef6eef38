//===- AttentionOps.td - attention as one op ---------------*- tablegen -*-===//
//
// Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
//
// Attention and its gradient for targets that have a kernel that never stores
// the scores. Only `--mpt-form-attention` makes these ops, behind
// materialization: differentiation and assignment see the products.
//
//===----------------------------------------------------------------------===//

#ifndef MPT_DIALECT_MPT_IR_ATTENTIONOPS
#define MPT_DIALECT_MPT_IR_ATTENTIONOPS

include "mpt/Dialect/MPT/IR/MPTOpBase.td"

def MPT_AttentionOp : MPT_Op<"attention", [AttrSizedOperandSegments]> {
  let summary = "dropout(softmax(scale Q K^T + bias)) V";
  let description = [{
    query, key, value and output are [batch, sequence, heads, head size], the
    first three in BF16, the output in BF16 or f32. `bias` [batch or 1, 1, 1,
    sequence] is added to the scores of each key. With `keep_probability`, the
    weights are dropped as `mpt.dropout` of [batch, heads, sequence, sequence]
    would with this seed, step and id. row_max and log_sum [batch, heads,
    sequence] are the largest score of a row and the logarithm of the sum of its
    e^(score - row_max): what the gradient needs to compute weights anew.

    The weights are an operand in BF16 of the second product, as in the products
    that this stands for; they are rounded before they are divided by the row's
    sum.
  }];
  let arguments = (ins MPT_StorageTensor:$query, MPT_StorageTensor:$key,
                       MPT_StorageTensor:$value, Optional<MPT_F32Tensor>:$bias,
                       Optional<MPT_I64Scalar>:$seed,
                       Optional<MPT_I64Scalar>:$step, F32Attr:$scale,
                       OptionalAttr<F32Attr>:$keep_probability,
                       OptionalAttr<I64Attr>:$dropout_id);
  let results = (outs MPT_StorageTensor:$output, MPT_F32Result:$row_max,
                      MPT_F32Result:$log_sum);
  let hasVerifier = 1;
  let extraClassDeclaration = [{
    /// Why no kernel takes these sizes, "" if there is one: heads of 32 to 128
    /// elements in steps of 16, sequences of a multiple of 16.
    static ::std::string unsupported(int64_t sequence, int64_t headSize);
  }];
}

def MPT_AttentionGradOp : MPT_Op<"attention_grad", [AttrSizedOperandSegments]> {
  let summary = "gradients of mpt.attention's query, key and value";
  let description = [{
    Operands and attributes as those of the `mpt.attention` that computed
    output, row_max and log_sum; grad_output is in BF16. With p the weights, m
    the dropout (0 or 1 / keep_probability) and dP = (grad_output V^T) m:

        row_products = sum over a head of output * grad_output
        dS = scale p (dP - row_products)
        grad_query = dS K, grad_key = dS^T Q, grad_value = (p m)^T grad_output

    p m and dS are rounded to BF16 as operands. The gradients are in BF16 or f32.
    row_products [batch, heads, sequence] is space that the kernels use.
  }];
  let arguments = (ins MPT_StorageTensor:$query, MPT_StorageTensor:$key,
                       MPT_StorageTensor:$value, MPT_StorageTensor:$output,
                       MPT_StorageTensor:$grad_output, MPT_F32Tensor:$row_max,
                       MPT_F32Tensor:$log_sum, Optional<MPT_F32Tensor>:$bias,
                       Optional<MPT_I64Scalar>:$seed,
                       Optional<MPT_I64Scalar>:$step, F32Attr:$scale,
                       OptionalAttr<F32Attr>:$keep_probability,
                       OptionalAttr<I64Attr>:$dropout_id);
  let results = (outs MPT_StorageTensor:$grad_query,
                      MPT_StorageTensor:$grad_key,
                      MPT_StorageTensor:$grad_value,
                      MPT_F32Result:$row_products);
  let hasVerifier = 1;
}

#endif // MPT_DIALECT_MPT_IR_ATTENTIONOPS
