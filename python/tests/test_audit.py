# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""mptc audit: products in machine code, spills, ptxas's warnings, and packages that were changed.

Where nvcc and NVIDIA's disassembler are, three own products and a kernel that spills are
compiled and read back; manifests that lie about them are caught. Elsewhere the same code reads
what cuobjdump wrote about such a library.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from mpt import audit, cuda
from tiny_package import fnv1a64

SOURCE = """
#include "mpt/CUDA/Gemm.h"
using namespace mpt::gemm;
using mpt::num::Format;
namespace {
struct Dense : Config<Format::E4M3, Format::E4M3, 64, 4, true> {};
struct Gradient : Config<Format::E5M2, Format::E4M3, 64, 4, true> {};
struct Plain : Config<Format::BF16, Format::BF16, 64, 4, false> {};
template <typename C> void product(const void *a, const void *b, Args args, float *to) {
  Operands operands;
  if (describe<C>(operands, a, args.k, b, args.k, args).empty())
    run<C>("product", operands, args, chain(Store<float>{{}, to, args.n}), 132, nullptr);
}
// 96 sums at once do not fit into the 64 registers that 1024 threads leave to each.
__global__ void __launch_bounds__(1024) spilling(const float *x, float *y, int n) {
  float sums[96] = {};
  for (int row = 0; row < n; ++row)
    for (int i = 0; i < 96; ++i)
      sums[i] += x[row * 96 + i] * x[row * 1024 + threadIdx.x];
  for (int i = 0; i < 96; ++i)
    y[i * 1024 + threadIdx.x] = sums[i];
}
} // namespace
MPT_EXPORT void all(const void *a, const void *b, Args args, float *to) {
  product<Dense>(a, b, args, to);
  product<Gradient>(a, b, args, to);
  product<Plain>(a, b, args, to);
  mpt::launch("spilling", spilling, 1, 1024, 0, nullptr, to, to, args.n);
}
"""
STORE = "mpt::gemm::Chain<mpt::gemm::Store<float>>"


def launch(name: str, lhs: str, rhs: str, kernel: str = "", **more: object) -> dict:
    """A product of a manifest's launch list."""
    own = {"implementation": "own", "kernel": f"mpt::gemm::kernel<{kernel}, {STORE}>"} if kernel else {}
    operands = {key: {"dtype": dtype} for key, dtype in (("lhs", lhs), ("rhs", rhs), ("result", "f32"))}
    return {"op": "product", "name": name, "role": "fprop", "m": 64, "n": 64, "k": 64} | operands | own | more


TRUE = [
    launch("layer.0/dense", "f8E4M3FN", "f8E4M3FN", "Dense"),
    launch("layer.0/dense/dgrad", "f8E5M2", "f8E4M3FN", "Gradient"),
    launch("layer.0/dense/wgrad", "bf16", "bf16", "Plain"),
]


def write(package: Path, launches: list[dict], **more: object) -> Path:
    """Write a package of SOURCE whose manifest has `launches`."""
    package.mkdir(exist_ok=True)
    (package / "step.cu").write_text(SOURCE)
    manifest = {"target": "cuda", "arch": "sm_90a", "source_hash": fnv1a64(SOURCE.encode()), "launches": launches}
    (package / "manifest.json").write_text(json.dumps(manifest | more))
    return package


missing = cuda.missing_for_nvcc(cublas=False) or audit.missing_tools()
compiled_only = pytest.mark.skipif(missing != "", reason=missing)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory) -> Path:
    """A package that nvcc compiled, and whose audit has passed as part of that."""
    package = write(tmp_path_factory.mktemp("audit"), TRUE)
    cuda.compile_package(package)
    return package


@compiled_only
def test_products_are_proven_and_spills_listed(compiled, mptc):
    write(compiled, TRUE)
    report = audit.audit(compiled)
    assert report.problems == []
    assert [(p.name, p.evidence.partition(" ")[2]) for p in report.products] == [
        ("layer.0/dense", "QGMMA.64x64x32.F32.E4M3.E4M3"),
        ("layer.0/dense/dgrad", "QGMMA.64x64x32.F32.E5M2.E4M3"),
        ("layer.0/dense/wgrad", "HGMMA.64x64x16.F32.BF16"),
    ]
    (spilling,) = report.spilling
    assert spilling.name == "spilling" and spilling.registers <= 64
    # What ptxas says of it is in the machine code too.
    assert spilling.spill_stores > 0 and spilling.stack > 0 and spilling.local > 0
    assert all(kernel.local == kernel.stack == 0 for kernel in report.kernels if kernel is not spilling)
    said = mptc("audit", compiled)
    assert said.returncode == 0, said.stderr
    assert "3 of 3 own ones proven" in said.stdout and "spilling: " in said.stdout
    data = json.loads(mptc("audit", compiled, "--json").stdout)
    assert data["ok"] and len(data["products"]) == 3 and len(data["kernels"]) == 4


