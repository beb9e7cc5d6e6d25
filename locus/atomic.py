"""Write a file whole or not at all, and never through a link that somebody else has laid."""

import errno
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from locus.errors import UserError

try:
    import fcntl
except ImportError:  # no such locks on this system: what another process is writing cannot be told from what one has left
    fcntl = None  # type: ignore[assignment]

MARK = ".locus-partial-"
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO}
FORMER = re.compile(r"\.[\w.-]+\.\d+(\.(pdf|png|svg))?")  # what the first edition called them: the file, and a process


def replace(path: Path, content: bytes | str) -> None:
    """Put a file in the place of whatever has its name; a link of that name is replaced, not followed.

    What was written is on the disk before it gets its name, so a power cut leaves the old file or the new one.

    Raises:
        OSError: if it cannot be written; what was there stays.
    """
    partial = path.with_name(f"{MARK}{secrets.token_hex(8)}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with os.fdopen(os.open(partial, flags, 0o666), "wb") as stream:
            if fcntl is not None:
                fcntl.flock(stream, fcntl.LOCK_EX)  # the system lets go of it when this process ends, however it ends
            stream.write(content.encode() if isinstance(content, str) else content)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def folder(path: Path) -> Path:
    """A folder to write into, made if absent.

    Raises:
        UserError: if it is a link or a file: what is written there would land elsewhere, or nowhere.
    """
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        raise UserError("a folder of its own to write into", f"{str(path)!r}, a link or a file", "Remove it.")
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError("a folder that can be written", f"{str(path)!r} ({error})", "Give another one.") from error
    return path


@contextmanager
def room() -> Iterator[None]:
    """Say in one sentence, while a `with` block lasts, that a disk is full: what was finished is whole, and the rest goes on.

    Raises:
        UserError: saying so.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise UserError(
            "room on the disk for results",
            f"{error.strerror}{f' at {error.filename!r}' if error.filename else ''}",
            "Free some space and run the same command again: finished trials are kept.",
        ) from error


def sweep(*folders: Path) -> None:
    """Remove what a process that was killed left half written in these folders."""
    for place in folders:
        for partial in place.glob(".*"):
            if (partial.name.startswith(MARK) or FORMER.fullmatch(partial.name)) and not _written(partial):
                partial.unlink(missing_ok=True)


def _written(partial: Path) -> bool:
    """Whether a file is being written by a living process, or is none that a process could be writing."""
    try:
        with os.fdopen(os.open(partial, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as stream:
            if fcntl is not None:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return False
    except OSError:
        return True
