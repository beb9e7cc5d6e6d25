"""The tour: is what a probe points at special, on every behaviour of the package and on some that others published?

    LOCUS_DATA=FOLDER python -m studies.behaviours.tour --out runs/tour     # all that is not done; goes on where it was stopped
    python -m studies.behaviours.tour antonym --small --out /tmp/tour       # one, tiny: does it run?
    python -m studies.behaviours.tour --collect                             # the table anew, from what is committed

Each audit: the eight heads that a probe ranks first on SmolLM2-135M-Instruct, nineteen random sets of eight, edits searched for
near the optimum, and beside them the ITI shift at the claim and at the same nineteen sets. Where an answer would lean on edits
that had not settled, the behaviour is audited again with more rounds. What is committed of an audit is its verdict and its signed
receipt, and the settings by which it is the tour's, in `studies/behaviours/tour/NAME`; `tour.md` follows from these alone.
"""

import argparse
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
from scipy.stats import binom

import locus
from locus import registry
from locus.boundary import incoming
from locus.conclude import family
from locus.errors import UserError
from locus.records.place import PlaceResult
from locus.records.verdict import Verdict
from locus.units import difference, p_value, share

HERE = Path(__file__).resolve().parent
KEPT, PAGE = HERE / "tour", HERE / "tour.md"
BEGIN, END = "<!-- table -->", "<!-- end of table -->"
SETTINGS: dict[str, Any] = {
    "claim_size": 8,
    "random": 19,
    "shift_random": 19,
    "sequential": False,
    "train": 24,
    "validation": 16,
    "test": 48,
    "rounds": 6,
    "lengths": (),
    "text_passages": 0,
}
SMALL: dict[str, Any] = {
    **SETTINGS,
    "claim_size": 2,
    "train": 4,
    "validation": 2,
    "test": 8,
    "rounds": 3,
    "lengths": (),
    "shift_random": 2,
}
LONGER = 15  # rounds, where six did not do
UNSETTLED = "training had not settled"  # in a finding that would lean on such edits
LEVEL = 0.1  # of false discoveries; with 19 random sets no p is under 0.05


@dataclass(frozen=True)
class Stop:
    """One behaviour of the tour.

    Attributes:
        name: of its folder and its row.
        data: as `--data`, from the folder of the published files.
        form: whether the wanted side shows without the question, where the file cannot say so.
    """

    name: str
    data: str
    form: bool = False


PUBLISHED = (
    Stop("bbq-ambiguous", "bbq:bbq-ambiguous/Religion.jsonl", form=True),
    Stop("blimp-agreement", "blimp:blimp-agreement/regular_plural_subject_verb_agreement_1.jsonl"),
    Stop("caa-refusal", "caa:caa-refusal/generate_dataset.json", form=True),
    Stop("caa-survival-instinct", "caa:caa-survival-instinct/generate_dataset.json"),
    Stop("evals-agreeableness", "caa:evals-agreeableness/agreeableness.jsonl"),
    Stop("fv-antonym-synonym", "fv-antonym-synonym/locus.jsonl"),
    Stop("fv-english-french", "fv-english-french/locus.jsonl", form=True),
    Stop("paradetox", "exchange:paradetox/locus.jsonl", form=True),
    Stop("poem-sentiment", "poem-sentiment/locus.jsonl"),
)


def stops() -> tuple[Stop, ...]:
    """Every behaviour of the package, then the published ones."""
    own = tuple(Stop(name, name) for name, entry in registry.entries("behaviours").items() if entry.embedded)
    return (*own, *PUBLISHED)


def main() -> None:
    """Audit what is named, or all, one after the other; write each down as it comes, and the table anew."""
    known = {stop.name: stop for stop in stops()}
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", choices=[[], *known], help="all by default")
    parser.add_argument("--out", type=Path, help="for the run folders")
    parser.add_argument("--small", action="store_true", help="tiny audits, of which nothing is kept here")
    parser.add_argument("--collect", action="store_true", help="only the table")
    given = parser.parse_args()
    failed = []
    if not given.collect:
        if given.out is None:
            parser.error("--out with a folder for the runs")
        out, data = given.out.resolve(), Path(os.environ.get("LOCUS_DATA", "data")).resolve()
        for name in given.names or known:
            try:
                audited(known[name], out, data / "behaviours", given.small)
            except UserError as error:
                failed.append(f"{name}: {error}")
                print(failed[-1], flush=True)
    if not given.small:
        write(verdicts())
    if failed:
        raise SystemExit(f"{len(failed)} of the tour could not be audited.")


