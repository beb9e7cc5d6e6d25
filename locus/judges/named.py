"""A judge by the name a configuration gives it: `local`, `local:WEIGHTS`, `blind`, `lm:MODEL`, `api:MODEL`."""

import json
from pathlib import Path
from typing import Any

from locus.errors import UserError
from locus.judges import api, encoder, secret
from locus.judges.base import Judge
from locus.judges.blind import BlindJudge
from locus.models.load import load
from locus.models.locate import home, locate
from locus.stats.judged import Confusion

KINDS = ("local", "blind", "lm", "api")
MEASURED = Path(__file__).with_name("measured.json")


def parse(name: str) -> tuple[str, str]:
    """Kind and the rest of a judge's name.

    Raises:
        UserError: if it is no judge's name.
    """
    kind, _, argument = name.partition(":")
    if kind not in KINDS or (kind in ("lm", "api") and not argument) or (kind == "blind" and argument):
        raise UserError("a judge: local, local:WEIGHTS, blind, lm:MODEL or api:MODEL", repr(name), "Name one of them.")
    return kind, argument


def check(name: str, endpoint: api.Endpoint | None = None) -> None:
    """Refuse a judge that cannot be had, before anything is loaded or asked.

    Args:
        name: as for `open_judge`.
        endpoint: likewise.

    Raises:
        UserError: if the name is none, a package, a file, a model or a key is missing, or the endpoint cannot be one.
    """
    kind, argument = parse(name)
    if kind == "local":
        encoder.base_folder()
        if argument and not Path(argument).is_file():
            raise UserError("trained weights of a local judge", f"no file {argument!r}", "Train them: locus judge train")
    elif kind == "lm":
        locate(argument)
    elif kind == "api":
        (endpoint or api.Endpoint()).base()
        secret.key()


def open_judge(name: str, endpoint: api.Endpoint | None = None) -> Judge:
    """The judge of a name, ready to judge: an endpoint was asked one question, unless it answered that before.

    Args:
        name: `local`, `local:WEIGHTS`, `blind`, `lm:MODEL` or `api:MODEL`.
        endpoint: for an `api:MODEL`.

    Raises:
        UserError: if it cannot be had.
    """
    kind, argument = parse(name)
    if kind == "blind":
        return BlindJudge()
    if kind == "local":
        from locus.judges.local import WEIGHTS, LocalJudge

        return LocalJudge(Path(argument) if argument else WEIGHTS)
    if kind == "lm":
        from locus.judges.lm import LmJudge

        model = load(argument)
        return LmJudge(model.hf, model.tokenizer, name=name)
    return api.ApiJudge(argument, endpoint or api.Endpoint(), home() / "replies.sqlite").ready()


def known_errors(judge: Judge, figures: Path | None = None) -> dict[str, Confusion]:
    """A judge's confusion on answers that people labelled, by target: truth, info, both; empty where nobody measured it.

    Args:
        judge: whose errors are looked up, by its fingerprint.
        figures: JSON of `locus judge eval`; what came with this package where None.

    Raises:
        UserError: if a file is given that has nothing about this judge.
    """
    try:
        figures_file: dict[str, Any] = json.loads((figures or MEASURED).read_text(encoding="utf-8"))
        own_figures = figures_file.get("judges", figures_file).get(judge.fingerprint)
        if own_figures is None and figures is None:
            return {}
        return {target: Confusion(**values) for target, values in own_figures["confusion"].items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(
            f"figures of the judge {judge.name} (fingerprint {judge.fingerprint[:16]})",
            f"{str(figures)!r} without them",
            "Measure it: locus judge eval --judge NAME --labels FILE.csv --out DIR, and give DIR/figures.json.",
        ) from error
