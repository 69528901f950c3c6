"""`python -m maskerlib.notebooks`: see `maskerlib.notebooks.runner`."""

import signal
import sys
from typing import NoReturn

from maskerlib.notebooks.runner import main

__all__ = ["main"]


def _on_terminate(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _on_terminate)
    sys.exit(main())
