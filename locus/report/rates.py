"""How often an answer is wrong, as it was measured: beside every answer of a page, and of a terminal.

The rates are of audits of planted models (docs/verdicts.md), of heads graded ones, counted by `python -m studies.graded.rates`.
They hold for the kind of site and the settings that they were measured under. Of others nothing is said but that it was not
measured.
"""

import json
from functools import cache
from pathlib import Path

from locus.plan.config import AuditConfig
from locus.records.base import Many, Part, Short
from locus.records.calibration import GradedSettings, ShareCount
from locus.records.findings import ClaimVerdict
from locus.sites.kind import default
from locus.units import amount

PATH = Path(__file__).with_name("rates.json")
OF_PLACES = ("special", "unique")  # whose answers lean on how many random Locations there are
WRONG = {"supported": "no", "refuted": "yes"}
NOT_MEASURED = "How often such answers are wrong was not measured under these settings."


class Rates(Part):
    """How often each answer was wrong in audits of one kind."""

    kind: Short
    """Of the claimed sites."""
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


def error_rate(question: str, standing: str, config: AuditConfig, kind: str = "") -> str:
    """How often an answer is wrong, in a sentence; "" where nothing was answered, or that was not measured.

    Args:
        question: works, special, unique or necessary.
        standing: what was answered.
        config: the settings of the audit.
        kind: of the claimed sites, as a verdict has it: empty for heads.
    """
    if standing not in WRONG:
        return ""
    asked = (f"rule/{config.rule}", config.search, config.metric, config.alpha, config.tolerance)
    for rates in measured().kinds:
        known = rates.settings
        same = asked == (known.rule, known.search, known.metric, float(known.alpha), float(known.margin))
        same = same and rates.kind == (kind or default().name)
        if same and (question not in OF_PLACES or known.random == config.random):
            counts = rates.false if standing == "supported" else rates.missed
            if (counted := counts.get(question)) is not None and counted.n:
                most = amount(float(counted.high), "share")
                return (
                    f"In {counted.n:,} audits of planted models where the answer is {WRONG[standing]}, this was said in "
                    f"{counted.count:,} (at most {most})."
                )
    return ""


def error_rates(claim: ClaimVerdict, config: AuditConfig) -> tuple[dict[str, str], str]:
    """For the answers to a claim's questions: by question how often it is wrong; and a note where none was measured."""
    findings = claim.by_question
    sentences = {question: error_rate(question, one.standing, config, claim.kind) for question, one in findings.items()}
    answered = any(one.standing in WRONG for one in findings.values())
    return sentences, NOT_MEASURED if answered and not any(sentences.values()) else ""
