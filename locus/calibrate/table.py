"""How often is each sentence of a verdict wrong? Audits of many planted models, counted.

A draw is one planted model with every claim about it whose truth is known. Draws are appended to `draws.jsonl` as they
finish, so a calibration that was killed goes on where it stopped; the tally is a function of that file alone.
"""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from locus import atomic, stats
from locus.behaviours.lines import FILE_BYTES
from locus.boundary import incoming, outputs
from locus.conclude.tests import QUESTIONS
from locus.errors import UserError
from locus.models.planted.kinds import KINDS
from locus.plan.config import AuditConfig
from locus.shown import markdown

PARTS = ("kind", "seed", "shuffled", "named", "claims")  # of what is known of a draw
# Shuffled twins are one kind more: the same weights, labels that mean nothing.
ALL = (*KINDS, "shuffled")
LEVEL = 0.95
DRAWS, WORKERS = 100_000, 1024
Job = tuple[str, int, bool, AuditConfig]


def calibrate(
    out: Path,
    draws: int,
    kinds: tuple[str, ...] = ALL,
    config: AuditConfig | None = None,
    workers: int | None = None,
    told: Callable[[str, float], None] = lambda what, share: None,
) -> dict[str, Any]:
    """Draw what is missing, and tally all of it.

    Args:
        out: folder; `draws.jsonl`, `calibration.json` and `calibration.md` are written there.
        draws: planted models of each kind.
        kinds: which, of `ALL`.
        config: alpha, margin, number of random Locations; other settings are not used.
        workers: processes; one a core by default.
        told: told what was done and the share of it.

    Returns:
        The tally, as written to `calibration.json`.

    Raises:
        UserError: for an unknown kind, too few or too many draws or processes, or a folder with draws of other settings.
    """
    config = config or AuditConfig()
    unknown = [kind for kind in kinds if kind not in ALL]
    if unknown or len(set(kinds)) < len(kinds):
        raise UserError(f"different kinds among {', '.join(ALL)}", f"{', '.join(map(repr, kinds))}", "Mend --kinds.")
    if not 1 <= draws <= DRAWS:
        raise UserError(f"1 to {DRAWS:,} draws", str(draws), "Mend --draws.")
    if workers is not None and not 1 <= workers <= WORKERS:
        raise UserError(f"1 to {WORKERS} processes", str(workers), "Mend --workers.")
    setting = {"alpha": config.alpha, "margin": config.tolerance, "random": config.random}
    held = _read(out, setting)
    have = {(one["kind"], one["seed"], one["shuffled"]) for one in held}
    jobs = [job for job in _jobs(kinds, draws, config) if job[:3] not in have]
    total, done = len(jobs) + len(held), len(held)
    with (out / "draws.jsonl").open("a", encoding="utf-8") as file:
        for found in _run(jobs, workers or os.cpu_count() or 1):
            file.write(json.dumps(found) + "\n")
            file.flush()
            held.append(found)
            done += 1
            told(f"{found['kind']} {found['seed']}", done / total)
    wanted = {job[:3] for job in _jobs(kinds, draws, config)}
    tallied = tally([one for one in held if (one["kind"], one["seed"], one["shuffled"]) in wanted], setting)
    (out / "calibration.json").write_text(json.dumps(tallied, indent=1) + "\n", encoding="utf-8")
    (out / "calibration.md").write_text(table(tallied), encoding="utf-8")
    return tallied


def _jobs(kinds: tuple[str, ...], draws: int, config: AuditConfig) -> Iterator[Job]:
    """Kind by kind within each seed, so that an unfinished calibration has all kinds; shuffled twins go round the kinds."""
    for seed in range(draws):
        for kind in kinds:
            if kind == "shuffled":
                yield KINDS[seed % len(KINDS)], seed, True, config
            else:
                yield kind, seed, False, config


def _read(out: Path, setting: dict[str, Any]) -> list[dict[str, Any]]:
    """The draws a folder holds; a last line cut short by a kill is dropped."""
    outputs.check_folder(out)
    atomic.folder(out)
    about, path, what = out / "settings.json", out / "draws.jsonl", "the folder of a calibration"
    if about.exists() and (old := incoming.read_json(about, what, inside=out)) != setting:
        raise UserError(f"draws with {setting}", str(old)[:200], "Give another --out.")
    atomic.replace(about, json.dumps(setting) + "\n")
    content = incoming.read_bytes(path, what, FILE_BYTES, inside=out) if path.exists() else b""
    *whole, rest = content.split(b"\n")  # every finished line ends in a newline
    if rest:
        atomic.replace(path, b"".join(line + b"\n" for line in whole))
    try:
        held = [incoming.parse_json(line) for line in whole]
        if not all(isinstance(one, dict) and set(PARTS) <= set(one) for one in held):
            raise ValueError(f"a line without {', '.join(PARTS)}")
        return held
    except ValueError as error:
        raise UserError(what, f"{str(path)!r} ({str(error)[:200]})", "Remove the line, or give another --out.") from error


