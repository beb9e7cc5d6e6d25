"""A tokenizer's files, looked at before transformers reads them, and the tokenizer tried out where it can do no harm.

A tokenizer is a program that comes with a model. It may make a gigabyte of a letter, search a text for ever, or name files that
lie elsewhere.
"""

import json
import string
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from locus.behaviours.template import bounded
from locus.boundary import incoming
from locus.errors import UserError

WHAT = "a tokenizer whose files lie in the model's folder"
FAIR = "a tokenizer that reads any text in little time and memory"
TOKENIZER_BYTES = 256 << 20
GROWTH = 64  # letters that may come of one
# Every printable letter, long words, blanks, digits, and letters of other scripts.
PROBES = (
    string.printable * 4,
    "The quick brown fox is true, false, or neither; 1234567890. " * 20,
    "a" * 400 + "!",
    " " * 400 + "1" * 400,
    "\u00dcber na\u00efve caf\u00e9s \u4e2d\u6587 \u0440\u0443\u0441 \u0639\u0631 \U0001f600 \ufb01 \u00bd " * 8,
)


def check_files(folder: Path) -> None:
    """Refuse a tokenizer that names a file elsewhere, or that makes far more of a text than there is.

    Raises:
        UserError: naming the file.
    """
    path = folder / "tokenizer_config.json"
    for key, name in _files_named(_read(path)):
        if Path(name).name != name or not name:
            raise UserError(WHAT, f"{str(path)!r}, whose {key} names {name[:80]!r}", "Take that line out of it.")
    path = folder / "tokenizer.json"
    content = _read(path, TOKENIZER_BYTES)
    for part in ("normalizer", "decoder"):
        if (most := _growth(content.get(part))) > GROWTH:
            received = f"{str(path)!r}, whose {part} makes {most:.3g} letters of one"
            raise UserError(FAIR, received, "Fetch or save the tokenizer again: tokenizer.save_pretrained(FOLDER).")


def try_out(tokenizer: Any, name: str) -> None:
    """Have a tokenizer read and write some texts in a process of its own.

    Raises:
        UserError: if it takes too much time or memory, or makes far more tokens of a text than it has letters.
    """

    def refused(received: str) -> UserError:
        return UserError(FAIR, f"that of {name!r}: {received}", "Use another model, or the tokenizer that belongs to it.")

    most = max(map(float, bounded(_tried(tokenizer), refused).values()))
    if most > GROWTH:
        raise refused(f"one that makes {most:.0f} tokens of a letter")


def _tried(tokenizer: Any) -> Callable[[], dict[str, str]]:
    """What tries it out: tokens and letters that come of one letter, by text."""

    def work() -> dict[str, str]:
        growth = {}
        for number, text in enumerate(PROBES):
            try:
                ids = tokenizer(text)["input_ids"]
                growth[str(number)] = str(max(len(ids), len(tokenizer.decode(ids))) / len(text))
            except BaseException as error:  # what its Rust raises is no Exception
                raise ValueError(f"one that fails on a text ({type(error).__name__})") from error
        return growth

    return work


def _read(path: Path, limit: int = incoming.JSON_BYTES) -> Mapping[str, Any]:
    """A file of a tokenizer as transformers reads it, which has numbers of any size; empty where there is none."""
    if not path.exists():
        return {}
    content = incoming.read_bytes(path, WHAT, limit)
    try:
        parsed = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise UserError(WHAT, f"{str(path)!r} ({str(error)[:200]})", "Fetch or save the tokenizer again.") from error
    return parsed if isinstance(parsed, dict) else {}


def _files_named(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Every file that a tokenizer's configuration names; `tokenizer_file`, where it was saved once, is not opened."""
    for key, value in config.items():
        if key.endswith(("_file", "_files")) and key != "tokenizer_file":
            for name in value if isinstance(value, list) else value.values() if isinstance(value, dict) else [value]:
                if name is not None:
                    yield key, str(name)


def _growth(part: Any, depth: int = 0) -> float:
    """How many letters a normalizer or a decoder makes of one, at most."""
    if not isinstance(part, dict) or depth > incoming.DEPTH:
        return 1.0
    most = 1.0
    for one in [*_list(part.get("normalizers")), *_list(part.get("decoders"))]:
        most *= _growth(one, depth + 1)
    content = part.get("content")
    if part.get("type") == "Replace" and isinstance(content, str):
        pattern = part.get("pattern")
        replaced = pattern.get("String") if isinstance(pattern, dict) else None
        # A search may find a place between letters, and add to each.
        return max(1.0, len(content) / len(replaced)) if isinstance(replaced, str) and replaced else 1.0 + len(content)
    return most


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
