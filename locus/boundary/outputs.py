"""Where a command is told to write: looked at before the work begins, so that no result is lost for want of a place."""

import os
import stat
from pathlib import Path

from locus import atomic
from locus.errors import UserError


def check_folder(path: Path, option: str = "--out") -> None:
    """Refuse a place where no folder is and none can be made; nothing is made yet.

    Args:
        path: the folder.
        option: what the user names it by.

    Raises:
        UserError: if it is a file or a link that leads nowhere, or what holds it is no folder or cannot be written.
    """
    if (mode := _mode(path, option)) is not None and not stat.S_ISDIR(mode):
        raise UserError("a folder to write into", f"{str(path)!r}, which is a file", f"Give another {option}.")
    _check_holder(path, option)


def empty_folder(path: Path, option: str = "--to") -> None:
    """Make a folder that is new, or see that it is empty.

    Raises:
        UserError: if it is neither, or `check_folder` finds something wrong.
    """
    check_folder(path, option)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UserError("a new or empty folder", f"{path}, which is neither", f"Give another {option}.")
    path.mkdir(parents=True, exist_ok=True)


def check_file(path: Path, option: str = "--out") -> None:
    """Refuse a place where no file can be written; nothing is written yet.

    Raises:
        UserError: if it is a folder, a device, a pipe or a link that leads nowhere, or its folder is none or cannot be written.
    """
    if (mode := _mode(path, option)) is not None and not stat.S_ISREG(mode):
        raise UserError("a file to write", f"{str(path)!r}, which is no regular file", f"Give another {option}.")
    if not path.absolute().parent.is_dir():
        raise UserError("a file in a folder that exists", f"{str(path)!r}", f"Make the folder, or give another {option}.")
    _check_holder(path, option)


def check_environment() -> None:
    """Refuse folders in the environment that are none: results would be left unsigned, or a cache laid where nobody looks.

    Raises:
        UserError: if LOCUS_CACHE or LOCUS_CONFIG is empty, a file, or a link that leads nowhere.
    """
    for name in ("LOCUS_CACHE", "LOCUS_CONFIG"):
        if (value := os.environ.get(name)) is None:
            continue
        mode = _mode(Path(value), name)
        if not value or (mode is not None and not stat.S_ISDIR(mode)):
            raise UserError(f"{name} as a folder", repr(value), "Set it to a folder, or unset it.")


def write_text(path: Path, content: str, option: str = "--out") -> None:
    """Write a file whole, where `check_file` finds nothing wrong.

    Raises:
        UserError: if it cannot be written.
    """
    check_file(path, option)
    try:
        atomic.replace(path, content)
    except OSError as error:
        raise UserError("a file that can be written", f"{str(path)!r} ({error})", f"Give another {option}.") from error


def _mode(path: Path, option: str) -> int | None:
    """What is at a path, links followed; None where nothing is.

    Raises:
        UserError: for a link that leads nowhere, and a name that cannot be one.
    """
    try:
        path.lstat()
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UserError("a path that can be written", f"{str(path)!r} ({error})", f"Give another {option}.") from error
    try:
        return path.stat().st_mode
    except OSError as error:
        raise UserError("a path that leads somewhere", f"{str(path)!r} ({error})", f"Give another {option}.") from error


def _check_holder(path: Path, option: str) -> None:
    """Refuse a path whose nearest folder that exists, or it itself, cannot be written."""
    near = path.absolute()
    while not os.path.lexists(near):
        near = near.parent
    holder = near if near.is_dir() else near.parent
    if not (near.is_dir() or near == path.absolute()):
        raise UserError("a path through folders", f"{str(path)!r}: {str(near)!r} is none", f"Give another {option}.")
    if not os.access(holder, os.W_OK | os.X_OK):
        raise UserError("a folder that can be written", f"{str(holder)!r}", f"Give another {option}.")
