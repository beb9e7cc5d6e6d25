"""How often is each sentence of a verdict wrong? Audits of many planted models, counted.

A draw is one planted model with every claim about it whose truth is known. Draws are appended to `draws.jsonl` as they
finish, so a calibration that was killed goes on where it stopped; the tally is a function of that file alone.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple

from locus import stats
from locus.calibrate.gathered import check_counts, gather
from locus.errors import UserError
from locus.models.planted.kinds import KINDS
from locus.models.planted.sited import SHAPES, SITED, SITES, site_of
from locus.plan.config import AuditConfig
from locus.records.calibration import Calibration, CalibrationRow, CalibrationSettings, Draw, ShareCount, StandingCounts, Way
from locus.records.findings import QUESTIONS
from locus.shown import markdown
from locus.sites.kind import kind_of

# Shuffled twins are one kind more: the same weights, labels that mean nothing.
ALL = (*KINDS, "shuffled")
OF_SITE = {site: (*(f"{site}-{shape}" for shape in SHAPES), f"{site}-shuffled") for site in SITES}
STANDINGS = ("supported", "refuted", "undecided", "invalid")
LEVEL = 0.95
Job = tuple[str, int, bool, AuditConfig]


def calibrate(
    out: Path,
    draws: int,
    kinds: tuple[str, ...] = ALL,
    config: AuditConfig | None = None,
    workers: int | None = None,
    progress: Callable[[str, float], None] = lambda what, share: None,
) -> Calibration:
    """Draw what is missing, and tally all of it.

    Args:
        out: folder; `draws.jsonl`, `calibration.json` and `calibration.md` are written there.
        draws: planted models of each kind.
        kinds: which, of `ALL` and `OF_SITE`; a kind of site stands for all of its own.
        config: alpha, margin, number of random Locations; other settings are not used.
        workers: processes; one a core by default.
        progress: told what was done and the share of it.

    Returns:
        The tally, as written to `calibration.json`.

    Raises:
        UserError: for an unknown kind, too few or too many draws or processes, or a folder with draws of other settings.
    """
    config = config or AuditConfig()
    kinds = tuple(one for kind in kinds for one in OF_SITE.get(kind, (kind,)))
    known = (*ALL, *(kind for own in OF_SITE.values() for kind in own))
    if not set(kinds) <= set(known) or len(set(kinds)) < len(kinds):
        wanted = f"different kinds among {', '.join(ALL)}, or {', '.join(SITES)} (or one of theirs, such as {known[-2]})"
        raise UserError(wanted, f"{', '.join(map(repr, kinds))}", "Mend --kinds.")
    check_counts(draws, workers)
    setting = CalibrationSettings(alpha=config.alpha, margin=config.tolerance, random=config.random, rule=f"rule/{config.rule}")
    jobs = {(kind, seed, shuffled): (kind, seed, shuffled, config) for kind, seed, shuffled in _wanted(kinds, draws)}
    seen = gather(out, setting, jobs, Draw, _work, workers, progress)
    tallied = tally([one for one in seen if one.key in jobs], setting)
    (out / "calibration.json").write_text(json.dumps(tallied.to_json(), indent=1) + "\n", encoding="utf-8")
    (out / "calibration.md").write_text(table(tallied), encoding="utf-8")
    return tallied


def _wanted(kinds: tuple[str, ...], draws: int) -> Iterator[tuple[str, int, bool]]:
    """Kind by kind within each seed, so that an unfinished calibration has all kinds; shuffled twins go round the kinds."""
    for seed in range(draws):
        for kind in kinds:
            site = kind.removesuffix("-shuffled")
            if kind == "shuffled":
                yield KINDS[seed % len(KINDS)], seed, True
            elif site in OF_SITE:
                yield f"{site}-{SHAPES[seed % len(SHAPES)]}", seed, True
            else:
                yield kind, seed, False


def _work(job: Job, say: Callable[[float], None]) -> Draw:
    from locus.calibrate.along import draw_along
    from locus.calibrate.draws import draw_audits
    from locus.calibrate.sited import draw_sited
    from locus.machine.threads import using

    with using(1):
        if kind_of(site_of(job[0])).written == "along":
            return draw_along(*job)
        return draw_sited(*job) if job[0] in SITED else draw_audits(*job)


def _named(draw: Draw) -> str:
    """The kind that a draw is counted under."""
    if not draw.shuffled:
        return draw.kind
    return f"{site_of(draw.kind)}-shuffled" if draw.kind in SITED else "shuffled"


def tally(draws: Sequence[Draw], setting: CalibrationSettings) -> Calibration:
    """Counts of right and wrong standings with exact intervals.

    Args:
        draws: as `locus.calibrate.draws.draw` gives them.
        setting: alpha, margin and number of random Locations.

    Returns:
        For every kind and claim how often each question got each answer, and how often that was right.
    """
    cells: dict[tuple[str, str, str, str, str, str], list[tuple[str, str]]] = {}
    saved: dict[str, list[float]] = {}
    ranks: dict[str, list[float]] = {}
    heuristics_of_kind: dict[str, dict[str, list[bool]]] = {}
    for result in draws:
        kind = _named(result)
        for heuristic, right in result.named.items():
            heuristics_of_kind.setdefault(kind, {}).setdefault(heuristic, []).append(right)
        for claim in result.claims:
            name = claim.name
            for question in QUESTIONS:
                key = (kind, name, claim.read, claim.metric, question, claim.expected.get(question, ""))
                cells.setdefault(key, []).append((claim.standings[question], claim.sequential[question]))
            if claim.metric == "mc2" and claim.read == "layer":
                saved.setdefault(f"{kind} {name}", []).append(1 - claim.drawn / claim.planned)
                if claim.rank_p is not None:
                    ranks.setdefault(f"{kind} {name}", []).append(claim.rank_p)
    return Calibration(
        settings=setting,
        draws=len(draws),
        rows=tuple(_row(key, outcomes) for key, outcomes in sorted(cells.items())),
        saved={name: sum(shares) / len(shares) for name, shares in sorted(saved.items())},
        named={
            kind: {name: share_of(sum(outcomes), len(outcomes)) for name, outcomes in by_heuristic.items()}
            for kind, by_heuristic in sorted(heuristics_of_kind.items())
        },
        rank_p={name: tuple(values) for name, values in ranks.items()},
    )


def _row(key: tuple[str, str, str, str, str, str], outcomes: list[tuple[str, str]]) -> CalibrationRow:
    kind, claim, read, metric, question, expected = key
    full, early = (counts_of(expected, standings) for standings in zip(*outcomes, strict=True))
    return CalibrationRow(
        kind=kind,
        claim=claim,
        read=read,
        metric=metric,
        question=question,
        expected=expected,
        n=len(outcomes),
        all=full,
        sequential=early,
    )


def counts_of(expected: str, standings: Sequence[str]) -> StandingCounts:
    counts, n = Counter(standings), len(standings)
    counted = StandingCounts.parse({name: counts[name] for name in STANDINGS})
    if not expected:
        return counted
    wrong = sum(counts[name] for name in ("supported", "refuted") if name != expected)
    return counted.model_copy(update={"right": share_of(counts[expected], n), "wrong": share_of(wrong, n)})


def share_of(count: int, n: int) -> ShareCount:
    """A count with its share and exact interval."""
    share = stats.clopper_pearson(count, n, level=LEVEL)
    return ShareCount(count=count, n=n, share=share.value, low=share.low, high=share.high)


class Aim(NamedTuple):
    """An error rate or a power that matters: one claim a model, so that the audits counted are independent.

    Attributes:
        label: what is counted, in words, with {noun} for the kind of site.
        question: of the verdict.
        kinds: of planted models, pooled.
        claims: their names, of which each kind has at most one.
        standing: the one that is counted.
        truth: what is right. Audits where it is not, such as of one of two directions that are called planted, are left out.
    """

    label: str
    question: str
    kinds: tuple[str, ...]
    claims: tuple[str, ...]
    standing: str
    truth: str


AIMS = (
    Aim("special said of every {noun} of a distributed model", "special", ("distributed",), ("planted",), "supported", "refuted"),
    Aim("special said of a decoy (decoy, borrowed)", "special", ("decoy", "borrowed"), ("decoy",), "supported", "refuted"),
    Aim(
        "special said of the planted place where labels are shuffled",
        "special",
        ("shuffled",),
        ("planted",),
        "supported",
        "invalid",
    ),
    Aim("special said of an idle {noun} (claim elsewhere)", "special", tuple(KINDS), ("elsewhere",), "supported", "refuted"),
    Aim("special denied of the planted place (localized)", "special", ("localized",), ("planted",), "refuted", "supported"),
    Aim("special found at the planted place (localized)", "special", ("localized",), ("planted",), "supported", "supported"),
    Aim("works found at the planted place (localized)", "works", ("localized",), ("planted",), "supported", "supported"),
    Aim("necessary denied of one of two redundant {nouns}", "necessary", ("redundant",), ("either",), "refuted", "refuted"),
    Aim("necessary found of both redundant {nouns}", "necessary", ("redundant",), ("planted",), "supported", "supported"),
    Aim("necessary found of both conjunctive {nouns}", "necessary", ("conjunctive",), ("planted",), "supported", "supported"),
)


def aims(rows: Sequence[CalibrationRow], metric: str = "mc2", way: Way = "all") -> list[tuple[str, ShareCount]]:
    """The error rates and powers that matter most, of edits that read the layer: (what is counted, its share)."""
    pooled = []
    for site, aim in product(("head", *SITES), AIMS):
        kinds = aim.kinds if site == "head" else tuple(f"{site}-{kind}" for kind in aim.kinds)
        rows_of_aim = [
            row
            for row in rows
            if (row.metric, row.read, row.question) == (metric, "layer", aim.question)
            and row.kind in kinds
            and row.claim in aim.claims
            and row.expected in ("", aim.truth)
        ]
        if rows_of_aim:
            own, count = kind_of(site), sum(row.by_way(way).of(aim.standing) for row in rows_of_aim)
            label = aim.label.format(noun=own.noun, nouns=own.nouns)
            pooled.append((label if site == "head" else f"{site}: {label}", share_of(count, sum(row.n for row in rows_of_aim))))
    return pooled


def table(tallied: Calibration, metric: str = "mc2") -> str:
    """The tally as Markdown: the rates that matter most, then every claim and question."""
    setting = tallied.settings
    lines = [
        f"Audits of {tallied.draws} planted models; alpha = {setting.alpha:g}, margin = {setting.margin:g} of the "
        f"ceiling's gain, {setting.random} random Locations, metric {metric}.",
        "",
        "| in percent of audits [exact 95 % interval] | all random Locations | stopping early |",
        "| --- | --- | --- |",
    ]
    for (name, full), (_, early) in zip(aims(tallied.rows, metric), aims(tallied.rows, metric, "sequential"), strict=True):
        lines.append(f"| {name} | {_cell(full)} of {full.n} | {_cell(early)} |")
    lines += [
        "",
        "By claim, with all random Locations: the truth by construction, then percent of audits right / wrong (what is neither "
        "was left undecided or found invalid; a dash where construction does not settle the truth). *No question*: with shuffled "
        "labels, invalid is right, and supported or refuted is wrong.",
        "",
        "| planted | claim | read | n | works | special | unique | necessary |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for (kind, claim, read), rows in _by_claim(tallied.rows, metric).items():
        cells = [_truth(rows[question]) for question in QUESTIONS]
        lines.append(f"| {' | '.join(map(markdown, (kind, claim, read)))} | {rows['works'].n} | {' | '.join(cells)} |")
    lines += ["", "Random Locations saved by stopping early, mean over audits:", ""]
    lines += [f"- {markdown(name)}: {100 * share:.0f} %" for name, share in tallied.saved.items()]
    if tallied.named:
        lines += ["", "How often the head that a heuristic ranks first does the work (a tie for first counts as a miss):", ""]
    for kind, heuristics in tallied.named.items():
        lines.append(
            f"- {markdown(kind)}: " + ", ".join(f"{markdown(name)} {_cell(share)} %" for name, share in heuristics.items())
        )
    return "\n".join(lines) + "\n"


def _by_claim(rows: Sequence[CalibrationRow], metric: str) -> dict[tuple[str, str, str], dict[str, CalibrationRow]]:
    grouped: dict[tuple[str, str, str], dict[str, CalibrationRow]] = {}
    for row in rows:
        if row.metric == metric:
            grouped.setdefault((row.kind, row.claim, row.read), {})[row.question] = row
    return grouped


def _truth(row: CalibrationRow) -> str:
    right, wrong = row.all.right, row.all.wrong
    if right is None or wrong is None:
        return "-"
    truth = {"supported": "yes", "refuted": "no", "invalid": "no question"}[row.expected]
    return f"{truth}: {100 * right.share:.0f} / {100 * wrong.share:.0f}"


def _cell(share: ShareCount) -> str:
    return f"{100 * share.share:.1f} [{100 * share.low:.1f}, {100 * share.high:.1f}]"
