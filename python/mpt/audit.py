# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""Reading a compiled CUDA package back: is each product in machine code what the manifest says?

    report = audit("build/cuda")          # raises AuditError where it cannot be told
    report.problems                       # sentences that name products; empty if all holds

Own kernels are proven: NVIDIA's cuobjdump disassembles the library, and every tensor-core
instruction of a product's kernel has to be the one of its formats. Products through cuBLASLt
are listed with the types that are passed; cuBLASLt is asked when the package is loaded. What
nvcc and ptxas wrote is beside the library (libstep.log), with the library's SHA-256, so that
it cannot be another compilation's. See docs/audit.md.
"""

from __future__ import annotations

import collections
import ctypes
import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

# Versions that were seen to read what nvcc 13.0 writes.
TOOLS = ("nvidia-cuda-cuobjdump==13.2.51", "nvidia-cuda-nvdisasm==13.2.51")
# How FP8 formats are spelled in SASS. A wgmma of FP8 is a QGMMA, of BF16 an HGMMA.
FP8 = {"f8E4M3FN": "E4M3", "f8E5M2": "E5M2"}
TENSOR_CORE = re.compile(r"[A-Z]{1,2}G?MMA(?=\.|$)")
FUNCTION = re.compile(r"\s*Function\s*:?\s+(\S+?):?\s*$")
INSTRUCTION = re.compile(r"\s*/\*[0-9a-f]{4,}\*/\s+(?:@!?\w+\s+)?([A-Z][\w.]*)")
RESOURCE = re.compile(r"\b(REG|STACK|LOCAL):(\d+)")
PROPERTIES = re.compile(r"Function properties for (\S+)")
SPILL = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
WARNING = re.compile(r"\bC75\d\d\b")


class AuditError(RuntimeError):
    """A package cannot be audited: something is missing or was changed."""


@dataclass
class Kernel:
    """A function of the GPU, as compiled."""

    symbol: str
    name: str  # as manifests write it, see kernel_name
    registers: int = 0
    stack: int = 0  # bytes of a thread, spills included
    local: int = 0  # instructions that access a thread's local memory
    spill_stores: int = 0  # bytes, as ptxas counts them
    spill_loads: int = 0
    instructions: dict[str, int] = field(default_factory=dict)  # of the tensor cores


@dataclass
class Product:
    """A launch that multiplies, and what is known of it."""

    name: str
    role: str
    formats: str
    implementation: str
    kernels: list[str]  # symbols; none through cuBLASLt
    evidence: str
    problem: str = ""


@dataclass
class Report:
    """What was found; `problems` has a sentence for each thing that is not as it should be."""

    package: str
    arch: str
    products: list[Product]
    kernels: list[Kernel]
    problems: list[str]

    @property
    def spilling(self) -> list[Kernel]:
        """Kernels that keep registers in memory."""
        return [kernel for kernel in self.kernels if kernel.spill_stores or kernel.spill_loads]

    def as_json(self) -> dict[str, Any]:
        """The report as written by `mptc audit --json`."""
        return {"format": "mpt-audit", "version": 1, "ok": not self.problems} | asdict(self)


#
# NVIDIA's tools.
#


def tool_directories() -> list[Path]:
    """Where cuobjdump and nvdisasm may be: $MPT_CUDA_TOOLS, PyPI's packages, and the PATH."""
    if named := os.environ.get("MPT_CUDA_TOOLS"):
        return [Path(named)]
    spec = importlib.util.find_spec("nvidia")
    places = [Path(place) / "cu13" / "bin" for place in (spec.submodule_search_locations or [])] if spec else []
    return places + [Path(place) for place in os.environ.get("PATH", "").split(os.pathsep) if place]


def missing_tools() -> str:
    """What keeps this machine from disassembling, and how to mend it; empty if nothing does."""
    path = os.pathsep.join(map(str, tool_directories()))
    absent = [name for name in ("cuobjdump", "nvdisasm") if not shutil.which(name, path=path)]
    if not absent:
        return ""
    return (
        f"{' and '.join(absent)} not found: machine code cannot be read; install NVIDIA's tools "
        f"(pip install {' '.join(TOOLS)}), or set MPT_CUDA_TOOLS to their directory"
    )


