"""What reaches the terminal: our own colours, and text that no terminal obeys.

Two gates, each enough by itself for what passes it. Consoles spell out every control character of a text before they add the
sequences that colour it. And while a command runs, whatever else is written to standard output or error (warnings, logs, a
library's progress, a parser's complaint) passes a stream that lets no control character through at all.
"""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import IO, Any

import rich.console
import rich.text
from rich.segment import Segment
from rich.style import Style

from locus.shown import harmless, line


class Text(rich.text.Text):
    """One line of text with its style; what would break the line or hide in it is spelled out."""

    def __init__(self, text: Any = "", style: str | Style = "", **how: Any):
        super().__init__(line(text), style, **how)


class Console(rich.console.Console):
    """A console whose every text is harmless, also that of rich itself: tables, progress, tracebacks."""

    def render(
        self, renderable: rich.console.RenderableType, options: rich.console.ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """As rich does, with the text of each segment spelled out and no link beneath it."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(harmless(segment.text), _unlinked(segment.style))

    def render_str(self, text: str, **how: Any) -> rich.text.Text:
        """As rich does, spelled out before it is laid out, so that it has its true width."""
        return super().render_str(harmless(text), **how)

    def _behind(self) -> IO[str]:
        """The stream behind ours, and behind the one that rich puts before a live display."""
        file: Any = super().file
        while (behind := getattr(file, "behind", None) or getattr(file, "rich_proxied_file", None)) is not None:
            file = behind
        return file  # type: ignore[no-any-return]

    file = property(_behind, rich.console.Console.file.fset)  # type: ignore[attr-defined]


def console(*, stderr: bool = False) -> Console:
    """A console for our own words: in them, brackets and colons are brackets and colons."""
    stream = sys.stderr if stderr else sys.stdout
    # Where there is no terminal (a pipe, a log), 80 columns would break the lines.
    return Console(stderr=stderr, markup=False, emoji=False, width=None if stream.isatty() else 132)


class Stream:
    """A text stream that spells out what a terminal would obey. It has no `buffer`, so nothing gets past it.

    Args:
        behind: the stream that it writes to.
    """

    def __init__(self, behind: Any):
        self.behind = behind

    def write(self, text: str) -> int:
        """Write a text, spelled out."""
        self.behind.write(harmless(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write several."""
        for text in lines:
            self.write(text)

    def flush(self) -> None:
        """Flush the stream behind."""
        self.behind.flush()

    def isatty(self) -> bool:
        """Whether the stream behind is a terminal."""
        return bool(self.behind.isatty())

    def fileno(self) -> int:
        """That of the stream behind."""
        return int(self.behind.fileno())

    def writable(self) -> bool:
        """It is."""
        return True

    def readable(self) -> bool:
        """It is not."""
        return False

    @property
    def encoding(self) -> str:
        """That of the stream behind."""
        return str(self.behind.encoding)

    @property
    def errors(self) -> str | None:
        """How the stream behind writes what its encoding lacks."""
        return getattr(self.behind, "errors", None)


@contextmanager
def guarded() -> Iterator[None]:
    """While this lasts, nothing that a terminal obeys is written to standard output and error but by our consoles."""
    streams, stock = (sys.stdout, sys.stderr), rich.console.Console
    for stream in streams:
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a name may hold what the terminal's encoding lacks
    sys.stdout, sys.stderr = Stream(sys.stdout), Stream(sys.stderr)
    rich.console.Console = Console  # type: ignore[misc] # what prints the help looks it up there
    try:
        yield
    finally:
        sys.stdout, sys.stderr = streams
        rich.console.Console = stock  # type: ignore[misc]


def _unlinked(style: Style | None) -> Style | None:
    return style.update_link(None) if style is not None and style.link else style
