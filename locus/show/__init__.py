"""What the terminal shows: how far the command is, and tables a person can read without a manual."""

from locus.show.progress import progress
from locus.show.results import verdict_table
from locus.show.tables import claim_table, judge_table, numbers_table, patch_table, power_table, verified_table

__all__ = [
    "claim_table",
    "judge_table",
    "numbers_table",
    "patch_table",
    "power_table",
    "progress",
    "verdict_table",
    "verified_table",
]
