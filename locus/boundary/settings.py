"""What a user sets: a frozen model of typed, finite and bounded values, from a TOML file and NAME=VALUE, both read strictly.

A number is a number and no text that looks like one, true is no 1, and what is larger than any use of it is refused here, where
one sentence can say so, and not where something overflows.
"""

import re
import tomllib
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator, model_validator

from locus.boundary import incoming
from locus.boundary.notices import notice
from locus.errors import UserError

FILE_BYTES = 1 << 20
TEXT = 100_000  # characters
COUNT = 1_000_000  # the largest whole number that is no seed
SEED = (1 << 53) - 1  # beyond it JSON is not exact
SIZE = 1e9  # the largest number with a point; the smallest above 0 is its inverse
PYTHON = {"True": True, "False": False}
BOUNDS = {
    "greater_than_equal": ("a number of at least", "ge"),
    "greater_than": ("a number above", "gt"),
    "less_than_equal": ("a number of at most", "le"),
    "less_than": ("a number below", "lt"),
}
SHOWN = 10  # problems named in one message


class RenamedSetting(UserWarning):
    """A setting is given under the name that it once had."""


class Settings(BaseModel):
    """The base of every configuration."""

    renamed: ClassVar[Mapping[str, str]] = {}
    """What settings were once called, with the names that they have now."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, str_max_length=TEXT)

    @model_validator(mode="before")
    @classmethod
    def _listed(cls, values: Any) -> Any:
        """TOML and JSON have lists where a setting is a tuple; what was written long ago has old names."""
        values = {new if (new := cls.renamed.get(name, name)) not in values else name: value for name, value in values.items()}
        return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}

    @field_validator("*")
    @classmethod
    def _bounded(cls, value: Any, about: ValidationInfo) -> Any:
        """Refuse a number beyond all use, a text that cannot be a path or be written as UTF-8, and a list without end."""
        values = value if isinstance(value, tuple) else (value,)
        if len(values) > 1000:
            raise ValueError(f"at most 1,000 values, not {len(values)}")
        for element in values:
            if isinstance(element, int) and not isinstance(element, bool):
                most = SEED if about.field_name == "seed" else COUNT
                if element > most:
                    raise ValueError(f"at most {most:,}")
            elif isinstance(element, float) and element != 0 and not 1 / SIZE <= abs(element) <= SIZE:
                raise ValueError(f"0, or between {1 / SIZE:g} and {SIZE:g}")
            elif isinstance(element, str) and ("\0" in element or not _writable(element)):
                raise ValueError("text in UTF-8, without NUL")
        return value


S = TypeVar("S", bound=Settings)


def _writable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def build(kind: type[S], values: Mapping[str, Any], expected: str, remedy: str) -> S:
    """A configuration from settings by name.

    Args:
        kind: of configuration.
        values: settings by name.
        expected: for the message ("valid audit settings").
        remedy: likewise.

    Raises:
        UserError: naming every unknown or wrong setting.
    """
    for name in values:
        if (new := kind.renamed.get(name)) is not None and new not in values:
            notice(f"the setting {name} is now called {new}.", RenamedSetting)
    try:
        return kind(**values)
    except ValidationError as error:
        problems = [_wrong(detail, kind) for detail in error.errors()]
        more = f"; and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        raise UserError(expected, "; ".join(problems[:SHOWN]) + more, remedy) from error


def _wrong(detail: Any, kind: type[Settings]) -> str:
    """What is wrong with one setting; for a name that is none, the nearest ones."""
    name = ".".join(map(str, detail["loc"]))[:80]
    if detail["type"] != "extra_forbidden":
        given = detail["input"]
        received = repr(given)
        cut = received if len(received) <= 80 else f"{received[:77]}..."
        if detail["type"] == "tuple_type":
            plain = isinstance(given, str) and re.fullmatch(r"[\w.,:/-]{1,40}", given)
            one = f'"{given}"' if plain else str(given) if type(given) in (int, float) else ""
            such = f", such as '{name}=[{one}]'" if one else ""
            return f"{name} = {cut}, where a list is expected{such}"
        if detail["type"] in BOUNDS:
            words, key = BOUNDS[detail["type"]]
            return f"{name} = {cut}, where {words} {detail['ctx'][key]:g} is expected"
        return f"{name} = {cut}: {detail['msg'].removeprefix('Value error, ').removesuffix('.')}"
    near = get_close_matches(name, kind.model_fields, cutoff=0.5)
    return f"no setting {name!r}" + (f" (nearest: {', '.join(near)})" if near else "")


def from_file(file: Path, expected: str) -> dict[str, object]:
    """Settings in a TOML file.

    Args:
        file: its path.
        expected: for the message ("a TOML file with audit settings").

    Raises:
        UserError: if it is no regular file of TOML.
    """
    text = incoming.text_of(incoming.read_bytes(file, expected, FILE_BYTES), expected, str(file))
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # of TOML, and of a whole number of too many digits
        raise UserError(expected, f"{str(file)!r} ({str(error)[:200]})", "Check the path and syntax.") from error


def from_flags(settings: Sequence[str] | None, /, **flags: Any) -> dict[str, object]:
    """Settings given as --set NAME=VALUE, and the flags that were given, which win.

    A value is TOML, or else a bare word: `seed=3`, `taus=[0.1, 0.2]`, `judge=local`; True and False are read as in Python.

    Raises:
        UserError: for what is no NAME=VALUE, a name given twice, and a value that begins like TOML and is none.
    """
    values: dict[str, object] = {}
    for setting in settings or []:
        name, equals, value = setting.partition("=")
        if not equals or not re.fullmatch(r"\w+", name) or name in values:
            raise UserError("--set NAME=VALUE, each name once", repr(setting[:80]), "Write --set seed=3, for example.")
        values[name] = _value(setting, value)
    return values | {name: value for name, value in flags.items() if value is not None}


def _value(setting: str, value: str) -> Any:
    try:
        parsed = tomllib.loads(f"value = {value}")
    except (ValueError, RecursionError) as error:
        if "\n" in value or value.lstrip()[:1] in ('"', "'", "[", "{", ""):
            raise UserError("a value in TOML, or one word", f"--set {setting[:80]!r} ({str(error)[:120]})", "Mend it.") from error
        return PYTHON.get(value, value)
    if len(parsed) > 1:
        raise UserError("one value", f"--set {setting[:80]!r}", "Give each setting a --set of its own.")
    return parsed["value"]