@compiled_only
@pytest.mark.parametrize(
    "lie, problem",
    [
        (launch("a/dense", "f8E4M3FN", "f8E4M3FN", "Plain"), "E4M3.E4M3), and its kernel multiplies with HGMMA"),
        (launch("a/dense", "f8E4M3FN", "f8E5M2", "Gradient"), "E4M3.E5M2), and its kernel multiplies with QGMMA"),
        (launch("a/dense", "bf16", "bf16", "Dense"), "is assigned bf16 x bf16 (HGMMA ... BF16), and its kernel"),
        (launch("a/dense", "f8E4M3FN", "f8E4M3FN", "Absent"), "is not in the library"),
        (launch("a/dense", "f8E4M3FN", "f8E4M3FN", "Dense") | {"kernel": "spilling"}, "no tensor-core"),
        (launch("a/dense", "f32", "f32", "Plain"), "no tensor-core instruction multiplies f32 by f32"),
        (launch("a/dense", "f8E4M3FN", "f8E4M3FN"), "cuBLASLt, which the library is not linked with"),
    ],
)
def test_a_lie_is_caught(compiled, mptc, lie, problem):
    write(compiled, [*TRUE, lie])
    said = mptc("audit", compiled)
    assert said.returncode == 1
    assert "product 'a/dense': " in said.stderr and problem in said.stderr
    # As a part of the build, the package is not left behind under its name.
    with pytest.raises(cuda.BuildError, match="'a/dense'"):
        cuda._prove(compiled, compiled / "libstep.so")


