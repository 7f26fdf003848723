"""``python -m arrayred``, and the command ``arrayred``."""

from __future__ import annotations

import os
import signal


def main() -> None:
    """Run the command line; an interrupt ends its imports, 0.1 s, without a traceback."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)
    from arrayred import cli

    cli.main()


def _end(_number: int, _frame: object) -> None:
    os.write(2, b"arrayred: interrupted\n")
    os._exit(130)


if __name__ == "__main__":
    main()
