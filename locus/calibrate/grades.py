"""How often is a verdict wrong where the claimed place carries a share of the behaviour? Audits of graded plants, counted.

Draws are appended to `draws.jsonl` as they finish, and the tally is a function of that file alone: more shares, or more draws of
some of them, can be asked for later, into the same folder.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from locus.calibrate.gathered import check_counts, gather
from locus.calibrate.table import counts_of, share_of
from locus.errors import UserError
from locus.plan.config import AuditConfig
from locus.records.calibration import (
    GradedCalibration,
    GradedCell,
    GradedClaim,
    GradedDraw,
    GradedSearch,
    GradedSettings,
    ShareCount,
)
from locus.records.findings import QUESTIONS
from locus.records.place import NEAR
from locus.shown import markdown

SHARES = tuple(step / 10 for step in range(10))
STEPS = {"newton": 15, "adamw": 80}  # of the bank's training by epochs, all questions at once
Job = tuple[int, int, AuditConfig, int]


def grade(
    out: Path,
    draws: int,
    shares: Sequence[float] = SHARES,
    config: AuditConfig | None = None,
    steps: int | None = None,
    workers: int | None = None,
    progress: Callable[[str, float], None] = lambda what, share: None,
) -> GradedCalibration:
    """Draw what is missing, and tally all that the folder holds.

    Args:
        out: folder; `draws.jsonl`, `graded.json` and `graded.md` are written there.
        draws: planted models of each share.
        shares: that the claimed head carries, whole percents.
        config: alpha, tolerance, metric, search and number of random Locations; other settings are not used.
        steps: the most gradients of the whole loss that a search takes; what an audit takes by default.
        workers: processes; one a core by default.
        progress: told what was done and the share of it.

    Returns:
        The tally, as written to `graded.json`.

    Raises:
        UserError: for a share that cannot be planted, too few or too many draws, steps or processes, or a folder with draws of
            other settings.
    """
    config = config or AuditConfig()
    percents = [round(100 * share) for share in shares if 0 <= share <= 1]
    if not percents or len(percents) < len(shares) or any(abs(100 * share - round(100 * share)) > 1e-6 for share in shares):
        raise UserError("shares from 0 to 1 in whole percents", ", ".join(f"{share:g}" for share in shares), "Mend --shares.")
    check_counts(draws, workers)
    steps = STEPS[config.search] if steps is None else steps
    if not 1 <= steps <= MOST_STEPS:
        raise UserError(f"1 to {MOST_STEPS:,} steps", str(steps), "Mend --steps.")
    if not 1 <= config.random <= MOST_RANDOM:
        raise UserError(
            f"1 to {MOST_RANDOM} random Locations", str(config.random), "A graded plant has 128 heads: mend --random."
        )
    setting = GradedSettings(
        rule=f"rule/{config.rule}",
        alpha=config.alpha,
        margin=config.tolerance,
        random=config.random,
        metric=config.metric,
        search=config.search,
        steps=steps,
        near=NEAR,
    )
    jobs = {(percent, seed): (percent, seed, config, steps) for seed in range(draws) for percent in dict.fromkeys(percents)}
    tallied = tally(gather(out, setting, jobs, GradedDraw, _work, workers, progress), setting)
    (out / "graded.json").write_text(json.dumps(tallied.to_json(), indent=1) + "\n", encoding="utf-8")
    (out / "graded.md").write_text(table(tallied), encoding="utf-8")
    return tallied


MOST_STEPS, MOST_RANDOM = 10_000, 126


def _work(job: Job, say: Callable[[float], None]) -> GradedDraw:
    from locus.calibrate.graded import draw_graded
    from locus.machine.threads import using

    with using(1):
        return draw_graded(*job)


def tally(draws: Sequence[GradedDraw], setting: GradedSettings) -> GradedCalibration:
    """Counts of answers with exact intervals, by share, claim, number of random Locations and question."""
    groups: dict[tuple[int, str, int], list[GradedClaim]] = {}
    by_percent: dict[int, list[GradedDraw]] = {}
    for draw in draws:
        by_percent.setdefault(draw.percent, []).append(draw)
        for claim in draw.claims:
            groups.setdefault((draw.percent, claim.name, claim.random), []).append(claim)
    cells = [_cell(key, question, claims) for key, claims in sorted(groups.items()) for question in QUESTIONS]
    searches = tuple(_search(percent, mine, float(setting.near)) for percent, mine in sorted(by_percent.items()))
    return GradedCalibration(settings=setting, draws=len(draws), cells=tuple(cells), searches=searches)


def _cell(key: tuple[int, str, int], question: str, claims: Sequence[GradedClaim]) -> GradedCell:
    percent, name, random = key
    right = {claim.expected[question] for claim in claims}
    expected = right.pop() if len(right) == 1 else ""
    asked = [(claim.expected[question], claim.standings[question]) for claim in claims]
    return GradedCell(
        percent=percent,
        claim=name,
        random=random,
        question=question,
        expected=expected,
        n=len(claims),
        false=share_of(asked.count(("refuted", "supported")), len(claims)),
        missed=share_of(asked.count(("supported", "refuted")), len(claims)),
        all=counts_of(expected, [claim.standings[question] for claim in claims]),
        sequential=counts_of(expected, [claim.sequential[question] for claim in claims]),
    )


def _search(percent: int, draws: Sequence[GradedDraw], near: float) -> GradedSearch:
    short = [draw for draw in draws if draw.ceiling < near]
    known = share_of(sum(draw.unsettled["ceiling"] > 0 for draw in short), len(short)) if short else None
    return GradedSearch(
        percent=percent,
        n=len(draws),
        short=len(short),
        **({} if known is None else {"recognised": known}),
        unsettled={part: round(float(np.mean([draw.unsettled[part] for draw in draws])), 4) for part in draws[0].unsettled},
        compared=sum(draw.compared for draw in draws),
        beaten=sum(draw.beaten for draw in draws),
        seconds=round(float(np.mean([draw.seconds for draw in draws])), 2),
    )


def table(tallied: GradedCalibration) -> str:
    """The tally as Markdown: each number of random Locations apart."""
    one = tallied.settings
    lines = [
        f"Audits of {tallied.draws} graded planted models; {markdown(one.rule)}, alpha = {one.alpha:g}, margin = {one.margin:g} "
        f"of the ceiling's gain, metric {markdown(one.metric)}, search {markdown(one.search)} with at most {one.steps} steps.",
    ]
    for random in sorted({cell.random for cell in tallied.cells}):
        for claim, called in (("planted", "the planted head"), ("other", "a head drawn from the others")):
            lines += ["", f"Claim: {called}; {random} random Locations. In percent of audits [exact 95 % interval].", ""]
            lines += _rates([cell for cell in tallied.cells if (cell.random, cell.claim) == (random, claim)])
    lines += ["", "Over all s of which the truth is known, in percent of audits.", ""]
    lines += [
        "| random Locations | claim | question | yes where no is right | no where yes is right |",
        "| --- | --- | --- | --- | --- |",
    ]
    lines += _wrong(tallied.cells)
    lines += ["", "How far the searches came.", ""]
    lines += [
        "| s | audits | ceiling short | recognised | unsettled: claim, random, ceiling, complement, % | beaten | seconds |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in tallied.searches:
        parts = ", ".join(f"{100 * row.unsettled.get(part, 0):.0f}" for part in ("claim", "random", "ceiling", "complement"))
        known = _percent(row.recognised) if row.recognised else "-"
        lines.append(
            f"| {row.percent / 100:g} | {row.n} | {row.short} | {known} | {parts} | {row.beaten} of {row.compared} | "
            f"{row.seconds:g} |"
        )
    return "\n".join(lines) + "\n"


def _rates(cells: Sequence[GradedCell]) -> list[str]:
    """A line for every share: how often each question was answered yes, and no; where that is false, in bold."""
    lines = ["| s | audits | works | special | unique | necessary |", "| --- | --- | --- | --- | --- | --- |"]
    for percent in sorted({cell.percent for cell in cells}):
        mine = {cell.question: cell for cell in cells if cell.percent == percent}
        lines.append(f"| {percent / 100:g} | {mine['works'].n} | {' | '.join(_answers(mine[name]) for name in QUESTIONS)} |")
    return lines


def _wrong(cells: Sequence[GradedCell]) -> list[str]:
    """A line for every number of random Locations, claim and question: how often it was answered falsely, whatever s."""
    groups: dict[tuple[int, str, str], list[GradedCell]] = {}
    for cell in cells:
        groups.setdefault((cell.random, cell.claim, cell.question), []).append(cell)
    lines = []
    for (random, claim, question), mine in groups.items():
        falsely = [one.false for one in mine if one.expected == "refuted"]
        missed = [one.missed for one in mine if one.expected == "supported"]
        lines.append(f"| {random} | {claim} | {question} | {_pooled(falsely)} | {_pooled(missed)} |")
    return lines


def _pooled(shares: Sequence[ShareCount]) -> str:
    n = sum(share.n for share in shares)
    return f"{_percent(share_of(sum(share.count for share in shares), n))} of {n}" if n else "-"


def _answers(cell: GradedCell) -> str:
    yes, no, none = (share_of(cell.all.of(standing), cell.n) for standing in ("supported", "refuted", "invalid"))
    truth = {"supported": "**yes** ", "refuted": "**no** "}.get(cell.expected, "")
    return f"{truth}yes {_percent(yes)}, no {100 * no.share:.0f}, invalid {100 * none.share:.0f}"


def _percent(share: ShareCount) -> str:
    return f"{100 * share.share:.1f} [{100 * share.low:.1f}, {100 * share.high:.1f}]"