def audited(stop: Stop, out: Path, published: Path, small: bool = False) -> Verdict:
    """Audit one behaviour, or go on with it, and keep its verdict and receipt.

    Args:
        stop: the behaviour.
        out: for the run folders.
        published: the folder of the published files, in which their paths are relative: what a receipt says holds anywhere.
        small: whether it is tiny, and nothing is kept.

    Raises:
        UserError: as `locus.audit`.
    """
    enter(stop, published)
    settings = SMALL if small else SETTINGS
    verdict = _audit(stop, out / stop.name, settings, small)
    if unsettled(verdict):
        verdict = _audit(stop, out / f"{stop.name}-{LONGER}", {**settings, "rounds": LONGER}, small)
    return verdict


def enter(stop: Stop, published: Path) -> None:
    """Go to the folder of the published files, if the behaviour is one of them: their paths are relative to it.

    Raises:
        UserError: if there is none.
    """
    if stop in PUBLISHED:
        if not published.is_dir():
            raise UserError("the published behaviours, in LOCUS_DATA/behaviours", "none", "Set LOCUS_DATA.")
        os.chdir(published)


def unsettled(verdict: Verdict) -> bool:
    """Whether something was left unanswered since it would lean on edits that had not settled."""
    claim = verdict.claims[0]
    return any(UNSETTLED in finding.sentence for finding in (claim.works, claim.special, claim.unique, claim.necessary))


def _audit(stop: Stop, folder: Path, settings: dict[str, Any], small: bool) -> Verdict:
    """An audit, or going on with it; what is kept of it takes the place of a shorter one's."""
    kept = KEPT / stop.name
    rounds = 0 if small else settings_of(stop.name).get("rounds", 0)
    if rounds >= settings["rounds"]:
        print(f"{stop.name}: done already, in {rounds} rounds", flush=True)
        return Verdict.parse(incoming.read_json(kept / "verdict.json", "a verdict"))
    run = locus.audit(behaviour=stop.data, out=folder, form=stop.form, **settings)
    if not small:
        kept.mkdir(parents=True, exist_ok=True)
        for name in ("verdict.json", "receipt.json"):
            shutil.copyfile(folder / name, kept / name)
        (kept / "settings.json").write_text(json.dumps(settings) + "\n")
        write(verdicts())
    seconds = run.verdict.seconds
    print(f"{stop.name}: {run.verdict.special.standing}, {seconds.trials if seconds else 0:.0f} s of trials", flush=True)
    return run.verdict


def settings_of(name: str) -> dict[str, Any]:
    """The settings by which a behaviour's audit is kept; none where none is."""
    path = KEPT / name / "settings.json"
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def verdicts() -> dict[str, Verdict]:
    """What is kept, in the order of the tour."""
    paths = {stop.name: KEPT / stop.name / "verdict.json" for stop in stops()}
    return {name: Verdict.parse(incoming.read_json(path, "a verdict")) for name, path in paths.items() if path.is_file()}


@dataclass(frozen=True)
class Row:
    """A behaviour's row: the heuristic's lead, and the optimal edit's.

    Attributes:
        name: of the behaviour.
        verdict: of its audit.
        shift: by how much the ITI shift at the claim is ahead of the mean of those at random sets; None where undefined.
        rank: its place among them and itself.
    """

    name: str
    verdict: Verdict
    shift: float | None
    rank: int | None

    @property
    def led(self) -> bool:
        """Whether the heuristic leads: the shift does better at the claim than at every random set."""
        return self.rank == 1


def row(name: str, verdict: Verdict) -> Row:
    """A verdict as a row."""
    ours, theirs = (_means(places, verdict.metric) for places in (verdict.shift, verdict.shift_random))
    if not ours or not theirs:
        return Row(name, verdict, None, None)
    return Row(name, verdict, ours[0] - float(np.mean(theirs)), 1 + sum(one >= ours[0] for one in theirs))


def _means(places: Sequence[PlaceResult], metric: str) -> list[float]:
    return [mean for place in places if (mean := place.mean(metric)) is not None]


