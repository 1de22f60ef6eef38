# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
#
# What a person types. Every target does what is missing before it, so
# `make demo` and `make check` are enough on a fresh Debian 12 machine.
#
#   make setup    Debian packages and a Python environment in build/venv
#   make build    the C++ tools and libraries, into build/
#   make demo     a BERT from ONNX to mixed-precision training, into build/demo
#   make check    the one gate: format, layering, build, lit, unit, end to end
#   make exhaustive  all 2^32 floats through every encoder, some minutes
#   make format   formats the C++ sources
#   make clean    removes what was built and keeps the Python environment
#   make distclean   removes build/ altogether
#
# PYTHON=... uses another Python environment, as it stands, instead of build/venv.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := build
.PHONY: setup configure build demo check check-style check-lit check-unit \
        check-python exhaustive format clean distclean

JOBS ?= $(shell nproc)
VENV := build/venv
PYTHON ?= $(VENV)/bin/python
LIT = $(PYTHON) -c 'from lit.main import main; main()'
# OpenBLAS picks its kernels for the CPU that it runs on.
unexport OPENBLAS_CORETYPE
export MPT_BIN := $(CURDIR)/build/bin
export PYTHONPATH := $(CURDIR)/python$(if $(PYTHONPATH),:$(PYTHONPATH))

setup:
ifeq ($(PYTHON),$(VENV)/bin/python)
	@tools/dev/setup $(VENV)
endif

# CMake runs again by itself when its files change.
build/build.ninja: | setup
	@cmake --preset release -DMPT_PYTHON=$(abspath $(PYTHON))

build: setup build/build.ninja
	@cmake --build build --parallel $(JOBS)

demo: build
	@$(PYTHON) -m mpt demo --out build/demo

# The last line of output is pytest's count of tests.
check: check-style check-lit check-unit check-python

check-style: setup
	@tools/dev/check-format
	@tools/dev/check-layering

check-lit: build check-style
	@MPT_ROUNDTRIP=1 $(LIT) -sv -j$(JOBS) build/test

check-unit: build check-lit
	@ctest --test-dir build --output-on-failure --no-tests=ignore -j$(JOBS)

check-python: build check-unit
	@$(PYTHON) -m pytest -q

# Against the formats' definitions and, if nvcc is there, CUDA's host functions.
exhaustive: build
	@build/bin/mpt-numerics-exhaustive

format:
	@tools/dev/check-format --fix

clean:
	@if [ -d build ]; then find build -mindepth 1 -maxdepth 1 ! -name venv -exec rm -rf {} +; fi

distclean:
	@rm -rf build
