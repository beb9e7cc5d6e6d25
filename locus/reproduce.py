"""Run a committed study again and hold its numbers against those that are committed.

A study is a folder with the receipt and the verdict of a finished audit; the receipt says with which settings, on which model
and on which questions. What comes out on another machine is not the same to the bit: sums are taken in another order and
training amplifies that. `TOLERANCE` says how far each measure may lie from what is committed; a study may state its own in
`tolerance.toml`. Means over test questions are compared, of every arm that both runs have.
"""

import math
import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import locus
from locus import behaviours as datasets
from locus.audit import audit
from locus.boundary import incoming
from locus.errors import UserError, VerificationError
from locus.metrics.base import shipped
from locus.models.configured import load_configured
from locus.plan.config import AuditConfig
from locus.records.receipt import Body, Receipt
from locus.records.verdict import Verdict
from locus.report.consent import Given, settle
from locus.report.verify import verify
from locus.shown import visible
from locus.sites.names import is_name

# Absolute, by measure: shares of 1, and nats; every metric says its own.
TOLERANCE = {one.name: one.tolerance for one in shipped() if one.tolerance is not None}
PARTS = ("shift", "shift_everywhere", "ceiling", "claimed", "complement", "single")
MEANS = ("random", "shift_random")  # one number for all places of a kind
SMALL = 3  # random Locations, and single heads: the first of those that the study drew
MOST = 100_000  # characters of a claim that says itself which sites it means
NOTHING_GIVEN = Given()
Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Number:
    """One number, committed and again.

    Attributes:
        name: the arm and the measure.
        committed, again: as in the two verdicts; a standing is a word.
        within: the tolerance; None where the two need not agree (another rule judged).
    """

    name: str
    committed: float | str
    again: float | str
    within: float | None

    @property
    def agrees(self) -> bool:
        """Whether it lies within the tolerance, or need not."""
        if self.within is None or isinstance(self.committed, str) or isinstance(self.again, str):
            return self.within is None or self.committed == self.again
        return abs(self.committed - self.again) <= self.within


def find(study: str) -> Path:
    """The folder of a study by name or path.

    Raises:
        UserError: listing what there is, if there is none of that name.
    """
    homes = [Path("studies"), Path(locus.__file__).parents[1] / "studies"]
    for folder in [Path(study), *(home / study for home in homes)]:
        if (folder / "receipt.json").is_file() and (folder / "verdict.json").is_file():
            return folder
    names = sorted({str(path.parent.relative_to(home)) for home in homes for path in home.rglob("receipt.json")})
    absent = "Studies come with the repository, not with the package: run this in a checkout."
    remedy = f"There are {', '.join(names)}." if names else absent
    raise UserError("a study's name, or a folder with receipt.json and verdict.json", repr(study), remedy)


def settings(folder: Path, given: Given = NOTHING_GIVEN, small: bool = False) -> AuditConfig:
    """A study's settings, from its receipt.

    Args:
        folder: of the study.
        given: the user's own model, questions, text and judge, where they do not come with the package.
        small: with the first three random Locations and single heads; what is left is as the study has it.

    Raises:
        UserError: naming what has to be given: studies do not bring their data.
    """
    recorded = _body(folder).config
    listed = recorded.get("claims")
    claims = [claim for claim in listed if isinstance(claim, str)] if isinstance(listed, list) else []
    if not isinstance(listed, list) or len(claims) < len(listed):
        raise UserError("a receipt with an audit's settings and claims", f"another one in {str(folder)!r}", "Check the folder.")
    config = settle(recorded, given, claims=tuple(_brought(claim, folder) for claim in claims), where="receipt")
    if small:
        n_random = min(SMALL, config.random)
        fewer = {"random": n_random, "shift_random": min(config.shift_random, 1, n_random), "singles": min(SMALL, config.singles)}
        level = max(config.alpha, 1 / (1 + n_random)) if n_random else config.alpha
        config = config.model_copy(update={**fewer, "alpha": level})
    return config


def _brought(claim: str, folder: Path) -> str:
    """A claim that says itself which sites it means, or with the path of its file or patching run inside the study's folder.

    Raises:
        UserError: if it is neither: a receipt chooses no path outside its folder.
    """
    if claim == "probe" or (len(claim) <= MOST and all(map(is_name, filter(None, re.split(r"[,\s]+", claim))))):
        return claim
    kind, _, name = claim.rpartition(":")
    path = folder / Path(name).name  # wherever it lay when the study was run
    if kind == "patch" and incoming.regular(path / "patch.json", inside=folder):
        return f"patch:{path}"
    if not kind and incoming.regular(path, inside=folder):
        return str(path)
    received = f"{visible(claim, 120)!r}, which is not in it"
    raise UserError(f"claims that {folder.name!r} brings with it", received, "Copy them into the study's folder.")