def write(found: dict[str, Verdict]) -> None:
    """Put the table and what follows from it between the marks of the page."""
    before, begin, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    made = table([row(name, verdict) for name, verdict in found.items()])
    PAGE.write_text(f"{before}{begin}\n{made}\n{END}{rest.partition(END)[2]}", encoding="utf-8")


def table(rows: Sequence[Row]) -> str:
    """The table of the tour, in Markdown, with false discoveries controlled over all its audits."""
    if not rows:
        return "Nothing is audited yet."
    claims = [one.verdict.claims[0] for one in rows]
    adjusted = family.adjusted([claim.special for claim in claims])
    heads = "behaviour | kind | n | rounds | ceiling | ITI: lead | rank | optimal: lead | rank | special | p | BH | against | BH"
    lines = [f"| {heads} |", "| --- " * 14 + "|"]
    for place, one in enumerate(rows):
        verdict, special = one.verdict, one.verdict.special
        of = 1 + len(verdict.shift_random)
        cells = [
            f"[{one.name}](tour/{one.name}/verdict.json)",
            "form" if verdict.dataset.form else "content",
            f"{verdict.n.test} ({verdict.gain.n})" if verdict.gain else str(verdict.n.test),
            str(settings_of(one.name).get("rounds", "–")),
            _gained(verdict),
            difference(one.shift, verdict.metric, unit=False),
            f"{one.rank} of {of}" if one.rank else "–",
            _lead(verdict),
            f"{1 + special.reached:.0f} of {1 + (special.n_random or 0)}" if special.reached is not None else "–",
            special.standing,
            p_value(_p(special.p)),
            p_value(_p(adjusted[place].p)),
            p_value(_p(special.p_refuted)),
            p_value(_p(adjusted[place].p_refuted)),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", *_said(rows, adjusted)])


def _said(rows: Sequence[Row], adjusted: Sequence[family.Adjusted]) -> list[str]:
    """What follows for the family, and what chance alone would do."""
    put = [one for one in rows if one.verdict.special.standing != "invalid"]
    led = [one for one in rows if one.led]
    first = [one for one in put if one.verdict.special.reached == 0]
    n, of = len(rows), 1 + max(one.verdict.drawn.planned for one in rows)
    counted = [
        f"{len(led)} of {n} claims lead under ITI (rank 1); by chance {n / of:.1f} are expected, and as many or more with "
        f"probability {p_value(_chance(len(led), n, of))}.",
        f"Under the optimal edit {len(first)} of the {len(put)} whose question could be put; by chance {len(put) / of:.1f} are "
        f"expected, and as many or more with probability {p_value(_chance(len(first), len(put), of))}. "
        f"Ranks under the optimal edit of those that lead under ITI: {_ranks(led)}.",
    ]
    named = [one.name for one in rows]
    special = [name for name, one in zip(named, adjusted, strict=True) if _p(one.p) <= LEVEL]
    refuted = [name for name, one in zip(named, adjusted, strict=True) if _p(one.p_refuted) <= LEVEL]
    counted.append(
        f"At a false discovery rate of {share(LEVEL)} (Benjamini-Hochberg over all {n}): special at {_listed(special)}; "
        f"not special by a margin at {_listed(refuted)}."
    )
    return [part for one in counted for part in (fill(one, 100, break_on_hyphens=False), "")][:-1]


def _ranks(rows: Sequence[Row]) -> str:
    """Where these claims rank under the optimal edit, the best first; "none" where the question could not be put."""
    reached = [one.verdict.special.reached for one in rows]
    known = sorted(1 + int(above) for above in reached if above is not None)
    return _listed([*map(str, known), *["none"] * reached.count(None)])


def _chance(count: int, n: int, of: int) -> float:
    """The probability that so many or more of n claims rank first among so many places, if they are places like any."""
    return float(binom.sf(count - 1, n, 1 / of))


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"


def _gained(verdict: Verdict) -> str:
    return "–" if verdict.gain is None else difference(verdict.gain.estimate, verdict.metric, unit=False)


def _lead(verdict: Verdict) -> str:
    special = verdict.special
    if special.estimate is None or special.reached is None:  # where the question could not be put: the ceiling's gain
        return "–"
    low, high = (difference(end, verdict.metric, unit=False) for end in special.interval)
    return f"{difference(special.estimate, verdict.metric, unit=False)} ({low} to {high})"


def _p(value: float | None) -> float:
    return float("nan") if value is None else value


if __name__ == "__main__":
    main()
