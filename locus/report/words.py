"""Prose from numbers and rules."""

from collections.abc import Sequence
from typing import Any

from locus.metrics.base import Metric
from locus.shown import visible
from locus.units import amount

# The other forms of True*Info, and shares with the judge's errors taken out; they are no metrics but views of these.
VIEWS = {
    "product": "Product, % of means",
    "both": "Both, %",
    "corrected_both": "Both, % corrected",
    "corrected_truth": "True, % corrected",
    "corrected_info": "Info, % corrected",
}
READS = {
    "layer": "the edit writes at the named heads but reads the whole layer",
    "heads": "the edit reads and writes at the named heads only",
    "constant": "the edit reads nothing and adds a constant at the named heads",
}


UNSETTLED = {"claimed": "the claim", "ceiling": "the ceiling", "complement": "the complement"}
TARGETS = {"truth": "true", "info": "informative", "both": "true and informative"}


def headings(metrics: Sequence[Metric]) -> dict[str, str]:
    """Headings of a page's columns, by measure: name and unit, with a comma between."""
    return {**{one.name: one.heading for one in metrics}, **VIEWS}


def steering(name: str) -> str:
    """The kind of a fixed edit in words, from the name of an arm."""
    kind = name.partition(":")[0]
    return "ITI" if kind == "iti" else visible(kind, 24)


def steered(name: str, setting: str, place: str = "") -> str:
    """A fixed edit in words: kind, place and strength."""
    where = place or visible(name.partition(":")[2], 40)
    return ", ".join(part for part in (f"{steering(name)} at {where}", setting) if part)


def by_steering(entries: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Fixed edits by their kind in words, in order."""
    found: dict[str, list[dict[str, Any]]] = {}
    for entry in entries:
        found.setdefault(steering(entry["name"]), []).append(entry)
    return found


def counted(number: int, what: str) -> str:
    """How many there are of something: "1 head", "4 heads"."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def places(found: dict[str, Any]) -> int:
    """How many random Locations there are of the first claim in its first read mode."""
    first = found["claims"][0]
    return sum((one["claim"], one["read"]) == (first["name"], first["read"]) for one in found["random"])


def limits(plan: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """What this very run cannot say: one sentence a limit, each from a number of the run."""
    said = []
    if found["unfinished"]:
        said.append(f"{found['unfinished']} of {len(plan['trials'])} trials are not finished; what is shown may change.")
    n = found["n"]
    said.append(
        f"{n['test']} test questions and {n['train']} training questions: differences within the intervals are not found."
    )
    for blind in found["baseline"]["blind"]:
        if blind["mc1_interval"][0] > blind["mc1_chance"]:
            said.append(
                f"A rule that never reads the question ({blind['name']}) reaches {amount(blind['mc1'], 'mc1')} MC1 where chance "
                f"is {amount(blind['mc1_chance'], 'mc1')}: part of every edit's effect may be the wording of the answers."
            )
    unsettled = {kind: sum(False in entry["converged"] for entry in found[kind]) for kind in (*UNSETTLED, "random")}
    if where := [what for kind, what in UNSETTLED.items() if unsettled[kind]]:
        said.append(f"Training had not settled at {', '.join(where)}: edits may be better there than shown.")
    if unsettled["random"]:
        where_of = f"{unsettled['random']} of {len(found['random'])} random Locations"
        said.append(f"Training had not settled at {where_of}: the claim may look better against them than it is.")
    for read in dict.fromkeys(claim["read"] for claim in found["claims"]):
        said.append(f"Read mode “{visible(read, 20)}”: {READS.get(read, 'unknown')}. The verdict holds for this mode.")
    if plan["model"].get("quantised"):
        said.append("The weights come from a quantised file: the model is close to the published one, and not the same.")
    if (plan["config"].get("seeds") or 1) == 1:
        said.append("One training seed a place: spread between seeds is not measured.")
    if len(found["claims"]) > 1:
        said.append(f"{len(found['claims'])} claims or read modes: claims share the level (Holm), read modes do not.")
    drawn = found.get("drawn") or {}
    if drawn.get("stopped_early") and drawn["random"] < places(found) == drawn["planned"]:
        said.append(
            f"The verdict stood after {drawn['random']} of {drawn['planned']} random Locations and is of these; all are shown."
        )
    elif drawn.get("stopped_early") and drawn["random"] < drawn["planned"]:
        said.append(
            f"{drawn['random']} of {drawn['planned']} random Locations were drawn: more could not change the verdict, "
            "but their distribution is less well known."
        )
    said += _judge_limits(found)
    if not found.get("judge"):
        said.append("Multiple choice and margins are probabilities of given answers, and not what the model says when it speaks.")
    return said


def _judge_limits(found: dict[str, Any]) -> list[str]:
    """What the judge of generated answers cannot say; nothing where nobody judged."""
    judge = found.get("judge")
    if not judge:
        return []
    said = [f"Answers were judged by “{visible(judge['name'], 80)}”, and a judge errs."]
    if not judge.get("confusion"):
        said.append("This judge's errors were never measured, so nothing is corrected for them.")
    for target, one in (judge.get("confusion") or {}).items():
        parts = [
            f"of answers that {are} it {does} {amount(one[share], 'truth')} (n ≈ {one[count]:.0f})"
            for share, count, are, does in (
                ("sensitivity", "positives", "are", "finds"),
                ("specificity", "negatives", "are not", "rejects"),
            )
            if one.get(share) is not None
        ]
        if parts:
            named = TARGETS.get(target, visible(target, 20))
            said.append(f"Its errors as to “{named}”, on labelled answers it never saw: {', '.join(parts)}.")
    if missing := found.get("unscored"):
        why = visible(missing["commonest"], 600)
        said.append(f"{missing['unscored']} of {missing['answers']} answers are unscored and left out: {why}.")
    if judge.get("seen"):
        said.append(f"It learned from {judge['seen']} of the {found['n']['test']} test questions.")
    return said
