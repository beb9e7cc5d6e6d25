"""What the user can fix, told apart from our bugs.

A `UserError` says what was expected, what came, and what to do; the command line prints it and exits
with status 2. Everything else that escapes is a bug of ours and exits with status 1. What they say is one
harmless line, whatever names it holds.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from locus.shown import line

SHOWN = 300  # characters of another's message


class UserError(Exception):
    """Something the user can fix: what was expected, what was received, and the remedy.

    Args:
        expected: what the tool needs, as a clause ("a CSV with a column 'Question'").
        received: what it found instead.
        remedy: what to do about it.
    """

    def __init__(self, expected: str, received: str, remedy: str):
        self.expected = expected
        self.received = received
        self.remedy = remedy
        super().__init__(line(f"expected {expected}; received {received}. {remedy}"))

    def __reduce__(self) -> tuple[Any, ...]:
        """A worker process hands its errors to its parent."""
        return type(self), (self.expected, self.received, self.remedy)


class PreconditionsError(UserError):
    """Several preconditions failed at once; all of them are reported together."""

    def __init__(self, errors: list[UserError]):
        self.errors = tuple(errors)
        listed = "\n".join(f"  {number}. {error}" for number, error in enumerate(errors, 1))
        Exception.__init__(self, f"{len(errors)} things to fix before this can run:\n{listed}")

    def __reduce__(self) -> tuple[Any, ...]:
        """As of one error."""
        return type(self), (list(self.errors),)


class VerificationError(Exception):
    """A receipt, artefact or rerun does not hold; the first difference is the message."""

    def __init__(self, difference: str):
        super().__init__(line(difference))


# What nonsense of the right shape, in a file that somebody else wrote, can make our own code raise.
NONSENSE = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, AssertionError, RecursionError, MemoryError)


@contextmanager
def whole(what: str, path: Path) -> Iterator[None]:
    """Take what a stranger's file makes our code raise for what it is: something wrong with the file.

    Args:
        what: what the file should be.
        path: where it is.

    Raises:
        UserError: in place of any of `NONSENSE`.
    """
    try:
        yield
    except NONSENSE as error:
        received = f"{str(path)!r} ({type(error).__name__}: {str(error)[:160]})"
        raise UserError(what, received, "Run the audit again, or ask for the folder again.") from error


PLACES = {
    errno.EACCES, errno.EDQUOT, errno.EEXIST, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENOENT, errno.ENOSPC,
    errno.ENOTDIR, errno.ENOTEMPTY, errno.EPERM, errno.EROFS,
}  # fmt: skip


def of_place(error: OSError) -> UserError | None:
    """What the user can fix about a file or folder that the system does not let us read or write; None for anything else."""
    name = error.filename
    ours = isinstance(name, str) and name.startswith(os.path.dirname(__file__))
    if error.errno not in PLACES or ours or (name is None and error.errno not in (errno.ENOSPC, errno.EDQUOT)):
        return None
    received = f"{name!r} ({error.strerror})" if name is not None else str(error.strerror)
    return UserError("files and folders that can be read and written", received, "Check the path, its rights and the disk.")


def raise_all(errors: list[UserError]) -> None:
    """Raise nothing, the one error, or all of them together.

    Raises:
        UserError: if exactly one error was collected.
        PreconditionsError: if several were.
    """
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise PreconditionsError(errors)


@contextmanager
def others(expected: str, name: str, remedy: str) -> Iterator[None]:
    """Around calls of other packages alone: whatever they raise over a stranger's file is the user's to mend, and no bug of ours.

    Args:
        expected: as of `UserError`.
        name: of the file or model.
        remedy: as of `UserError`.

    Raises:
        UserError: for everything that is an exception, whatever its class.
    """
    try:
        yield
    except UserError:
        raise
    except BaseException as error:
        # A panic in Rust is no Exception to Python, yet tokenizers panics over a cut file.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        message = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
        raise UserError(expected, f"{name!r} ({type(error).__name__}: {message[:SHOWN]})", remedy) from error
