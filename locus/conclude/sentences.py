"""Every sentence that a verdict may have, in one place.

A rule's sentences are part of it: a run is read in the words of the rule that its plan was fixed with.
"""

from collections.abc import Mapping

from locus.records.findings import Findings

Sentences = Mapping[str, Mapping[str, str]]

PLACES = {"claim": "the claim", "ceiling": "the ceiling", "complement": "everywhere but the claim", "random": "random Locations"}
FIRST: Sentences = {
    "works": {
        "supported": "Editing there works as well as editing everywhere",
        "refuted": "Editing there falls short of editing everywhere",
        "undecided": "Whether editing there is as good as editing everywhere is open",
    },
    "special": {
        "supported": "The claimed Location is better than random Locations",
        "refuted": "The claimed Location is no better than random Locations, within the margin",
        "undecided": "Whether the claimed Location is better than random Locations is open",
    },
    "unique": {
        "supported": "Hardly any other Location does as well",
        "refuted": "Other Locations do as well",
        "undecided": "Whether other Locations do as well is open",
    },
    "necessary": {
        "supported": "The claimed Location is needed",
        "refuted": "The claimed Location is not needed",
        "undecided": "Whether the claimed Location is needed is open",
    },
}
# What editing does not show may be true all the same.
SINCE_FOURTH: Sentences = {
    **FIRST,
    "special": {
        **FIRST["special"],
        "refuted": "Editing does not show the claimed Location to be better than random Locations: its lead is under the margin",
        "last": "Editing does not show the claimed Location to be better than random Locations: it does worse than every one",
    },
    "necessary": {**FIRST["necessary"], "refuted": "Editing does not show the claimed Location to be needed"},
}


WITHHELD = "No answer is given, since nobody has measured how often it would be wrong of claims about {nouns}"


def sentences(rule: int) -> Sentences:
    """Question -> standing -> what is said, by the version of a rule."""
    return FIRST if rule < 4 else SINCE_FOURTH


def overall(answers: Findings) -> str:
    """One sentence from the four standings."""
    standing = {name: finding.standing for name, finding in answers.by_question.items()}
    if set(standing.values()) == {"invalid"}:
        return "No verdict: the question could not be put (see the reasons)."
    if "withheld" in standing.values():
        return (
            "No verdict: how often claims about sites of this kind are answered wrongly has not been measured; the numbers stand."
        )
    if standing["works"] == "refuted" and standing["special"] == "supported":
        return (
            "The claimed Location beats random Locations but falls short of editing everywhere: at most part of the behaviour is "
            "there."
        )
    if standing["works"] == "refuted":
        return (
            "Editing the claimed Location falls short of editing everywhere: no evidence from editing that the behaviour is "
            "there."
        )
    if standing["special"] == "refuted":
        return (
            "Editing the claimed Location works no better than editing random Locations: the edit is no evidence of localization."
        )
    if standing["special"] == "supported" and standing["works"] == "supported":
        more = [
            {"supported": "hardly any other Location does as well", "refuted": "other Locations do as well too"}.get(
                standing["unique"], "whether it is the only one is open"
            ),
            {"supported": "and nothing works without it", "refuted": "and it can be done without it"}.get(
                standing["necessary"], "and whether it is needed is open"
            ),
        ]
        return f"Editing the claimed Location works and beats random Locations; {', '.join(more)}."
    if standing["special"] == "supported":
        return "The claimed Location is better than random Locations; whether it reaches the ceiling is open."
    if standing["special"] == "invalid":
        return "No verdict: whether the claimed Location is special could not be asked (see the reason)."
    return "Undecided: whether the claimed Location is better than random Locations is open."
