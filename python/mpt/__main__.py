# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""`python -m mpt` is `mptc`."""

import sys

from mpt.cli import main

sys.exit(main())
