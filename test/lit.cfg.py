# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""lit: how *.mlir and *.test run.

Substitutions: the tools by their names, FileCheck, not, split-file and count of
LLVM, %python, %mpt_lib (folder of the libraries), %mpt_include.

MPT_ROUNDTRIP=1 in the environment makes every mpt-opt in a RUN line go through
test/Tools/mpt-opt-roundtrip, which also prints and parses its output again, as
text and as bytecode.
"""

import os
import shutil

import lit.formats

# pylint: disable=undefined-variable
config.name = "mpt"
config.test_format = lit.formats.ShTest(execute_external=False)
config.suffixes = [".mlir", ".test"]
config.excludes = ["Inputs", "unit"]
config.test_source_root = os.path.dirname(__file__)
config.test_exec_root = os.path.join(config.mpt_build_dir, "test")


def tool_path(name):
    return os.path.join(config.mpt_tools_dir, name)


mpt_opt = tool_path("mpt-opt")
if os.environ.get("MPT_ROUNDTRIP", "0") not in ("", "0"):
    wrapper = os.path.join(config.test_source_root, "Tools", "mpt-opt-roundtrip")
    mpt_opt = f"{config.python} {wrapper} {mpt_opt}"
    config.available_features.add("roundtrip")

# Whole words only: mpt-opt is not to be replaced inside mpt-opt-roundtrip or a path.
for name in ("mpt-import", "mpt-build", "mpt-solve"):
    if os.access(tool_path(name), os.X_OK):
        config.available_features.add(name)
    config.substitutions.append((rf"(?<![\w/-]){name}(?![\w./-])", tool_path(name)))
config.substitutions.append((r"(?<![\w/-])mpt-opt(?![\w./-])", mpt_opt))
config.substitutions.append(("%mpt-opt-plain", tool_path("mpt-opt")))
config.substitutions.append(("%python", config.python))
config.substitutions.append(("%mpt_lib", config.mpt_lib_dir))
config.substitutions.append(("%mpt_include", os.path.join(config.mpt_source_dir, "include")))
config.substitutions.append(("%mpt_source", config.mpt_source_dir))

for feature, program in (("nvcc", "nvcc"), ("g++", "g++"), ("readelf", "readelf")):
    if shutil.which(program):
        config.available_features.add(feature)

config.environment["PATH"] = os.pathsep.join(
    [config.llvm_tools_dir, config.environment.get("PATH", os.environ["PATH"])]
)
config.environment["PYTHONPATH"] = os.path.join(config.mpt_source_dir, "python")
config.environment["MPT_BIN"] = config.mpt_tools_dir
