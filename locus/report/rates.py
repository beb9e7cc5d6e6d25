"""How often an answer is wrong, as it was measured: beside every answer of a page, and of a terminal.

The rates are of audits of graded planted models (docs/verdicts.md), counted by `python -m studies.graded.rates`. They hold for
the settings that they were measured under. Under others nothing is said but that it was not measured.
"""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from locus.plan.config import AuditConfig
from locus.records.base import Many, Part, Short
from locus.records.calibration import GradedSettings, ShareCount
from locus.records.findings import Finding
from locus.units import amount

PATH = Path(__file__).with_name("rates.json")
OF_PLACES = ("special", "unique")  # whose answers lean on how many random Locations there are
WRONG = {"supported": "no", "refuted": "yes"}
NOT_MEASURED = "How often such answers are wrong was not measured under these settings."


class Rates(Part):
    """How often each answer was wrong in audits of one kind."""

    settings: GradedSettings
    """Under which it was measured."""
    source: Short
    """The folder of the draws."""
    false: dict[Short, ShareCount]
    """Question -> audits that said yes where no is right."""
    missed: dict[Short, ShareCount]
    """Question -> audits that said no where yes is right."""


class MeasuredRates(Part):
    """All that was measured."""

    kinds: Many[Rates]
    """By settings."""


@cache
def measured() -> MeasuredRates:
    """What comes with the package."""
    return MeasuredRates.parse(json.loads(PATH.read_text(encoding="utf-8")))


def error_rate(question: str, standing: str, config: AuditConfig) -> str:
    """How often an answer is wrong, in a sentence; "" where nothing was answered, or that was not measured.

    Args:
        question: works, special, unique or necessary.
        standing: what was answered.
        config: the settings of the audit.
    """
    if standing not in WRONG:
        return ""
    asked = (f"rule/{config.rule}", config.search, config.metric, config.alpha, config.tolerance)
    for rates in measured().kinds:
        known = rates.settings
        same = asked == (known.rule, known.search, known.metric, float(known.alpha), float(known.margin))
        if same and (question not in OF_PLACES or known.random == config.random):
            counts = rates.false if standing == "supported" else rates.missed
            if (counted := counts.get(question)) is not None and counted.n:
                most = amount(float(counted.high), "share")
                return (
                    f"In {counted.n:,} audits of planted models where the answer is {WRONG[standing]}, this was said in "
                    f"{counted.count:,} (at most {most})."
                )
    return ""


def error_rates(findings: Mapping[str, Finding], config: AuditConfig) -> tuple[dict[str, str], str]:
    """For the answers to a claim's questions: by question how often it is wrong; and a note where none was measured."""
    sentences = {question: error_rate(question, one.standing, config) for question, one in findings.items()}
    answered = any(one.standing in WRONG for one in findings.values())
    return sentences, NOT_MEASURED if answered and not any(sentences.values()) else ""