def _dump(library: Path, option: str) -> Iterator[str]:
    """Yield the lines that cuobjdump writes about `library`."""
    path = os.pathsep.join(map(str, tool_directories()))
    command = [shutil.which("cuobjdump", path=path), option, str(library)]
    # cuobjdump starts nvdisasm off the PATH.
    environment = os.environ | {"PATH": f"{path}{os.pathsep}{os.environ.get('PATH', '')}"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", env=environment
    ) as process:
        last = ""
        for last in process.stdout:
            yield last
    if process.returncode:
        raise AuditError(f"cuobjdump {option} {library}: exit code {process.returncode}: {last.strip()}")


#
# Names.
#


def _demangler() -> Any:
    library = ctypes.CDLL("libstdc++.so.6")
    library.__cxa_demangle.restype = ctypes.c_void_p
    return library


def demangle(symbol: str) -> str:
    """The C++ declaration of a mangled name; the name itself if it is none."""
    library, status = _demangler(), ctypes.c_int(0)
    text = library.__cxa_demangle(symbol.encode(), None, None, ctypes.byref(status))
    if not text:
        return symbol
    try:
        return ctypes.string_at(text).decode()
    finally:
        ctypes.CDLL(None).free(ctypes.c_void_p(text))


def kernel_name(declaration: str) -> str:
    """A function's name with its template arguments, as manifests write it.

    Left out are the return type, parameters, blanks and `(anonymous namespace)::`, whose
    mangled form depends on the file's name.
    """
    text = declaration.replace("(anonymous namespace)::", "")
    depth, start = 0, 0
    for i, c in enumerate(text):
        # Only outside of <> does a blank end the return type, or a bracket the name.
        if c == " " and depth == 0:
            start = i + 1
        elif c == "(" and depth == 0:
            text = text[:i]
            break
        depth += (c in "<(") - (c in ">)")
    return text[start:].replace(" ", "")


#
# Machine code.
#


def read_code(library: Path) -> tuple[list[str], dict[str, Kernel]]:
    """Return the architectures that `library` has code for, and its kernels by symbol."""
    kernels: dict[str, Kernel] = {}
    symbol, arches = "", set()
    for line in _dump(library, "-res-usage"):
        if line.startswith("arch = "):
            arches.add(line.split("=")[1].strip())
        elif match := FUNCTION.match(line):
            symbol = match[1]
            kernels[symbol] = Kernel(symbol, kernel_name(demangle(symbol)))
        elif symbol and (found := dict(RESOURCE.findall(line))):
            kernels[symbol].registers, kernels[symbol].stack = int(found["REG"]), int(found["STACK"])
    counts: dict[str, collections.Counter] = collections.defaultdict(collections.Counter)
    for line in _dump(library, "-sass"):
        if match := INSTRUCTION.match(line):
            counts[symbol][match[1]] += 1
        elif match := FUNCTION.match(line):
            symbol = match[1]
    for symbol, kernel in kernels.items():
        opcodes = counts[symbol]
        if not opcodes:
            raise AuditError(f"{library}: cuobjdump shows no instructions of {kernel.name}")
        kernel.local = sum(n for opcode, n in opcodes.items() if opcode.split(".")[0] in ("LDL", "STL"))
        kernel.instructions = {opcode: n for opcode, n in opcodes.items() if TENSOR_CORE.match(opcode)}
    return sorted(arches), kernels


def read_log(library: Path, kernels: Mapping[str, Kernel]) -> list[str]:
    """Put ptxas's spills from the log beside `library` on `kernels`; return its C75xx lines."""
    log = log_path(library)
    if not log.is_file():
        raise AuditError(f"{log}: not found; it is written when the package is compiled: compile it again")
    first, *lines = log.read_text(errors="replace").splitlines() or [""]
    if first != log_header(library):
        raise AuditError(f"{log}: is of another compilation than {library.name}; compile the package again")
    symbol, warnings, spills = "", [], set()
    for line in lines:
        if WARNING.search(line):
            warnings.append(line.strip())
        if match := PROPERTIES.search(line):
            symbol = match[1]
        elif (match := SPILL.search(line)) and symbol in kernels:
            kernels[symbol].spill_stores, kernels[symbol].spill_loads = int(match[2]), int(match[3])
            spills.add(symbol)
    if unknown := sorted(kernels.keys() - spills):
        raise AuditError(f"{log}: does not say whether {kernels[unknown[0]].name} spills; compile with -Xptxas -v")
    return warnings


