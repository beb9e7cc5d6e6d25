"""What a verb was asked, as settings and open parts: names, open models, questions and claims all become one configuration."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from locus.claims.claim import Claim
from locus.door import behaviour as behaviours
from locus.door import model as models
from locus.errors import UserError

if TYPE_CHECKING:
    from locus.plan.config import AuditConfig
    from locus.plan.opened import Opened


def asked(
    model: Any,
    behaviour: Any,
    claim: Any,
    preset: str,
    config: str | Path | None,
    settings: dict[str, object],
    out: str | Path | None = None,
    also: Any = None,
) -> "tuple[AuditConfig, Opened]":
    """The configuration, and what is open already.

    Args:
        model: a name, an open model, or None.
        behaviour: a name, a path, anything that `behaviour` takes, or None.
        claim: a source of claims, a claim, several of either, or None.
        preset: that the rest starts from.
        config: a TOML file, or None.
        settings: by name; None is what was not given.
        also: other behaviours on which edits are scored, each as `behaviour`, or None.
        out: the run folder, which may hold a run of the first edition: it goes on with what that edition did by itself.

    Raises:
        UserError: naming every unknown or wrong setting, and settings that an open model contradicts.
    """
    from locus.plan.config import resolve

    open_model = models.taken(model)
    data, dataset = behaviours.taken(behaviour)
    named = {"model": model} if open_model is None else _of(open_model, settings)
    sources, claims = _claims(claim)
    if data is not None and settings.get("data") not in (None, data):
        raise UserError("the questions once", f"behaviour and data={settings['data']!r}", "Give one of them.")
    others = [behaviours.taken(one) for one in _several(also)]
    given = {**settings, **named, **({"data": data} if data is not None else {}), "claims": sources or settings.get("claims")}
    given |= {"also": tuple(str(source) for source, _ in others)} if others else {}
    first = out is not None and _first(Path(out))
    resolved = resolve(preset, None if config is None else Path(config), first=first, dataset=dataset, **given)
    held = {str(source): one for source, one in others if one is not None}
    if open_model is None and dataset is None and not claims and not held:
        return resolved, _nothing()
    from locus.plan.opened import Opened

    return resolved, Opened(open_model, dataset, claims, held)


def _several(also: Any) -> list[Any]:
    """None, one or more behaviours: a list is one of several, unless it is of rows."""
    if also is None:
        return []
    rows = isinstance(also, list | tuple) and also and all(isinstance(one, Mapping) for one in also)
    return list(also) if isinstance(also, list | tuple) and not rows else [also]


def _first(out: Path) -> bool:
    """Whether a folder holds a run that the first edition began."""
    from locus.plan.reading import read_plan

    try:
        return (out / "plan.json").exists() and read_plan(out).first_edition
    except (UserError, OSError):
        return False  # what is wrong with it is said with all else that is


def _nothing() -> Any:
    """Nothing is open: no model need be imported to say so."""
    return None


def _of(model: Any, settings: dict[str, object]) -> dict[str, object]:
    """The settings by which an open model was had.

    Raises:
        UserError: if others are asked for.
    """
    own = {name: value for name, value in model.settings.items() if value is not None}
    own = own or {"model": model.name, "device": str(model.device), "dtype": str(model.dtype).removeprefix("torch.")}
    for name, value in own.items():
        if settings.get(name) not in (None, value):
            raise UserError(f"a model with {name}={value!r}, as it was opened", f"{name}={settings[name]!r}", "Open it so.")
    return own


def _claims(claim: Any) -> tuple[tuple[str, ...] | None, dict[str, Claim]]:
    """Sources of claims as settings have them, and the claims that are made already, by these.

    Raises:
        UserError: if one is neither, or two claims have one name.
    """
    if claim is None:
        return None, {}
    several = claim if isinstance(claim, list | tuple) else [claim]
    sources: list[str] = []
    made: dict[str, Claim] = {}
    for one in several:
        if isinstance(one, str | Path):
            sources.append(str(one))
            continue
        one = getattr(one, "claim", one)  # of a patching run
        if not isinstance(one, Claim):
            raise UserError(
                "a claim, or the source of one", type(one).__name__, "Use locus.claim, locus.probe or a text such as 12.3,14.0."
            )
        source = ",".join(one.location.names)
        if any(other.name == one.name for other in made.values()):
            raise UserError("claims of different names", f"{one.name!r} twice", "Name them: locus.claim(..., name='mine').")
        sources.append(source)
        made[source] = one
    return tuple(sources), made
