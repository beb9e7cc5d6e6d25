"""A judge by the name a configuration gives it, and what has to be there before it is opened: no weights are loaded to say so."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from locus import registry
from locus.errors import UserError
from locus.judges import api, secret
from locus.judges.asker import Asker
from locus.judges.base import SIDES, TRUTH, Judge
from locus.judges.blind import BlindJudge
from locus.judges.sides import SideJudge
from locus.models.locate import home, locate
from locus.stats.judged import Confusion

MEASURED = Path(__file__).with_name("measured.json")
AnyJudge = Judge | SideJudge


@dataclass(frozen=True)
class JudgeKind:
    """A judge that can be named: how it is opened, and what is checked before anything is loaded.

    Attributes:
        open: the judge, given what follows the colon of its name, and the endpoint that the user gave.
        check: given the same, raises UserError for what is missing: a package, a file, a key.
        argument: whether something has to, may, or must not follow its name.
        notions: of what it gives probabilities: truth and info, or wanted and unwanted.
    """

    open: Callable[[str, api.Endpoint], AnyJudge]
    check: Callable[[str, api.Endpoint], None] = lambda argument, endpoint: None
    argument: Literal["none", "optional", "required"] = "none"
    notions: tuple[str, ...] = TRUTH


def _check_local(weights: str, endpoint: api.Endpoint) -> None:
    from locus.judges.encoder import base_folder

    base_folder()
    if weights and not Path(weights).is_file():
        raise UserError("trained weights of a local judge", f"no file {weights!r}", "Train them: locus judge train")


def _open_local(weights: str, endpoint: api.Endpoint) -> Judge:
    from locus.judges.local import WEIGHTS, LocalJudge

    return LocalJudge(Path(weights) if weights else WEIGHTS)


def _check_lm(model: str, endpoint: api.Endpoint) -> None:
    locate(model)


def _open_lm(name: str, endpoint: api.Endpoint) -> Judge:
    from locus.judges.lm import LmJudge
    from locus.models.load import load

    model = load(name)
    return LmJudge(model.hf, model.tokenizer, name=f"lm:{name}")


def _check_api(model: str, endpoint: api.Endpoint) -> None:
    endpoint.base()
    secret.key()


def _open_api(model: str, endpoint: api.Endpoint) -> Judge:
    return api.ApiJudge(model, endpoint, home() / "replies.sqlite").ready()


LOCAL = JudgeKind(_open_local, _check_local, "optional")
BLIND = JudgeKind(lambda argument, endpoint: BlindJudge())
LM = JudgeKind(_open_lm, _check_lm, "required")
API = JudgeKind(_open_api, _check_api, "required")


def parse_judge(name: str) -> tuple[JudgeKind, str]:
    """Kind of a judge, and what follows the colon of its name.

    Raises:
        UserError: if it is no judge's name, suggesting the nearest.
    """
    called, colon, argument = name.partition(":")
    wanted = f"a judge: {', '.join(one.usage or one.name for one in registry.OWN['judges'])}"
    if not registry.known("judges", name):
        remedy = registry.near(called, registry.entries("judges")) or "Name one of them."
        raise UserError(f"{wanted}, or one that `locus list judges` shows", repr(name), remedy)
    kind = registry.one_of("judges", called, JudgeKind)
    if (kind.argument == "required" and not argument) or (kind.argument == "none" and colon):
        raise UserError(wanted, repr(name), "Name one of them.")
    return kind, argument


def check_judge(name: str, endpoint: api.Endpoint | None = None) -> None:
    """Refuse a judge that cannot be had, before anything is loaded or asked.

    Args:
        name: as for `open_judge`.
        endpoint: likewise.

    Raises:
        UserError: if the name is none, a package, a file, a model or a key is missing, or the endpoint cannot be one.
    """
    kind, argument = parse_judge(name)
    kind.check(argument, endpoint or api.Endpoint())


def open_judge(name: str, endpoint: api.Endpoint | None = None) -> AnyJudge:
    """The judge of a name, ready to judge: an endpoint was asked one question, unless it answered that before.

    Args:
        name: one that `locus list judges` shows, with what has to follow it.
        endpoint: for an `api:MODEL`.

    Raises:
        UserError: if it cannot be had, or what is registered opens something that does not judge.
    """
    kind, argument = parse_judge(name)
    judge = kind.open(argument, endpoint or api.Endpoint())
    if not isinstance(judge, Judge | SideJudge) or notions_of(judge) != kind.notions:
        raise UserError(f"a judge from {name!r}, with name, fingerprint and judge()", f"{judge!r:.80}", "Mend what registers it.")
    return judge


def open_truth_judge(name: str, endpoint: api.Endpoint | None = None) -> Judge:
    """As `open_judge`, of a judge of truth alone.

    Raises:
        UserError: likewise, and for a judge of sides.
    """
    judge = open_judge(name, endpoint)
    if isinstance(judge, SideJudge):
        raise UserError(
            "a judge of truth, to be held against labels of truth", repr(name), "`locus list judges` shows which are."
        )
    return judge


def asker_of(judge: AnyJudge | None) -> Asker | None:
    """Who asks an endpoint for a judge, and pays for it; None where nobody does."""
    if judge is None or isinstance(judge, Asker):
        return judge
    inner = getattr(judge, "inner", None)
    return None if inner is None else asker_of(inner)


def notions_of(judge: AnyJudge) -> tuple[str, ...]:
    """Of what a judge gives probabilities."""
    return SIDES if isinstance(judge, SideJudge) else TRUTH


def known_errors(judge: AnyJudge, figures: Path | None = None) -> dict[str, Confusion]:
    """A judge's confusion on answers that people labelled, by target; empty where nobody measured it.

    Args:
        judge: whose errors are looked up: a judge of truth by its fingerprint; a judge of sides brings its own.
        figures: JSON of `locus judge eval`; what came with this package where None.

    Raises:
        UserError: if a file is given that has nothing about this judge.
    """
    if figures is None and isinstance(judge, SideJudge):
        return judge.errors()
    try:
        figures_file = json.loads((figures or MEASURED).read_text(encoding="utf-8"))
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
