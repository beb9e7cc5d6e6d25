"""Prose from numbers and rules."""

from collections.abc import Sequence
from typing import TypeVar

from locus.metrics.base import Metric
from locus.models.shortcuts import told
from locus.records.findings import ClaimVerdict
from locus.records.judge import JudgeRecord
from locus.records.place import PlaceResult
from locus.records.plan import PlanRecord
from locus.records.verdict import Verdict
from locus.report.places import Place
from locus.shown import visible
from locus.sites.kind import SiteKind, default, kind_of
from locus.stats.proportions import exact_interval
from locus.units import amount, share

Placed = TypeVar("Placed", PlaceResult, Place)
# The other forms of True*Info, shares on either side, and shares with the judge's errors taken out: views, and no metrics.
VIEWS = {
    "product": "Product, % of means",
    "both": "Both, %",
    "corrected_both": "Both, % corrected",
    "corrected_truth": "True, % corrected",
    "corrected_info": "Info, % corrected",
    "share_wanted": "Wanted, % of answers",
    "share_unwanted": "Unwanted, % of answers",
    "corrected_wanted": "Wanted, % corrected",
    "corrected_unwanted": "Unwanted, % corrected",
}
READS = {
    "layer": "the edit writes at the named {nouns} but reads the whole layer",
    "heads": "the edit reads and writes at the named {nouns} only",
    "constant": "the edit reads nothing and adds a constant at the named {nouns}",
}


UNSETTLED = {"claimed": "the claim", "ceiling": "the ceiling", "complement": "the complement"}
TARGETS = {
    **{"truth": "true", "info": "informative", "both": "true and informative"},
    **{"wanted": "on the wanted side", "unwanted": "on the unwanted side"},
}


def headings(metrics: Sequence[Metric]) -> dict[str, str]:
    """Headings of a page's columns, by measure: name and unit, with a comma between."""
    return {**{one.name: one.heading for one in metrics}, **VIEWS}


def steering(name: str) -> str:
    """The kind of a fixed edit in words, from the name of an arm."""
    kind = name.partition(":")[0]
    return "ITI" if kind == "iti" else visible(kind, 24)


def steered(name: str, setting: str, place: str = "", everywhere: bool = False) -> str:
    """A fixed edit in words: kind, place (by default the one its name says) and strength."""
    where = "everywhere" if everywhere else f"at {place or visible(name.partition(':')[2], 40)}"
    return ", ".join(part for part in (f"{steering(name)} {where}", setting) if part)


def by_steering(places: Sequence[Placed]) -> dict[str, list[Placed]]:
    """Fixed edits by their kind in words, in order."""
    by_kind: dict[str, list[Placed]] = {}
    for place in places:
        by_kind.setdefault(steering(place.name), []).append(place)
    return by_kind


def kind_claimed(claim: ClaimVerdict) -> SiteKind:
    """The kind of a claim's sites."""
    return kind_of(claim.kind) if claim.kind else default()


