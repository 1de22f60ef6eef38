# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""Studies of number formats: the seed paper's base case, and real models (`mptc study`)."""
