"""The verdict on a card, as a notebook shows a run: one piece of HTML without scripts, every text in it escaped."""

from locus.conclude.diagnosis import next_steps
from locus.conclude.rule import QUESTIONS
from locus.report import html
from locus.report.material import Material

MARKS = {"supported": "●", "refuted": "✕", "undecided": "?", "invalid": "–", "withheld": "○"}


def card(material: Material, temporary: bool = False) -> str:
    """The card of a run.

    Args:
        material: the run.
        temporary: whether its folder is one that nobody asked for.
    """
    made = html.environment()
    receipt = material.receipt.id if material.receipt else ""
    return str(
        made.get_template("card.html.j2").render(
            plan=material.plan,
            verdict=material.verdict,
            questions=QUESTIONS,
            steps=[next_steps(claim, material.verdict) for claim in material.verdict.claims],
            marks=MARKS,
            folder=str(material.folder),
            temporary=temporary,
            receipt=receipt,
            signed=bool(receipt),
        )
    )
