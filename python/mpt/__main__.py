# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""`python -m mpt` is `mptc`. Ctrl-C while modules are imported is one line too, like later."""

import sys


def main() -> int:
    """Run the command line; return its exit status."""
    try:
        from mpt.cli import main as run
    except KeyboardInterrupt:
        print("mptc: interrupted", file=sys.stderr)
        return 130
    return run()


if __name__ == "__main__":
    sys.exit(main())
