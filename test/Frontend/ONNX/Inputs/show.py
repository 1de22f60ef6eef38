# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""Prints name, type, shape, first and last value of the tensors in safetensors files."""

import json
import struct
import sys

for path in sys.argv[1:]:
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
        values = file.read()
    assert (8 + length) % 8 == 0
    for name, entry in header.items():
        if name == "__metadata__":
            print(json.dumps(entry, separators=(",", ":")))
            continue
        begin, end = entry["data_offsets"]
        floats = struct.unpack(f"<{(end - begin) // 4}f", values[begin:end])
        print(name, entry["dtype"], entry["shape"], floats[0], floats[-1])