def reproduce(
    study: str,
    out: Path | None = None,
    given: Given = NOTHING_GIVEN,
    size: str = "full",
    progress: Progress = lambda doing, share: None,
) -> list[Number]:
    """Run a study's audit again, or go on with it, and compare.

    Args:
        study: its name, or its folder.
        out: run folder of the new audit; `runs/reproduce-STUDY` by default.
        given: the user's own model, questions, text and judge, where they do not come with the package.
        size: full or small, as in `settings`.
        progress: told what is being done and the share of it.

    Returns:
        Every number that both runs have.

    Raises:
        UserError: if there is no such study, or model or questions are not the study's.
        VerificationError: if the committed receipt does not hold.
    """
    if size not in ("full", "small"):
        raise UserError("--size full or small", repr(size), "Choose one of them.")
    folder = find(study)
    verify(folder)
    body, config = _body(folder), settings(folder, given, size == "small")
    within = tolerance(folder)
    questions = datasets.load(config.data)
    if questions.sha256 != body.dataset.sha256:
        expected = f"the study's questions, with SHA-256 {body.dataset.sha256}"
        raise UserError(expected, questions.sha256, "Give --data with that file.")
    model = load_configured(config)
    if model.fingerprint != body.model.sha256:
        name, sha256 = visible(body.model.name, 120), visible(body.model.sha256, 64)
        expected = f"the study's model, {name} with fingerprint {sha256}"
        raise UserError(expected, model.fingerprint, "Take the weights and the dtype that the study names.")
    del model  # the audit loads its own
    again = audit(config, out or default_run(study), progress, sign=False)
    content = incoming.read_json(folder / "verdict.json", "a study's verdict.json", inside=folder)
    try:
        committed = Verdict.parse(content)
    except ValueError as error:
        raise VerificationError(f"the study's verdict.json is not one of an audit ({error})") from error
    return compare(committed, again, within)


def default_run(study: str) -> Path:
    """The run folder of a study that is run again, where none is given."""
    return Path("runs") / f"reproduce-{find(study).name}"


def held(numbers: list[Number]) -> None:
    """Raise if a number is outside its tolerance.

    Raises:
        VerificationError: naming them.
    """
    if outside := [number.name for number in numbers if not number.agrees]:
        raise VerificationError(f"{len(outside)} of {len(numbers)} numbers are outside the tolerance: {', '.join(outside)}")


def tolerance(folder: Path) -> dict[str, float]:
    """How far each measure may lie from what is committed: the study's own `tolerance.toml` over the default.

    Raises:
        UserError: if that file is no table of numbers.
    """
    path, expected = folder / "tolerance.toml", "a tolerance.toml with a number for each measure"
    if not path.exists():
        return TOLERANCE
    try:
        own = tomllib.loads(incoming.text_of(incoming.read_bytes(path, expected, 1 << 16, folder), expected, path.name))
        numbers = {measure: float(value) for measure, value in own.items() if measure in TOLERANCE}
    except (ValueError, TypeError, RecursionError) as error:
        raise UserError(expected, f"{str(path)!r} ({visible(error, 120)})", "Mend it.") from error
    if len(numbers) < len(own) or not all(0 <= value < math.inf for value in numbers.values()):
        raise UserError(expected, f"{str(path)!r} with other measures, or numbers below 0", "Mend it.")
    return TOLERANCE | numbers


def compare(committed: Verdict, again: Verdict, within: dict[str, float]) -> list[Number]:
    """Every number that two verdicts have in common.

    Args:
        committed: the study's verdict.
        again: that of the new run.
        within: by measure, the tolerance.
    """
    old, new = _means(committed, again, within), _means(again, committed, within)
    numbers = [Number(name, old[name], new[name], within[name.rsplit(" ", 1)[1]]) for name in old if name in new]
    same_rule = committed.rule_sha256 == again.rule_sha256
    claims = {(claim.name, claim.read): claim for claim in again.claims}
    for claim in committed.claims:
        if other := claims.get((claim.name, claim.read)):
            for question, finding in claim.by_question.items():
                name = f"claim {claim.name}, read {claim.read}: {question}"
                numbers.append(Number(name, finding.standing, other.finding(question).standing, 0.0 if same_rule else None))
    return numbers


def _means(one: Verdict, other: Verdict, measures: dict[str, float]) -> dict[str, float]:
    """A verdict's means by arm and measure; of places that are many, the mean over those that the other verdict has too."""
    means: dict[str, float | None] = {}
    arms = [("no edit", place) for place in one.baseline.base[:1]]
    arms += [(f"{part} {place.name} {place.read}".strip(), place) for part in PARTS for place in one.places(part)]
    for name, place in arms:
        means |= {f"{name} {measure}": place.mean(measure) for measure in measures if measure in place.measures}
    for part in MEANS:
        shared = {(place.name, place.read) for place in other.places(part)}
        kept = [place for place in one.places(part) if (place.name, place.read) in shared]
        for measure in measures:
            values = [mean for place in kept if (mean := place.mean(measure)) is not None]
            if values:
                means[f"{part} (mean of {len(values)}) {measure}"] = sum(values) / len(values)
    return {name: value for name, value in means.items() if value is not None}


def _body(folder: Path) -> Body:
    """What a study's receipt states.

    Raises:
        UserError: if there is no such thing in it.
    """
    content = incoming.read_json(folder / "receipt.json", "a study's receipt.json", inside=folder)
    try:
        return Receipt.parse(content).body
    except ValueError as error:
        received = f"another file in {str(folder)!r} ({visible(error, 120)})"
        raise UserError("a receipt of an audit", received, "Check the folder.") from error
