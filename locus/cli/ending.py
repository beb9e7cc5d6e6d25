"""How the command line ends: what went wrong is said in one harmless line, and the exit status tells whose it is to mend."""

import os
import sys
import warnings

import typer

from locus import shown
from locus.boundary import terminal
from locus.boundary.terminal import Text
from locus.errors import UserError, VerificationError, of_place
from locus.machine.torchrun import quiet

INTERRUPTED = 130  # Ctrl-C
BROKEN_PIPE = 141  # as a shell has it


def end(app: typer.Typer) -> None:
    """Run the command line and exit with its status; nothing that it writes commands the terminal."""
    warnings.formatwarning = _warning
    with quiet(), terminal.guarded():
        sys.exit(_status(app))


def _status(app: typer.Typer) -> int:
    """Run the command line; its exit status."""
    try:
        status = app(standalone_mode=False)
        if status == INTERRUPTED:
            print("Interrupted. What was finished is kept; the same command goes on from there.", file=sys.stderr)
        return status if isinstance(status, int) else 0
    except UserError as error:
        return _failed("error:", error, 2)
    except VerificationError as error:
        return _failed("not verified:", error, 3)
    except BrokenPipeError:  # whoever read our output has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except typer.Exit as stop:
        return int(stop.exit_code)
    except typer.Abort:
        return INTERRUPTED
    except Exception as error:
        if hasattr(error, "show") and hasattr(error, "exit_code"):  # typer's own, or click's: which it is depends on the version
            error.show()
            return 2
        if isinstance(error, OSError) and (place := of_place(error)):
            return _failed("error:", place, 2)
        terminal.console(stderr=True).print_exception(show_locals=False)
        print("This is a bug in locus; please report it with the lines above.", file=sys.stderr)
        return 1


def _failed(what: str, error: Exception, status: int) -> int:
    """Say what went wrong; the exit status."""
    terminal.console(stderr=True).print(Text(what, "bold red"), str(error), soft_wrap=True)
    return status


def _warning(message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None) -> str:
    """Our own notices are for the user, who does not care which line of ours says so."""
    where = "" if category.__module__.startswith("locus") else f" ({filename}:{lineno})"
    return shown.line(f"notice: {message}{where}") + "\n"