@compiled_only
def test_ignored_instructions_fail_the_build(tmp_path):
    # Without launch bounds ptxas ignores setmaxnreg and says so, as information only.
    source = SOURCE.replace(
        "} // namespace",
        '__global__ void loose() { asm volatile("setmaxnreg.dec.sync.aligned.u32 40;"); }\n} // namespace',
    ).replace('mpt::launch("spilling"', 'mpt::launch("loose", loose, 1, 128, 0, nullptr);\n  mpt::launch("spilling"')
    write(tmp_path, TRUE, source_hash=fnv1a64(source.encode()))
    (tmp_path / "step.cu").write_text(source)
    with pytest.raises(cuda.BuildError, match="C7508.*setmaxnreg"):
        cuda.compile_package(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["manifest.json", "step.cu"]


# What cuobjdump 13.2 writes, shortened: a product in E4M3, and a kernel with a spill.
DENSE = "_ZN3mpt4gemm6kernelINS0_6ConfigILNS_3num6FormatE2ELS4_2ELi64ELi4ELb1EEEEEvv"
DUMPS = {
    "-res-usage": f"""
Fatbin elf code:
================
arch = sm_90a

Resource usage:
 Common:
  GLOBAL:0
 Function {DENSE}:
  REG:168 STACK:0 SHARED:1024 LOCAL:0 CONSTANT[0]:2048 TEXTURE:0 SURFACE:0 SAMPLER:0
 Function spilling:
  REG:64 STACK:136 SHARED:0 LOCAL:0 CONSTANT[0]:548 TEXTURE:0 SURFACE:0 SAMPLER:0
""",
    "-sass": f"""
\tcode for sm_90a
\t\tFunction : {DENSE}
        /*0000*/                   LDC R1, c[0x0][0x28] ;         /* 0x00000a00ff017b82 */
                                                                  /* 0x000fe20000000800 */
        /*14c0*/                   QGMMA.64x64x32.F32.E4M3.E4M3 R24, gdesc[UR4], !UPT, gsb0 ;  /* 0x00e000000418 */
        /*14d0*/              @!P1 QGMMA.64x64x32.F32.E4M3.E4M3 R24, gdesc[UR8], R24, gsb0 ;   /* 0x00e000000818 */
\t\tFunction : spilling
        /*0000*/                   STL [R1+0x4], R2 ;             /* 0x0000040201007387 */
        /*0010*/              @!P0 LDL.LU R2, [R1+0x4] ;          /* 0x0000040001027983 */
        /*0020*/                   EXIT ;                         /* 0x000000000000794d */
""",
}
LOG = f"""nvcc ...
ptxas info    : Function properties for {DENSE}
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Function properties for spilling
    136 bytes stack frame, 4 bytes spill stores, 8 bytes spill loads
"""
DENSE_NAME = "mpt::gemm::kernel<mpt::gemm::Config<(mpt::num::Format)2, (mpt::num::Format)2, 64, 4, true>>"


@pytest.fixture
def package(tmp_path, monkeypatch) -> Path:
    """A package with tools that write DUMPS, and a library that is only a name."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("cuobjdump", "nvdisasm"):
        (tools / name).write_text('#!/bin/sh\nexec cat "$(dirname "$0")/dump$1"\n')
        (tools / name).chmod(0o755)
    for option, dump in DUMPS.items():
        (tools / f"dump{option}").write_text(dump)
    monkeypatch.setenv("MPT_CUDA_TOOLS", str(tools))
    package = write(tmp_path / "package", [launch("a/dense", "f8E4M3FN", "f8E4M3FN", "?") | {"kernel": DENSE_NAME}])
    set_library(package, b"code")
    return package


def set_library(package: Path, code: bytes, log: str = LOG) -> None:
    (package / "libstep.so").write_bytes(code)
    (package / "libstep.log").write_text(f"sha256 {hashlib.sha256(code).hexdigest()}\n{log}")


def test_dumps_are_read(package):
    report = audit.audit(package)
    (dense,) = report.products
    assert report.problems == [] and dense.kernels == [DENSE]
    assert dense.evidence == "2 QGMMA.64x64x32.F32.E4M3.E4M3"
    (spilling,) = report.spilling
    assert (spilling.name, spilling.stack, spilling.local, spilling.spill_stores) == ("spilling", 136, 2, 4)


def test_cublas_products_are_listed_with_their_types(package):
    write(package, [launch("a/dense", "f8E5M2", "f8E4M3FN"), launch("a/scores", "bf16", "bf16")])
    set_library(package, b"...libcublasLt.so.13\0")
    report = audit.audit(package)
    assert report.problems == []
    assert [p.evidence for p in report.products] == [
        "checked at load: f8E5M2 x f8E4M3FN -> f32",
        "checked at load: bf16 x bf16 -> f32",
    ]


def test_warnings_of_ptxas_are_problems(package):
    warning = "ptxas info    : (C7510) Potential Performance Loss: wgmma.mma_async instructions are serialized"
    set_library(package, b"code", f"{LOG}{warning}\n")
    assert audit.audit(package).problems == [f"ptxas: {warning}"]


def test_code_for_another_architecture_is_a_problem(package):
    write(package, [], arch="sm_100a")
    assert audit.audit(package).problems == ["libstep.so has code for sm_90a, the manifest expects sm_100a"]


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda p: (p / "step.cu").write_text("other"), "step.cu: has the hash"),
        (lambda p: (p / "libstep.so").write_bytes(b"other"), "of another compilation than libstep.so"),
        (lambda p: (p / "libstep.so").unlink(), "compile the package first"),
        (lambda p: (p / "libstep.log").unlink(), "written when the package is compiled"),
        (lambda p: set_library(p, b"code", "nvcc ..."), "does not say whether mpt::gemm::kernel<.*> spills"),
        (lambda p: (p / "manifest.json").unlink(), "build a package with mpt-build --target=cuda"),
        (lambda p: (p / "manifest.json").write_text("{"), "manifest.json: Expecting"),
        (lambda p: (p / "manifest.json").write_text('{"target": "cpu"}'), "target is 'cpu', expected 'cuda'"),
        (lambda p: write(p, [{"op": "product", "name": "a"}]), "is damaged .*'lhs'"),
        (lambda p: write(p, 3), "is damaged"),
        (lambda p: (p.parent / "tools" / "dump-sass").write_text("nothing"), "no instructions of mpt::gemm::kernel"),
        (lambda p: (p.parent / "tools" / "dump-sass").unlink(), "cuobjdump -sass .*: exit code 1: cat: "),
        (lambda p: (p.parent / "tools" / "nvdisasm").unlink(), "nvdisasm not found: .*pip install nvidia-cuda-cuob"),
    ],
)
def test_what_cannot_be_audited_is_refused(package, change, message):
    change(package)
    with pytest.raises(audit.AuditError, match=message):
        audit.audit(package)


def test_kernel_names():
    name = "mpt::gemm::kernel<Dense,mpt::gemm::Chain<mpt::gemm::Store<float>>>"
    text = "void mpt::gemm::kernel<(anonymous namespace)::Dense, mpt::gemm::Chain<mpt::gemm::Store<float> > >(int, A<(B)1>)"
    assert audit.kernel_name(text) == name
    assert audit.kernel_name("(anonymous namespace)::plain(float*)") == "plain"
    assert audit.kernel_name(audit.demangle("kernel_0")) == "kernel_0"
