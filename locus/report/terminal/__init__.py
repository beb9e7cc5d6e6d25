"""What the terminal shows: how far the command is, and tables a person can read without a manual."""

from locus.report.terminal.progress import progress
from locus.report.terminal.results import verdict_table
from locus.report.terminal.swept import sweep_table
from locus.report.terminal.tables import (
    claim_table,
    judge_table,
    numbers_table,
    patch_table,
    power_table,
    repeat_table,
    verified_table,
)

__all__ = [
    "claim_table",
    "judge_table",
    "numbers_table",
    "patch_table",
    "power_table",
    "progress",
    "repeat_table",
    "sweep_table",
    "verdict_table",
    "verified_table",
]