def _work(job: Job, say: Callable[[float], None]) -> dict[str, Any]:
    from locus.calibrate.draws import draw
    from locus.machine.threads import using

    with using(1):
        return draw(*job)


def _run(jobs: list[Job], workers: int) -> Iterator[dict[str, Any]]:
    from locus.run.executors import side_by_side  # imports torch

    yield from side_by_side(jobs, _work, workers, lambda place, share: None)


def tally(draws: list[dict[str, Any]], setting: dict[str, Any]) -> dict[str, Any]:
    """Counts of right and wrong standings with exact intervals.

    Args:
        draws: as `locus.calibrate.draws.draw` gives them.
        setting: alpha, margin and number of random Locations.

    Returns:
        rows (kind, claim, read, metric, question, expected; n; supported, refuted, undecided, invalid with all random Locations
        and with sequential stopping; right and wrong with intervals), saved (kind, claim -> share of random Locations that
        stopping early saved), named (kind -> heuristic -> share), rank (kind, claim -> all rank p-values), settings.
    """
    cells: dict[tuple[str, ...], list[tuple[str, str]]] = {}
    saved: dict[str, list[float]] = {}
    ranks: dict[str, list[float]] = {}
    named: dict[str, dict[str, list[bool]]] = {}
    for one in draws:
        kind = "shuffled" if one["shuffled"] else one["kind"]
        for heuristic, right in one["named"].items():
            named.setdefault(kind, {}).setdefault(heuristic, []).append(right)
        for claim in one["claims"]:
            name = claim["name"]
            for question in QUESTIONS:
                key = (kind, name, claim["read"], claim["metric"], question, claim["expected"].get(question, ""))
                cells.setdefault(key, []).append((claim["standings"][question], claim["sequential"][question]))
            if claim["metric"] == "mc2" and claim["read"] == "layer":
                saved.setdefault(f"{kind} {name}", []).append(1 - claim["drawn"] / claim["planned"])
                if claim["rank_p"] is not None:
                    ranks.setdefault(f"{kind} {name}", []).append(claim["rank_p"])
    names = ("kind", "claim", "read", "metric", "question", "expected")
    rows = [{**dict(zip(names, key, strict=True)), **_counts(key[-1], seen)} for key, seen in sorted(cells.items())]
    return {
        "settings": setting,
        "draws": len(draws),
        "rows": rows,
        "saved": {name: sum(shares) / len(shares) for name, shares in sorted(saved.items())},
        "named": {
            kind: {name: _share(sum(seen), len(seen)) for name, seen in found.items()} for kind, found in sorted(named.items())
        },
        "rank_p": ranks,
    }


def _counts(expected: str, seen: list[tuple[str, str]]) -> dict[str, Any]:
    found: dict[str, Any] = {"n": len(seen)}
    for index, way in enumerate(("all", "sequential")):
        counts = {name: sum(one[index] == name for one in seen) for name in ("supported", "refuted", "undecided", "invalid")}
        found[way] = counts
        if expected:
            wrong = sum(counts[name] for name in ("supported", "refuted") if name != expected)
            found[way] |= {"right": _share(counts[expected], len(seen)), "wrong": _share(wrong, len(seen))}
    return found


def _share(count: int, n: int) -> dict[str, Any]:
    """A count with its share and exact interval."""
    share = stats.clopper_pearson(count, n, level=LEVEL)
    return {"count": count, "n": n, "share": share.value, "low": share.low, "high": share.high}


class Aim(NamedTuple):
    """An error rate or a power that matters: one claim a model, so that the audits counted are independent.

    Attributes:
        said: what is counted, in words.
        question: of the verdict.
        kinds: of planted models, pooled.
        claims: their names, of which each kind has at most one.
        counted: the standing that is counted.
    """

    said: str
    question: str
    kinds: tuple[str, ...]
    claims: tuple[str, ...]
    counted: str


