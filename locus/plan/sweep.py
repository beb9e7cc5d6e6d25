"""What a sweep is told: models, behaviours, claims and seeds, each combination of which is audited.

A file names them once, and may name further blocks, each a product of its own that takes from the whole what it does not name:

    models = ["smollm2-135m-instruct"]
    behaviours = ["antonym", "agreement"]
    claims = ["probe", "12.3,14.0"]
    seeds = [0, 1]
    level = 0.1

    [settings]
    random = 79

    [[block]]
    models = ["gemma3-270m"]
    claims = ["probe", "3.1"]

With blocks, these alone are audited.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, TypeVar

from pydantic import Field

from locus.behaviours.items import content_hash
from locus.boundary import settings
from locus.errors import UserError
from locus.plan.config import AuditConfig

MOST = 10_000  # audits
WHAT, REMEDY = "a TOML file with a sweep", "docs/scale.md shows one."
NAMED = 40  # characters of a name in that of a folder
T = TypeVar("T")


class SweepConfig(settings.Settings):
    """A product of models, behaviours, claims and seeds, or several."""

    models: tuple[str, ...] = Field((), description="names; the default model where none is named")
    behaviours: tuple[str, ...] = Field((), description="names or paths; the usual one where none is named")
    claims: tuple[str, ...] = Field(("probe",), description="as of an audit; claims of one kind of site share an audit")
    seeds: tuple[int, ...] = Field((0,), description="of split, random Locations, starts and resampling")
    level: float = Field(0.1, gt=0, lt=1, description="rate of false discoveries over the whole sweep")
    settings: dict[str, Any] = Field({}, description="settings of every audit, by name; preset is one")
    block: tuple[dict[str, Any], ...] = Field((), description="further products, which take from the whole what they lack")


@dataclass(frozen=True)
class Wanted:
    """One audit as it was asked for; claims of several kinds of site become several.

    Attributes:
        model: a name, or what is open; None for the default.
        behaviour: likewise.
        claims: sources, or claims that are made already.
        seed: of everything random.
        settings: others, by name.
    """

    model: Any
    behaviour: Any
    claims: tuple[Any, ...]
    seed: int
    settings: Mapping[str, Any]


def from_file(file: Path | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """What a file asks for, overridden by what was given.

    Args:
        file: TOML; None for none.
        given: by name; those that are None were not given.

    Raises:
        UserError: if it is no TOML, or names what a sweep has not.
    """
    known = {} if file is None else settings.from_file(file, WHAT)
    own = {name: value for name, value in given.items() if value is not None}
    checked = {name: value for name, value in own.items() if name in ("seeds", "level")}
    asked = settings.build(SweepConfig, {**known, **checked}, "a valid sweep", REMEDY)
    if asked.block and own.keys() & {"models", "behaviours", "claims", "seeds"}:
        raise UserError("the audits named in the file or beside it", "a file with blocks, and both", "Change the file.")
    return {**{name: getattr(asked, name) for name in SweepConfig.model_fields}, **own}


def wanted(asked: Mapping[str, Any], beside: Mapping[str, Any]) -> list[Wanted]:
    """Every audit that is asked for, those of one model together.

    Args:
        asked: as `from_file` gives it.
        beside: settings that were given beside it, which win.

    Raises:
        UserError: if there are none or too many, or a block names what it cannot.
    """
    found: list[Wanted] = []
    whole = {name: asked[name] for name in ("models", "behaviours", "claims", "seeds")}
    blocks: Sequence[Mapping[str, Any]] = asked["block"] or ({},)
    for block in blocks:
        own = settings.build(SweepConfig, block, "a valid block of a sweep", REMEDY)
        if wrong := sorted(block.keys() & {"level", "block"}):
            raise UserError("blocks of models, behaviours, claims, seeds and settings", ", ".join(wrong), REMEDY)
        named = {**whole, **{name: getattr(own, name) for name in whole if name in block}}
        if empty := [name for name in ("claims", "seeds") if not named[name]]:
            raise UserError("one or more claims and seeds", f"no {' and no '.join(empty)}", REMEDY)
        told = {**asked["settings"], **own.settings, **beside}
        if wrong := sorted(told.keys() & {"model", "data", "claims", "seed"}):
            raise UserError("models, behaviours, claims and seeds as lists of the sweep", f"settings {', '.join(wrong)}", REMEDY)
        crossed = product(named["models"] or (None,), named["behaviours"] or (None,), named["seeds"])
        found += [Wanted(model, behaviour, tuple(named["claims"]), seed, told) for model, behaviour, seed in crossed]
    if len(found) > MOST:
        raise UserError(f"a sweep of at most {MOST:,} audits", f"{len(found):,}", "Make several sweeps.")
    return together(found, [str(one.model) if isinstance(one.model, str) else str(id(one.model)) for one in found])


def together(things: Sequence[T], keys: Sequence[str]) -> list[T]:
    """Things in order, but those of one key follow one another."""
    order = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    return [thing for _, thing in sorted(zip(keys, things, strict=True), key=lambda pair: order[pair[0]])]


def folder_of(config: AuditConfig, kind: str) -> str:
    """What the folder of an audit is called: readable, and another for every other audit, whatever else the sweep holds."""
    names = [re.sub(r"[^A-Za-z0-9.-]+", "-", name)[-NAMED:].strip("-.") or "x" for name in (config.model, config.data)]
    digest = content_hash([config.model_dump(mode="json"), kind])[:8]
    return f"{'_'.join(dict.fromkeys(names))}_{config.seed}_{digest}"
