"""What follows for a claim: four questions, each answered by one finding."""

from typing import Literal, cast

from pydantic import Field

from locus.records.base import Interval, Long, Many, Part, Short

QUESTIONS = ("works", "special", "unique", "necessary")
Standing = Literal["supported", "refuted", "undecided", "invalid", "withheld"]


class Finding(Part):
    """How one question about one claim is answered, and by which numbers."""

    standing: Standing
    """supported, refuted, undecided (too little data), invalid (the question could not be put), or withheld (nobody has measured
    how often such claims are answered wrongly: the numbers stand, and no answer)."""
    estimate: float | None = None
    """What was measured: a difference in the metric's units, or of `unique` a share of Locations."""
    interval: Interval = (None, None)
    """Its interval."""
    level: float | None = None
    """Of the interval: 1 - 2 alpha."""
    n: int | None = None
    """Groups of questions (of `unique`: random Locations) that were used."""
    p: float | None = None
    """Of the test that would support it, adjusted for the claims that share the level."""
    p_refuted: float | None = None
    """Of the test that would refute it, adjusted for claims and looks."""
    margin: float | None = None
    """In the metric's units: a share of the ceiling's gain."""
    n_random: int | None = None
    """Random Locations that were used; 0 where the question needs none."""
    sentence: Long
    """The answer in words."""
    to_decide: Long = ""
    """What would settle it, if it is undecided."""
    p_permutation: float | None = None
    """Of `works`: a paired permutation test of claim against ceiling, for comparison."""
    rank_p: float | None = None
    """Of `special`: the Monte-Carlo rank p before it is adjusted."""
    reached: float | None = None
    """Of `special`: random Locations that do at least as well as the claim."""
    p_parametric_for_comparison_only: float | None = None
    """Of `special`: what a normal distribution of random Locations would give."""
    as_good: float | None = None
    """Of `unique`: random Locations that are not inferior to the claim."""
    worse: float | None = None
    """Of `unique`: random Locations that are shown to be inferior."""

    @property
    def deciding(self) -> tuple[float | None, ...]:
        """The p by which it is supported or refuted; where it is open, both that could have decided, the supporting one first."""
        known = {"supported": (self.p,), "refuted": (self.p_refuted,), "undecided": (self.p, self.p_refuted)}
        return known.get(self.standing, ())


class _FourAnswers:
    """Whatever answers the four questions."""

    def finding(self, question: str) -> Finding:
        """The answer to a question by its name.

        Raises:
            KeyError: if it is none of the four.
        """
        if question not in QUESTIONS:
            raise KeyError(f"{question!r} is none of {', '.join(QUESTIONS)}")
        return cast(Finding, getattr(self, question))

    @property
    def by_question(self) -> dict[str, Finding]:
        """Question -> its answer."""
        return {question: self.finding(question) for question in QUESTIONS}


class Findings(Part, _FourAnswers):
    """The answers to the four questions about one claim."""

    works: Finding
    """Is the optimal edit at the claim as good as the optimal edit everywhere?"""
    special: Finding
    """Is it better than the optimal edits at random Locations of the same size?"""
    unique: Finding
    """Do only few random Locations do as well?"""
    necessary: Finding
    """Does the optimal edit everywhere but there fall short?"""


class Variance(Part):
    """Where the variance of the main metric at a claim's random Locations comes from, in squared units of the metric."""

    location: float | None
    """Between Locations."""
    seed: float | None
    """Between training seeds of one Location."""
    question: float | None
    """Between questions, shared by all Locations."""
    location_question: float | None
    """Questions that answer differently to different Locations."""
    residual: float | None
    """The rest."""
    n_locations: int
    """Locations that were used."""
    n_seeds: int
    """Seeds a Location."""
    n_questions: int
    """Questions that are scored everywhere."""
    reasons: dict[Short, Short]
    """Component -> why it is null, or 0."""


class ClaimVerdict(Part, _FourAnswers):
    """What follows for one claim in one read mode, by the main metric."""

    name: Long
    """What tables call the claim."""
    origin: Short
    """probe, given, null, patch ..."""
    location: Many[Short]
    """The claimed sites, as their kind writes them."""
    kind: Short = ""
    """Of these; left out where they are heads."""
    n_sites: int
    """How many these are."""
    variance: Variance | None
    """Where the variance at its random Locations comes from; null with fewer than two."""
    read: Short
    """What the edits read: layer, heads or constant."""
    works: Finding
    """Is the optimal edit at the claim as good as the optimal edit everywhere?"""
    special: Finding
    """Is it better than the optimal edits at random Locations of the same size?"""
    unique: Finding
    """Do only few random Locations do as well?"""
    necessary: Finding
    """Does the optimal edit everywhere but there fall short?"""
    sentence: Long
    """The four answers in one sentence."""
    by_metric: dict[Short, Findings]
    """The answers by other metrics, which decide nothing."""
    special_in_layers: Finding | None = None
    """Is it better than the optimal edits at random Locations with as many heads in each layer as the claim? It decides nothing;
    null where these were not drawn."""
    special_by: dict[Short, Finding] = Field(default_factory=dict)
    """Of a direction: the same by random directions of the other ways of drawing them; left out elsewhere."""
