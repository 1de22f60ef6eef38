# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""PyTorch's step of the same BERT on the same GPU: torch.compile in BF16, and torchao's float8 training.

One configuration a process, so that nothing is left in memory for the next. Prints one line of
JSON: milliseconds a step, or why it was not measured. As in mpt: dropout 0.1, masters and AdamW in
f32, clipping by the global norm, cross entropy over all positions.
"""

from __future__ import annotations

import argparse
import importlib.util
import json


def measure(args: argparse.Namespace) -> dict[str, object]:
    """Return figures of the configuration, or {"not_measured": why}."""
    for name in ("torch", "transformers", *(["torchao"] if args.float8 else [])):
        if not importlib.util.find_spec(name):
            return {"not_measured": f"{name} is not installed"}
    import torch

    if not torch.cuda.is_available():
        return {"not_measured": "PyTorch sees no GPU"}
    from transformers import BertConfig, BertForMaskedLM

    torch.manual_seed(0)
    config = BertConfig(
        hidden_size=args.hidden, num_hidden_layers=args.layers, num_attention_heads=args.hidden // 64,
        intermediate_size=4 * args.hidden, vocab_size=30522, attn_implementation="sdpa",
    )  # fmt: skip
    model = BertForMaskedLM(config).cuda().train()
    if args.float8:
        from torchao.float8 import convert_to_float8_training

        # Its products need sizes that are multiples of 16; BERT's vocabulary is none.
        convert_to_float8_training(
            model, module_filter_fn=lambda m, name: m.in_features % 16 == 0 and m.out_features % 16 == 0
        )
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    ids = torch.randint(1, 30522, (args.batch, args.seq), device="cuda")
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "token_type_ids": 0 * ids, "labels": ids}
    forward = torch.compile(lambda: model(**batch).loss)

    def step() -> None:
        with torch.autocast("cuda", torch.bfloat16):
            loss = forward()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    for _ in range(5):
        step()
    times = []
    for _ in range(args.steps):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        step()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    times.sort()
    return {
        "ms": times[len(times) // 2], "ms_min": times[0], "ms_max": times[-1], "steps": len(times),
        "memory_bytes": torch.cuda.max_memory_allocated(), "torch": torch.__version__,
    }  # fmt: skip


def main() -> None:
    """Measure what the arguments ask for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("layers", "hidden", "batch", "seq"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--float8", action="store_true")
    print(json.dumps(measure(parser.parse_args())))


if __name__ == "__main__":
    main()