AIMS = (
    Aim("special said of every head of a distributed model", "special", ("distributed",), ("planted",), "supported"),
    Aim("special said of a decoy (decoy, borrowed)", "special", ("decoy", "borrowed"), ("decoy",), "supported"),
    Aim("special said of the planted place where labels are shuffled", "special", ("shuffled",), ("planted",), "supported"),
    Aim("special said of an idle head (claim elsewhere)", "special", tuple(KINDS), ("elsewhere",), "supported"),
    Aim("special denied of the planted place (localized)", "special", ("localized",), ("planted",), "refuted"),
    Aim("special found at the planted place (localized)", "special", ("localized",), ("planted",), "supported"),
    Aim("works found at the planted place (localized)", "works", ("localized",), ("planted",), "supported"),
    Aim("necessary denied of one of two redundant heads", "necessary", ("redundant",), ("either",), "refuted"),
    Aim("necessary found of both redundant heads", "necessary", ("redundant",), ("planted",), "supported"),
    Aim("necessary found of both conjunctive heads", "necessary", ("conjunctive",), ("planted",), "supported"),
)


def aims(found: dict[str, Any], metric: str = "mc2", way: str = "all") -> list[tuple[str, dict[str, Any]]]:
    """The error rates and powers that matter most, of edits that read the layer: (what is counted, its share)."""
    pooled = []
    for aim in AIMS:
        rows = [
            row
            for row in found["rows"]
            if (row["metric"], row["read"], row["question"]) == (metric, "layer", aim.question)
            and row["kind"] in aim.kinds
            and row["claim"] in aim.claims
        ]
        if rows:
            counted = sum(row[way][aim.counted] for row in rows)
            pooled.append((aim.said, _share(counted, sum(row["n"] for row in rows))))
    return pooled


def table(found: dict[str, Any], metric: str = "mc2") -> str:
    """The tally as Markdown: the rates that matter most, then every claim and question."""
    setting = found["settings"]
    said = [
        f"Audits of {found['draws']} planted models; alpha = {setting['alpha']:g}, margin = {setting['margin']:g} of the "
        f"ceiling's gain, {setting['random']} random Locations, metric {metric}.",
        "",
        "| in percent of audits [exact 95 % interval] | all random Locations | stopping early |",
        "| --- | --- | --- |",
    ]
    for (name, whole), (_, early) in zip(aims(found, metric), aims(found, metric, "sequential"), strict=True):
        said.append(f"| {name} | {_cell(whole)} of {whole['n']} | {_cell(early)} |")
    said += [
        "",
        "By claim, with all random Locations: the truth by construction, then percent of audits right / wrong (what is neither "
        "was left undecided or found invalid; a dash where construction does not settle the truth). *No question*: with shuffled "
        "labels, invalid is right, and supported or refuted is wrong.",
        "",
        "| planted | claim | read | n | works | special | unique | necessary |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for (kind, claim, read), rows in _by_claim(found, metric).items():
        cells = [_truth(rows[question]) for question in QUESTIONS]
        said.append(f"| {' | '.join(map(markdown, (kind, claim, read)))} | {rows['works']['n']} | {' | '.join(cells)} |")
    said += ["", "Random Locations saved by stopping early, mean over audits:", ""]
    said += [f"- {markdown(name)}: {100 * share:.0f} %" for name, share in found["saved"].items()]
    said += ["", "How often the head that a heuristic ranks first does the work (a tie for first counts as a miss):", ""]
    for kind, heuristics in found["named"].items():
        said.append(
            f"- {markdown(kind)}: " + ", ".join(f"{markdown(name)} {_cell(share)} %" for name, share in heuristics.items())
        )
    return "\n".join(said) + "\n"


def _by_claim(found: dict[str, Any], metric: str) -> dict[tuple[str, str, str], dict[str, dict[str, Any]]]:
    grouped: dict[tuple[str, str, str], dict[str, dict[str, Any]]] = {}
    for row in found["rows"]:
        if row["metric"] == metric:
            grouped.setdefault((row["kind"], row["claim"], row["read"]), {})[row["question"]] = row
    return grouped


def _truth(row: dict[str, Any]) -> str:
    if not row["expected"]:
        return "-"
    truth = {"supported": "yes", "refuted": "no", "invalid": "no question"}[row["expected"]]
    return f"{truth}: {100 * row['all']['right']['share']:.0f} / {100 * row['all']['wrong']['share']:.0f}"


def _cell(share: dict[str, Any]) -> str:
    return f"{100 * share['share']:.1f} [{100 * share['low']:.1f}, {100 * share['high']:.1f}]"
