# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""A whole training step of a PyTorch model as one pure ONNX graph.

The strongest CPU baseline known to us is stock onnxruntime running such a graph. It is made
by tracing forward, backward, clipping and AdamW with make_fx and exporting the trace. Traps
of the exporter and of onnxruntime are avoided: the loss is written out (its nll_loss translation fakes the
number of labels), learning rate, decay and epsilon are graph inputs (its rewrite rules drop
"small" constants), attention is eager (the fused backward has no translation), and embedding
gradients are ScatterElements (onnxruntime 1.32 adds ScatterND's duplicates in a data race: the
gradient of token_type_embeddings was 26 % off).
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import torch
from torch._decomp import core_aten_decompositions
from torch.fx.experimental.proxy_tensor import make_fx

BETAS = (0.9, 0.999)
CLIP = 1.0
IGNORE_INDEX = -100
HYPER = ("t", "lr", "decay", "eps")


def masked_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean cross entropy of logits [B, S, V] over labels [B, S] that are not IGNORE_INDEX."""
    valid = labels != IGNORE_INDEX
    chosen = torch.where(valid, labels, 0).reshape(-1, 1)
    log_prob = torch.log_softmax(logits.reshape(-1, logits.shape[-1]), dim=-1)
    nll = -torch.gather(log_prob, 1, chosen).squeeze(1)
    weight = valid.reshape(-1).to(nll.dtype)
    return (nll * weight).sum() / weight.sum()


def adamw(params, grads, first, second, t, lr, decay, eps):
    """One AdamW step with global clipping; lists of tensors in, lists of new p, m, v out.

    Scalars are combined first, so that each tensor sees as few elementwise passes as ONNX allows.
    """
    norm = torch.sqrt(sum((g * g).sum() for g in grads))
    coef = torch.clamp(CLIP / (norm + 1e-6), max=1.0)
    gain1, gain2 = (1 - BETAS[0]) * coef, (1 - BETAS[1]) * coef * coef
    rate = lr / (1 - BETAS[0] ** t)
    unbias = torch.rsqrt(1 - BETAS[1] ** t)
    keep = 1 - lr * decay
    new_p, new_m, new_v = [], [], []
    for p, g, m, v in zip(params, grads, first, second):
        m = BETAS[0] * m + gain1 * g
        v = BETAS[1] * v + gain2 * (g * g)
        kept = p * keep if p.dim() > 1 else p
        new_p.append(kept - rate * m / (torch.sqrt(v) * unbias + eps))
        new_m.append(m)
        new_v.append(v)
    return new_p, new_m, new_v


def embedding_gradient(grad, indices, rows, padding, by_frequency):
    """Gradient [rows, H] of an embedding: rows of `grad` [..., H] added up by `indices`."""
    assert not by_frequency
    flat = grad.reshape(-1, grad.shape[-1])
    flat = torch.where((indices == padding).reshape(-1, 1), 0.0, flat) if padding >= 0 else flat
    where = indices.reshape(-1, 1).expand(-1, grad.shape[-1])
    return flat.new_zeros((rows, grad.shape[-1])).scatter_add(0, where, flat)


def trace(model: torch.nn.Module, batch: dict[str, torch.Tensor]):
    """Return (fx graph module, flat example arguments, parameter names) of the step.

    Arguments: parameters, first and second moments, t, lr, decay, eps (f32 scalars), batch.
    """
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    forward = torch.export.export(model.train(), (), kwargs=inputs).module()
    names = [name for name, _ in model.named_parameters()]
    params = [p.detach().clone() for _, p in model.named_parameters()]
    keys, count = list(batch), len(names)

    def step(*flat):
        p, m, v = flat[:count], flat[count : 2 * count], flat[2 * count : 3 * count]
        hyper, data = flat[3 * count : 3 * count + 4], dict(zip(keys, flat[3 * count + 4 :]))
        leaves = [value.detach().requires_grad_() for value in p]
        labels = data.pop("labels")
        out = torch.func.functional_call(forward, dict(zip(names, leaves)), (), data)
        loss = masked_loss(out["logits"] if hasattr(out, "keys") else out[0], labels)
        grads = torch.autograd.grad(loss, leaves)
        new_p, new_m, new_v = adamw(p, grads, m, v, *hyper)
        return (loss.detach(), *new_p, *new_m, *new_v)

    zeros = [torch.zeros_like(p) for p in params]
    hyper = [torch.tensor(x) for x in (1.0, 1e-4, 0.01, 1e-8)]
    flat = [*params, *zeros, *[z.clone() for z in zeros], *hyper, *batch.values()]
    table = {**core_aten_decompositions(), torch.ops.aten.embedding_dense_backward.default: embedding_gradient}
    graph = make_fx(step, decomposition_table=table)(*flat)
    return graph, flat, names


def export_step(model: torch.nn.Module, batch: dict[str, torch.Tensor], path: Path) -> None:
    """Write the step to `path` (.onnx without weights) and its parameter names to .json.

    Inputs p.<name>, m.<name>, v.<name>, t, lr, decay, eps, in.<batch>; outputs loss, new.p.<name>...
    """
    graph, flat, names = trace(model, batch)

    class Step(torch.nn.Module):
        def forward(self, *args):
            return graph(*args)

    state = [f"{kind}.{name}" for kind in "pmv" for name in names]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            Step(),
            tuple(flat),
            input_names=[*state, *HYPER, *(f"in.{key}" for key in batch)],
            output_names=["loss", *(f"new.{name}" for name in state)],
            dynamo=True,
            opset_version=18,
            verbose=False,
        )
    program.save(str(path))
    path.with_suffix(".json").write_text(json.dumps(names))
