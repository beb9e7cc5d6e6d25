"""The table of a sweep: every claim's answers, and what holds over all of it."""

from pathlib import Path

from rich.table import Table

from locus.boundary.terminal import Console, Text
from locus.conclude.family import described
from locus.records.findings import QUESTIONS
from locus.records.sweep import SweepRecord, SweptAudit, SweptClaim
from locus.report.sweep import PAGE
from locus.units import difference, p_value

MOST = 60  # claims in the terminal; the page has them all
HEADS = ("model", "behaviour", "seed", "claim", "lead", *QUESTIONS, "special: p", "in the sweep")


def sweep_table(console: Console, record: SweepRecord, out: Path) -> None:
    """Every claim with its standings in its audit, its lead, and the p of special as it is and over the sweep."""
    table, audits = Table(), {one.folder: one for one in record.audits}
    for head in HEADS:
        table.add_column(head, justify="right" if head in ("seed", "lead", *HEADS[-2:]) else "left", overflow="fold")
    for claim in record.claims[:MOST]:
        audit = audits[claim.audit]
        table.add_row(audit.model, audit.behaviour, str(audit.seed), claim.source, *_cells(claim, audit))
    console.print(table)
    if len(record.claims) > MOST:
        console.print(Text(f"... and {len(record.claims) - MOST} more, on the page."))
    reasons = {why: one for one in record.claims if (why := one.failed)}
    for why, one in list(reasons.items())[:MOST]:
        console.print(Text(f"failed: {one.source} in {one.audit}: {why}"), soft_wrap=True)
    for sentence in described(record):
        console.print(Text(sentence), soft_wrap=True)
    console.print(Text(out / PAGE), soft_wrap=True)


def _cells(claim: SweptClaim, audit: SweptAudit) -> list[str]:
    if not claim.answers:
        return ["", *["failed" if claim.failed else "not yet"] * len(QUESTIONS), "", ""]
    special = claim.answers["special"]
    ps = [p_value(float("nan") if p is None else float(p)) for p in (special.p, special.p_sweep)]
    standings = [claim.answers[question].standing for question in QUESTIONS]
    lead = None if claim.lead is None else float(claim.lead)
    return [difference(lead, audit.metric), *standings, *ps]
