"""What `pip install maskerlib` alone leaves out: one error that names the extra which brings it."""

import importlib
import importlib.util
import sys
from types import ModuleType

__all__ = ["optional_module", "require_extra"]


def optional_module(module: str, extra: str) -> ModuleType:
    """The module of this name; ImportError, with the mend, where it cannot be imported.

    >>> optional_module("no_such_module", "timm")
    Traceback (most recent call last):
    ImportError: no_such_module is not installed (No module named 'no_such_module'); pip install 'maskerlib[timm]'
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f"{module.partition('.')[0]} is not installed ({error}); pip install 'maskerlib[{extra}]'") from None


def require_extra(extra: str, *packages: str) -> None:
    """Do nothing where these packages are installed, and import none; else ImportError that names the first which is not.

    A room that cannot do without an extra asks this in its `__init__`, so that the error comes first and is one line. Where the
    room is run as a command, `python -m`, that line is all, and the command ends with status 2.
    """
    for package in packages:
        if importlib.util.find_spec(package) is None:
            lacking = f"{package} is not installed; pip install 'maskerlib[{extra}]'"
            if sys.argv[:1] == ["-m"]:  # Python says so while it looks for the module to run
                sys.stderr.write(f"error: {lacking}\n")
                sys.exit(2)
            raise ImportError(lacking)
