"""All kinds of sites on one behaviour, and the direction of two: how many random places of each kind do as well?

    python -m studies.kinds.kinds --out runs/kinds              # all that is not done; goes on where it was stopped
    python -m studies.kinds.kinds mlp --out runs/kinds          # one
    python -m studies.kinds.kinds mlp --small --out /tmp/kinds  # tiny, of which nothing is kept: does it run?
    python -m studies.kinds.kinds --collect                     # the tables anew, from what is committed

Every audit is of SmolLM2-135M-Instruct. What a probe ranks first is claimed, of one kind after the other, and held against
nineteen places of its kind and size. What is committed of an audit is its verdict and its signed receipt, in
`studies/kinds/NAME`; the tables of README.md follow from these alone.
"""

import argparse
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import locus
from locus.boundary import incoming
from locus.records.findings import Finding
from locus.records.verdict import Verdict
from locus.units import difference, p_value
from studies.behaviours.tour import SETTINGS, SMALL

HERE = Path(__file__).resolve().parent
PAGE = HERE / "README.md"
BEGIN, END = "<!-- {} -->", "<!-- end of {} -->"
BESIDE = {"shift_random": 0}  # what the heuristic edit does is the tour's question


@dataclass(frozen=True)
class Kind:
    """One audit.

    Attributes:
        name: of its folder and its row.
        data: the behaviour.
        claim: as `--claim`.
        settings: besides those of every audit.
    """

    name: str
    data: str
    claim: str
    settings: dict[str, Any] = field(default_factory=dict)


SIDE_BY_SIDE = (
    Kind("heads", "antonym", "probe", {"claim_size": 8}),
    Kind("head", "antonym", "probe", {"claim_size": 1}),
    Kind("neurons", "antonym", "probe", {"claim_size": 8, "site_kind": "neuron"}),
    Kind("attn", "antonym", "probe", {"claim_size": 1, "site_kind": "attn"}),
    Kind("mlp", "antonym", "probe", {"claim_size": 1, "site_kind": "mlp"}),
    Kind("resid", "antonym", "probe", {"claim_size": 1, "site_kind": "resid"}),
    Kind("direction", "antonym", "means@15"),
)
# The middle of thirty layers, as the direction above: chosen before any result, and alike for all.
DIRECTIONS = (Kind("refusal", "refusal", "means@15"), Kind("truthfulness", "misconceptions", "means@15"))
ALL = {one.name: one for one in (*SIDE_BY_SIDE, *DIRECTIONS)}


def main() -> None:
    """Audit what is named, or all, one after the other; write each down as it comes, and the tables anew."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", choices=[[], *ALL], help="all by default")
    parser.add_argument("--out", type=Path, help="for the run folders")
    parser.add_argument("--small", action="store_true", help="tiny audits, of which nothing is kept here")
    parser.add_argument("--collect", action="store_true", help="only the tables")
    given = parser.parse_args()
    if not given.collect:
        if given.out is None:
            parser.error("--out with a folder for the runs")
        for name in given.names or ALL:
            audited(ALL[name], given.out, given.small)
    if not given.small:
        write()


def audited(one: Kind, out: Path, small: bool = False) -> None:
    """Make one audit, or go on with it, and keep its verdict and receipt."""
    kept = HERE / one.name
    if (kept / "verdict.json").exists() and not small:
        return
    settings = {**(SMALL if small else SETTINGS), **BESIDE, **one.settings}
    run = locus.audit(behaviour=one.data, claim=one.claim, out=out / one.name, **settings)
    if not small:
        kept.mkdir(parents=True, exist_ok=True)
        for name in ("verdict.json", "receipt.json"):
            shutil.copyfile(run.folder / name, kept / name)
        write()
    took = run.verdict.seconds
    print(f"{one.name}: {run.verdict.special.sentence} {took.trials if took else 0:.0f} s of trials", flush=True)


def verdict(one: Kind) -> Verdict | None:
    """What is kept of an audit; None where it is not done."""
    path = HERE / one.name / "verdict.json"
    return Verdict.parse(incoming.read_json(path, "a verdict")) if path.is_file() else None


def write() -> None:
    """Put the tables between the marks of the page."""
    for name, listed in (("kinds", SIDE_BY_SIDE), ("directions", DIRECTIONS)):
        begin, end = BEGIN.format(name), END.format(name)
        before, mark, rest = PAGE.read_text(encoding="utf-8").partition(begin)
        PAGE.write_text(f"{before}{mark}\n{table(listed)}\n{end}{rest.partition(end)[2]}", encoding="utf-8")


def table(listed: tuple[Kind, ...]) -> str:
    """Audits as rows, in Markdown."""
    heads = "audit | claimed | ceiling gains | against the ceiling | ahead of random | rank | p | as good | special"
    lines = [f"| {heads} |", "| --- " * 9 + "|"]
    for one in listed:
        if (found := verdict(one)) is None:
            lines.append(f"| {one.name} | not done yet |" + " |" * 7)
            continue
        claim, metric = found.claims[0], found.metric
        special, unique = claim.special, claim.unique
        put = special.reached is not None
        cells = [
            f"[{one.name}]({one.name}/verdict.json)",
            ", ".join(claim.location) if len(claim.location) < 3 else f"{claim.location[0]}, ... ({len(claim.location)})",
            "–" if found.gain is None else difference(found.gain.estimate, metric, unit=False),
            _lead(claim.works, metric),
            _lead(special, metric) if put else "–",
            f"{1 + int(special.reached or 0)} of {1 + (special.n_random or 0)}" if put else "–",
            p_value(special.rank_p if special.rank_p is not None else float("nan")),
            "–" if unique.as_good is None else f"{unique.as_good:.0f} of {unique.n_random}",
            special.standing,
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _lead(finding: Finding, metric: str) -> str:
    if finding.estimate is None:
        return "–"
    low, high = (difference(end, metric, unit=False) for end in finding.interval)
    return f"{difference(finding.estimate, metric, unit=False)} ({low} to {high})"


if __name__ == "__main__":
    main()
