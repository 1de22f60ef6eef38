#!/usr/bin/env bash
# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
#
# Everything that needs a GPU, in one call of at most ten minutes: compiles what
# bench/gpu/prepare.py left in PREPARED, checks every kernel and whole steps
# against what it dumped, then measures. Needs nvcc 13, cuBLAS 13, Python with
# numpy and safetensors; for the baselines PyTorch and transformers. No network,
# no LLVM.
#
# Without a GPU it compiles if there is nvcc, checks in simulation what was
# compiled for it, and says what it would have measured.
#
# usage: run.sh PREPARED [--results FOLDER] [--seconds 560] [--dry-run]
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
[ $# -ge 1 ] || { sed -n 's/^# usage: //p' "$0" >&2; exit 2; }
export PYTHONPATH=$root/python${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1
exec "${PYTHON:-python3}" "$root/bench/gpu/run.py" "$@"
