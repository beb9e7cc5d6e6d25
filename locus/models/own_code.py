"""Python that comes with a model: it runs only where the user of this very command asks for it, and who refuses says what it is.

A model's `auto_map` names classes in files beside its weights (or in another repository of the hub). Transformers runs them
where it has no class of its own, or prefers them where it may.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from locus.boundary import incoming
from locus.errors import UserError
from locus.records.base import JsonObject

FILES = ("config.json", "tokenizer_config.json")
SHOWN = 5
LONGEST = 80  # letters of a name


def named_in(folder: str) -> list[str]:
    """The Python files that a local model folder's configurations name, as "x.py (auto_map in config.json)"; none elsewhere."""
    return [f"{module} (auto_map in {file})" for file in FILES for module in _auto_map_modules(Path(folder) / file)]


def _read_configuration(path: Path) -> JsonObject:
    """A configuration as transformers reads it (in which a number may be of any size); empty where there is none to read."""
    try:
        content = json.loads(incoming.read_bytes(path, "a configuration"))
    except (UserError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _auto_map_modules(path: Path) -> list[str]:
    """The modules of one configuration's `auto_map`."""
    classes = _read_configuration(path).get("auto_map")
    listed = classes.values() if isinstance(classes, dict) else classes if isinstance(classes, list) else []
    flat = [one for entry in listed for one in (entry if isinstance(entry, list) else [entry])]
    return list(dict.fromkeys(f"{str(one).rpartition('.')[0] or one}.py"[:LONGEST] for one in flat if one is not None))


def refusal(name: str, folder: str) -> UserError:
    """The error for a model that cannot be had without running its code.

    Args:
        name: as the user knows it.
        folder: where it lies, or its hub id.
    """
    files = named_in(folder)
    more = f" and {len(files) - SHOWN} more" if len(files) > SHOWN else ""
    listed = ", ".join(map(repr, files[:SHOWN])) + more if files else "named by auto_map in its configuration"
    return UserError(
        "a model that transformers has classes for",
        f"{name!r}, which comes with Python code of its own, {listed}, which would be run",
        "Read that code; if you trust it, give --trust-remote-code (in an audit: --set trust_remote_code=true).",
    )


@contextmanager
def _no_kernels() -> Iterator[None]:
    """Have nothing fetched and run that the package `kernels`, where it is installed, would fetch from the hub unasked."""
    from transformers.integrations import hub_kernels  # slow to import

    ways: Any = hub_kernels
    kept = ways.get_kernel

    def refuse(kernel: str, *args: Any, **options: Any) -> Any:
        raise PermissionError(f"code from the hub, {kernel!r:.80}, which is never fetched")

    ways.get_kernel = refuse
    try:
        yield
    finally:
        ways.get_kernel = kept


@contextmanager
def refused(name: str, folder: str) -> Iterator[None]:
    """Around what transformers loads: where it will not run code that it was not allowed to, that code is named.

    Raises:
        UserError: in place of its error.
    """
    try:
        with _no_kernels():
            yield
    except ValueError as error:
        if "trust_remote_code" in str(error):
            raise refusal(name, folder) from error
        raise


def check_own_code(name: str, folder: str, trusted: bool) -> None:
    """Refuse a local model folder of a kind that only its own code knows, unless that code may be run.

    Raises:
        UserError: saying what would have been run.
    """
    if trusted or not Path(folder).is_dir() or not named_in(folder):
        return
    from transformers import CONFIG_MAPPING  # slow to import

    kind = _read_configuration(Path(folder) / FILES[0]).get("model_type")
    if not isinstance(kind, str) or kind not in CONFIG_MAPPING:
        raise refusal(name, folder)