def log_path(library: Path) -> Path:
    """Where the compiler's output is kept: beside the library."""
    return library.with_suffix(".log")


def log_header(library: Path) -> str:
    """The first line of the log of `library`."""
    return f"sha256 {hashlib.sha256(library.read_bytes()).hexdigest()}"


def performance_warnings(text: str) -> list[str]:
    """Lines of ptxas's C75xx, which say that wgmma or setmaxnreg does not do what is written."""
    return [line.strip() for line in text.splitlines() if WARNING.search(line)]


#
# Products.
#


def expected_instruction(lhs: str, rhs: str) -> re.Pattern[str] | None:
    """What a tensor-core instruction of a product has to look like; None if there is none."""
    if lhs in FP8 and rhs in FP8:
        return re.compile(rf"QGMMA\.\w+\.F32\.{FP8[lhs]}\.{FP8[rhs]}$")
    return re.compile(r"HGMMA\.\w+\.F32\.BF16(\.|$)") if lhs == rhs == "bf16" else None


def _formats(launch: Mapping[str, Any]) -> tuple[str, str]:
    return launch["lhs"]["dtype"], launch["rhs"]["dtype"]


def prove(launch: Mapping[str, Any], kernels: list[Kernel]) -> tuple[str, str]:
    """Return what shows that `kernels` multiply in the formats of `launch`, or what is wrong."""
    lhs, rhs = _formats(launch)
    pattern = expected_instruction(lhs, rhs)
    found = collections.Counter()
    for kernel in kernels:
        found.update(kernel.instructions)
    evidence = ", ".join(f"{n} {opcode}" for opcode, n in sorted(found.items()))
    if pattern is None:
        return evidence, f"no tensor-core instruction multiplies {lhs} by {rhs}"
    if not found:
        return evidence, f"is assigned {lhs} x {rhs}, and its kernel has no tensor-core instruction"
    wrong = sorted(opcode for opcode in found if not pattern.match(opcode))
    if wrong:
        wanted = f"QGMMA ... {FP8[lhs]}.{FP8[rhs]}" if lhs in FP8 else "HGMMA ... BF16"
        return evidence, f"is assigned {lhs} x {rhs} ({wanted}), and its kernel multiplies with {', '.join(wrong)}"
    return evidence, ""


def _own(launch: Mapping[str, Any], by_name: Mapping[str, list[Kernel]]) -> tuple[list[Kernel], str]:
    """The kernels of an own product, or why they are not known."""
    named = launch.get("kernel", [])
    kernels: list[Kernel] = []
    for name in [named] if isinstance(named, str) else named:
        found = by_name.get(name.replace(" ", "").replace("(anonymousnamespace)::", ""), [])
        if len(found) != 1:
            return [], f"its kernel {name} is {'not' if not found else 'more than once'} in the library"
        kernels += found
    return kernels, "" if kernels else "is an own product, and the manifest names no kernel"


def audit_products(manifest: Mapping[str, Any], kernels: Iterable[Kernel], uses_cublas: bool) -> list[Product]:
    """Compare every product of the launch list with the kernels of the library."""
    by_name: dict[str, list[Kernel]] = collections.defaultdict(list)
    for kernel in kernels:
        for name in {kernel.name, kernel.symbol}:
            by_name[name].append(kernel)
    products = []
    for launch in manifest["launches"]:
        if launch["op"] != "product" and not (launch.get("implementation") == "own" and "lhs" in launch):
            continue
        lhs, rhs = _formats(launch)
        # Before own products there was nothing else than cuBLASLt.
        how = launch.get("implementation", "cublaslt")
        product = Product(launch["name"], launch.get("role", ""), f"{lhs} x {rhs}", how, [], "")
        if how == "own":
            own, product.problem = _own(launch, by_name)
            product.kernels = [kernel.symbol for kernel in own]
            if own:
                product.evidence, product.problem = prove(launch, own)
        elif how == "cublaslt":
            product.evidence = f"checked at load: {lhs} x {rhs} -> {launch['result']['dtype']}"
            product.problem = "" if uses_cublas else "goes through cuBLASLt, which the library is not linked with"
        else:
            product.problem = f"has the implementation '{how}', expected own or cublaslt"
        products.append(product)
    return products


