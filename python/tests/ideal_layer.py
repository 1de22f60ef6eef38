# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""What one layer of BERT has to move: the kernels that an expert would write, by hand.

FP8 with delayed scales (Transformer Engine's recipe), attention in BF16, residual stream and pre-activation
in f32, products with epilogues, attention that keeps no scores. Each operand is read or written once.
Bytes are in terms of T tokens, H features, F of the feed-forward layer, N heads, P parameters.
docs/fusion.md has the table in words.
"""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Layer:
    """Sizes of one layer."""

    tokens: int
    hidden: int
    ffn: int
    heads: int


def ideal_kernels(layer: Layer) -> list[tuple[str, int]]:
    """Return (what the kernel does, bytes it moves), in the order of the step."""
    t, h, f, n = layer.tokens, layer.hidden, layer.ffn, layer.heads
    parameters = 4 * h * h + 2 * h * f + 9 * h + f
    sums = t // 64 * 4  # a column's chunk sums
    # The sum and the row's statistics are kept; y is the residual, its FP8 copies go to products.
    layer_norm = 4 * t * h + 4 * t * h + 2 * t * h + 8 * t
    # dy and the sum in; the residual's gradient, FP8 both ways, dgamma, dbeta and the bias's gradient out.
    layer_norm_grad = 8 * t * h + 8 * t + 4 * t * h + 2 * t * h + 3 * h * sums
    return [
        ("query, key, value: one product, bias, BF16", t * h + 3 * h * h + 6 * t * h),
        ("attention: BF16, FP8 both ways, log-sum-exp", 6 * t * h + 4 * t * h + 4 * t * n),
        ("output product: bias, dropout, residual", t * h + h * h + 8 * t * h),
        ("layer norm: FP8 both ways", layer_norm),
        ("fc1: bias, GELU, pre-activation, FP8 both ways", t * h + h * f + 4 * t * f + 2 * t * f),
        ("fc2: bias, dropout, residual", t * f + h * f + 8 * t * h),
        ("layer norm: FP8 both ways", layer_norm),
        ("layer norm backward", layer_norm_grad),
        ("fc2 dgrad: dGELU, FP8 both ways, bias's sums", t * h + h * f + 4 * t * f + 2 * t * f + f * sums),
        ("fc2 wgrad", t * h + t * f + 4 * h * f),
        ("fc1 dgrad: adds the residual's gradient", t * f + h * f + 8 * t * h),
        ("fc1 wgrad", t * h + t * f + 4 * h * f),
        ("layer norm backward", layer_norm_grad),
        ("output dgrad: BF16", t * h + h * h + 2 * t * h),
        ("output wgrad", 2 * t * h + 4 * h * h),
        ("attention backward: FP8 both ways, biases' sums", 10 * t * h + 4 * t * n + 6 * t * h + 3 * h * sums),
        ("query, key, value dgrad: adds the residual's gradient", 3 * t * h + 3 * h * h + 8 * t * h),
        ("query, key, value wgrad", 4 * t * h + 12 * h * h),
        ("gradient norm", 4 * parameters),
        ("AdamW: FP8 both ways for the next step", (16 + 12) * parameters + 2 * (4 * h * h + 2 * h * f)),
    ]
