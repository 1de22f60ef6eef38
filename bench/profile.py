# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""What profiling costs: runs profile_cost.py, where it is described.

The standard library has a `profile` too, which torch imports, and this folder comes first on a
benchmark's sys.path: whoever imports this file gets that module.
"""

import importlib.util
import sys
import sysconfig
from pathlib import Path

if __name__ == "__main__":
    import profile_cost

    profile_cost.main()
else:
    _path = Path(sysconfig.get_path("stdlib")) / "profile.py"
    _spec = importlib.util.spec_from_file_location(__name__, _path)
    sys.modules[__name__] = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules[__name__])