def _same_source(directory: Path, manifest: Mapping[str, Any]) -> None:
    """The manifest must be of the step.cu that lies beside it."""
    value = 0xCBF29CE484222325  # FNV-1a 64
    for byte in (directory / "step.cu").read_bytes():
        value = (value ^ byte) * 0x100000001B3 & (1 << 64) - 1
    if f"{value:016x}" != manifest["source_hash"]:
        raise AuditError(
            f"{directory / 'step.cu'}: has the hash {value:016x}, the manifest expects {manifest['source_hash']}; "
            "build the package again"
        )


def load_manifest(directory: Path) -> dict[str, Any]:
    """The manifest of a CUDA package. Raises AuditError if it is none."""
    path = directory / "manifest.json"
    if not path.is_file():
        raise AuditError(f"{path}: not found; build a package with mpt-build --target=cuda")
    try:
        manifest = json.loads(path.read_text())
    except ValueError as error:
        raise AuditError(f"{path}: {error}") from error
    if not isinstance(manifest, dict) or manifest.get("target") != "cuda":
        found = manifest.get("target") if isinstance(manifest, dict) else manifest
        raise AuditError(f"{path}: target is {found!r}, expected 'cuda'; there is nothing to audit in other packages")
    return manifest


def audit(package: str | os.PathLike[str], library: Path | None = None) -> Report:
    """Audit a package that was compiled with nvcc; `library` is libstep.so if not given.

    Raises AuditError where it cannot be told what the package does: tools or files are missing,
    damaged, or of different builds.
    """
    directory = Path(package)
    library = library or directory / "libstep.so"
    manifest = load_manifest(directory)
    if not library.is_file():
        raise AuditError(f"{library}: not found; compile the package first (mpt.cuda.compile_package)")
    try:
        _same_source(directory, manifest)
        return _audit(directory, manifest, library)
    except (KeyError, TypeError, AttributeError) as error:
        what = f"{type(error).__name__}: {error}"
        raise AuditError(f"{directory / 'manifest.json'}: is damaged ({what}); build the package again") from error


def _audit(directory: Path, manifest: Mapping[str, Any], library: Path) -> Report:
    if missing := missing_tools():
        raise AuditError(missing)
    arches, kernels = read_code(library)
    warnings = read_log(library, kernels)
    uses_cublas = b"libcublasLt.so.13\0" in library.read_bytes()
    products = audit_products(manifest, kernels.values(), uses_cublas)
    problems = [f"product '{p.name}': {p.problem}" for p in products if p.problem]
    problems += [f"ptxas: {line}" for line in warnings]
    if arches != [manifest["arch"]]:
        has = ", ".join(arches) or "nothing"
        problems.append(f"{library.name} has code for {has}, the manifest expects {manifest['arch']}")
    return Report(str(directory), manifest["arch"], products, list(kernels.values()), problems)


#
# Text.
#


def text(report: Report) -> list[object]:
    """The report as sentences and a table, for the terminal."""
    from rich.table import Table

    table = Table("product", "formats", "by", "evidence", title=f"{report.package}, {report.arch}")
    for product in report.products:
        table.add_row(product.name, product.formats, product.implementation, product.problem or product.evidence)
    own = [p for p in report.products if p.implementation == "own"]
    proven = sum(not p.problem for p in own)
    parts: list[object] = [table] if report.products else []
    parts.append(
        f"{len(report.products)} products: {proven} of {len(own)} own ones proven in machine code, "
        f"{len(report.products) - len(own)} through cuBLASLt, checked at load"
    )
    spilling = report.spilling
    parts.append(f"{len(report.kernels)} kernels, {len(spilling) or 'none'} spilling")
    parts += [
        f"  {kernel.name}: {kernel.spill_stores} bytes stored, {kernel.spill_loads} loaded, {kernel.registers} registers"
        for kernel in spilling
    ]
    return parts + [f"problem: {problem}" for problem in report.problems]