def counted(number: int, what: str) -> str:
    """How many there are of something: "1 run", "4 runs"."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def random_places(verdict: Verdict, random: Sequence[Place]) -> int:
    """How many random Locations there are of the first claim in its first read mode.

    Args:
        verdict: the verdict.
        random: its random Locations, as a report sees them.
    """
    first = verdict.claims[0]
    return sum((place.claim, place.read) == (first.name, first.read) for place in random)


def searched(verdict: Verdict) -> list[str]:
    """How near to their optima the searches ended, and whether places inside one another agree; nothing of epochs."""
    places = [place for kind in (*UNSETTLED, "random") for place in verdict.places(kind) if place.share is not None]
    left = [place.share for place in places if place.share is not None and not place.settled]
    sentences = []
    if places:
        least = f"; the others have at least {share(min(left))} of all that could be gained in training loss" if left else ""
        sentences.append(f"Searches for the optimum: {len(places) - len(left)} of {len(places)} settled{least}.")
    if (second := verdict.second) is not None:
        where = max(second.gained, key=lambda name: float(second.gained[name]))
        sentences.append(
            f"A second search from the ends of {len(second.gained)} of them, of up to {second.rounds} rounds, lowered the loss "
            f"by at most {share(float(second.most))} of the loss at the start ({visible(where, 60)}); its edits are not used."
        )
    if (nested := verdict.nested) is not None:
        pairs = f"{counted(nested.compared, 'pair')} of a place and one inside it, {nested.violated} with the inner one ahead"
        sentences.append(
            f"Nestedness of training losses: {pairs} (at most by {share(float(nested.most))} of the loss at the start)."
        )
    return sentences


def limits(plan: PlanRecord, verdict: Verdict, n_places: int, kind: SiteKind) -> list[str]:
    """What this very run cannot say: one sentence a limit, each from a number of the run.

    Args:
        plan: the run's plan.
        verdict: its verdict.
        n_places: random Locations of the first claim.
        kind: of the claimed sites.
    """
    sentences = []
    if verdict.unfinished:
        sentences.append(f"{verdict.unfinished} of {len(plan.trials)} trials are not finished; what is shown may change.")
    n = verdict.n
    sentences.append(f"{n.test} test questions and {n.train} training questions: differences within the intervals are not found.")
    for blind in verdict.baseline.blind:
        low = blind.mc1_interval[0]
        if low is not None and low > blind.mc1_chance:
            means = (
                "the wanted side is a form, which shows in the answers alone"
                if verdict.dataset.form
                else "part of every edit's effect may be the wording of the answers"
            )
            sentences.append(
                f"A rule that never reads the question ({blind.name}) reaches {amount(blind.mc1, 'mc1')} MC1 where chance "
                f"is {amount(blind.mc1_chance, 'mc1')}: {means}."
            )
    sentences += searched(verdict)
    unsettled = {kind: sum(not place.near for place in verdict.places(kind)) for kind in (*UNSETTLED, "random")}
    if where := [what for kind, what in UNSETTLED.items() if unsettled[kind]]:
        sentences.append(f"Training had not settled at {', '.join(where)}: edits may be better there than shown.")
    if unsettled["random"]:
        where_of = f"{unsettled['random']} of {len(verdict.random)} random Locations"
        sentences.append(f"Training had not settled at {where_of}: the claim may look better against them than it is.")
    for read in dict.fromkeys(claim.read for claim in verdict.claims):
        how = READS.get(read, "unknown").format(nouns=kind.nouns)
        sentences.append(f"Read mode “{visible(read, 20)}”: {how}. The verdict holds for this mode.")
    if plan.model.quantised:
        sentences.append("The weights come from a quantised file: the model is close to the published one, and not the same.")
    if plan.model.without:
        done = "; ".join(visible(one, 300) for one in told(plan.model.without))
        sentences.append(f"This model does not allow every shortcut. It was run without, to the same results: {done}.")
    if (plan.config.get("seeds") or 1) == 1:
        sentences.append("One training seed a place: spread between seeds is not measured.")
    if len(verdict.claims) > 1:
        shared = "claims share the level (Holm), read modes do not"
        alone = "each is answered as if it were the only one, so that some are special by chance"
        told_of = shared if plan.config.get("share_level", True) else alone
        sentences.append(f"{len(verdict.claims)} claims or read modes: {told_of}.")
    looked = verdict.drawn
    if looked.stopped_early and looked.random is not None and looked.random < looked.planned:
        if n_places == looked.planned:
            sentences.append(
                f"The verdict stood after {looked.random} of {looked.planned} random Locations and is of these; all are shown."
            )
        else:
            sentences.append(
                f"{looked.random} of {looked.planned} random Locations were drawn: more could not change the verdict, "
                "but their distribution is less well known."
            )
    sentences += _judge_limits(verdict)
    if verdict.judge is None:
        sentences.append(
            "Multiple choice and margins are probabilities of given answers, and not what the model says when it speaks."
        )
    return sentences


def judge_errors(judge: JudgeRecord) -> list[str]:
    """What is known of a judge's errors, a sentence a target, with exact intervals; or that they were never measured."""
    sentences = []
    for target, one in judge.confusion.items():
        parts = [
            f"of answers that {are} it {does} {spans[0]}, 95 % interval {spans[1]} to {spans[2]} (n ≈ {count:.0f})"
            for value, count, are, does in (
                (one.sensitivity, one.positives, "are", "finds"),
                (one.specificity, one.negatives, "are not", "rejects"),
            )
            if value is not None and count > 0
            for spans in [[amount(one, "truth") for one in (value, *exact_interval(value, count))]]
        ]
        if parts:
            named = TARGETS.get(target, visible(target, 20))
            sentences.append(f"Its errors as to “{named}”, on labelled answers it never saw: {', '.join(parts)}.")
    return sentences or ["This judge's errors were never measured, so nothing is corrected for them."]


def _judge_limits(verdict: Verdict) -> list[str]:
    """What the judge of generated answers cannot say; nothing where nobody judged."""
    judge = verdict.judge
    if judge is None:
        return []
    sentences = [f"Answers were judged by “{visible(judge.name, 80)}”, and a judge errs."]
    sentences += judge_errors(judge)
    if missing := verdict.unscored:
        why = visible(missing.commonest, 600)
        sentences.append(f"{missing.unscored} of {missing.answers} answers are unscored and left out: {why}.")
    if judge.seen:
        sentences.append(f"It learned from {judge.seen} of the {verdict.n.test} test questions.")
    return sentences + labelled(verdict)


def labelled(verdict: Verdict) -> list[str]:
    """What people's labels mean for a verdict, and what would be concluded the other way."""
    told = verdict.labelled
    if told is None:
        return []
    sentences = [visible(told.sentence, 1000)]
    for claim in told.claims:
        answers = ", ".join(f"{question} {one.standing}" for question, one in claim.other.by_question.items())
        by = "By the judge alone" if told.planned else "With the labels"
        sentences.append(f"{by}, “{visible(claim.name, 60)}” (reads {visible(claim.read, 20)}) would be: {answers}.")
    return sentences
