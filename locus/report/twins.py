"""What the method finds where there is nothing: a run beside those of its model's twins, whose weights are noise."""

from dataclasses import dataclass

from locus.records.findings import ClaimVerdict
from locus.records.plan import PlanRecord
from locus.report.material import Material
from locus.shown import visible

APART = {"twin", "executor", "preset"}  # settings in which a twin's audit may differ


@dataclass(frozen=True)
class Twin:
    """An audit of a twin of a run's model.

    Attributes:
        name: of the twin.
        claims: what follows there.
        said: what that says of the method, a sentence each.
    """

    name: str
    claims: tuple[ClaimVerdict, ...]
    said: list[str]


def is_twin(plan: PlanRecord) -> bool:
    """Whether a run's model is a twin of another."""
    return plan.config.get("twin") is not None


def twins(material: Material, others: list[Material]) -> list[Twin]:
    """The runs among some that audit a twin of a run's model.

    Args:
        material: the run.
        others: those set beside it.
    """
    mine = material.plan
    if is_twin(mine):
        return []
    same = [one for one in others if is_twin(one.plan) and one.plan.config.get("model") == mine.config.get("model")]
    return [Twin(one.verdict.model.name, one.verdict.claims, _said(one, _differing(mine, one.plan))) for one in same]


def _differing(mine: PlanRecord, theirs: PlanRecord) -> list[str]:
    """Settings, the seed of the twin aside, that two plans do not share."""
    names = sorted({*mine.config, *theirs.config} - APART)
    return [name for name in names if mine.config.get(name) != theirs.config.get(name)]


def _said(twin: Material, differing: list[str]) -> list[str]:
    sentences = []
    for claim in twin.verdict.claims:
        found, name = claim.special.standing, visible(claim.name, 60)
        if found == "supported":
            said = f"At “{name}” the method finds a special place where there is nothing: by itself its answer shows little."
        elif found == "invalid":
            said = f"At “{name}” the method gives no verdict where there is nothing, as it should."
        elif found == "withheld":
            said = f"At “{name}” an answer is withheld, as in the run itself."
        else:
            said = f"At “{name}” the method does not call special what is nowhere ({found})."
        sentences.append(said)
    if differing:
        sentences.append(f"It is not quite the same audit: {visible(', '.join(differing), 300)} differ.")
    return sentences


def limit(plan: PlanRecord) -> list[str]:
    """What has to be known of a run whose model is a twin; nothing of another."""
    if not is_twin(plan):
        return []
    return [
        "This is the audit of a twin: all matrices were redrawn at random with the same singular values, so the behaviour is "
        "nowhere in it. What is found here is what the method finds where there is nothing."
    ]
