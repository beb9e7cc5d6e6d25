"""What stands beside a verdict and decides nothing: shorter searches, ranks, other formats and behaviours, departures, labels."""

from locus.records.base import Interval, Long, Many, Number, Part, Short
from locus.records.findings import Finding, Findings
from locus.records.place import Measured


class CurveClaim(Part):
    """What would follow for a claim, if every search were so short, or edits were scored elsewhere, or of a higher rank."""

    name: Long
    """What tables call the claim."""
    read: Short
    """What the edits read."""
    works: Finding
    """Would the claim's edit be as good as the edit everywhere?"""
    special: Finding
    """Would it be better than the edits at random Locations?"""


class CurvePoint(Part):
    """A verdict of shorter searches, or of the whole ones, and how near to the optimum they are."""

    rounds: int
    """Of every search."""
    share: dict[Short, Number | None]
    """Of each role (claim, random, ceiling ...): the mean share of the loss that the whole search took away that this one did."""
    claims: Many[CurveClaim]
    """What would follow."""


class Transfer(Part):
    """The same edits, untrained, on the same test questions in another prompt format."""

    prompt: Short
    """Its name."""
    metric: Short
    """By which it is measured: the main one, or the preference margin where that needs a judge."""
    gain: dict[Short, Number | None]
    """Of claim, ceiling and random: what these edits gain over no edit in that format; of several places the mean."""
    kept: dict[Short, Number | None]
    """The same as a share of what they gain in the format in which they were trained; null where that is not above 0."""
    claims: Many[CurveClaim]
    """What would follow in that format."""


class Nested(Part):
    """Whether no place ends above one inside it in training loss."""

    compared: int
    """Pairs of a place and one inside it, with the same target and the same read mode."""
    violated: int
    """Places that one inside them beats, beyond noise."""
    most: Number
    """The most by which one is beaten, as a share of the loss at the start."""
    beaten: dict[Short, Long]
    """Place -> a place inside it that beats it."""


class Ranked(Part):
    """The same searches by edits of a higher rank: of so many pairs of reading and writing in a layer."""

    rank: int
    """Of the edits."""
    gain: dict[Short, Number | None]
    """Of claim, ceiling and random: what these edits gain over no edit in the main metric; of several places the mean."""
    share: dict[Short, Number | None]
    """Of claim, random, ceiling and complement: the mean share of all that could be gained in training loss that they gained."""
    nested: Nested
    """Whether no place ends above one inside it, nor above itself by edits of a lower rank."""
    claims: Many[CurveClaim]
    """What would follow by edits of that rank."""


class MovedClaim(Part):
    """What a claim's edit does to another behaviour, beside the edits at random Locations."""

    name: Long
    """What tables call the claim."""
    read: Short
    """What the edits read."""
    gain: Measured
    """By how much the claim's edit raises the wanted side over no edit."""
    random: Measured
    """The same of the edits at its random Locations: the mean of their means, with the least and the most of them, and how many
    there are."""
    lead: Measured
    """The claim's gain less the mean of theirs, question by question."""
    rank: int | None
    """The claim's place among itself and its random Locations, from the highest gain: 1 raises the wanted side most."""


class Moved(Part):
    """What edits that were trained on the audited behaviour do to another one. It describes, and decides nothing."""

    behaviour: Long
    """What it is called."""
    metric: Short
    """By which it is measured: the main one, or the preference margin where that needs a judge."""
    questions: int
    """Of its questions, how many were asked."""
    base: Measured
    """Without an edit."""
    gain: dict[Long, Measured]
    """What the ceiling, and each edit that is not trained at a claim, adds to that."""
    claims: Many[MovedClaim]
    """What the claims' edits add."""


class Departure(Part):
    """How far a claim's edit takes activations from where the unedited model's lie, beside the ceiling's."""

    name: Long
    """What tables call the claim."""
    read: Short
    """What the edits read."""
    claim: Number
    """Share of answer tokens that are predicted from further out than 99 % of the unedited model's activations, a mean over
    questions."""
    ceiling: Number
    """The same under the ceiling's edit."""
    more: Number
    """The mean difference, claim less ceiling."""
    interval: Interval
    """Its 95 % interval over groups of questions."""


class LabelledClaim(Part):
    """What people's labels change for a claim."""

    name: Long
    """What tables call the claim."""
    read: Short
    """What the edits read."""
    other: Findings
    """By the judge alone, where the verdict is with labels; with labels, where the verdict is by the judge alone. It decides
    nothing."""
    widths: dict[Short, dict[Short, Number | None]]
    """Question -> width of its interval with both, by the labels alone (labels), and by the judge alone (judge)."""


class Labelled(Part):
    """What people say of some of the run's answers."""

    planned: int
    """Answers that the plan asked people to read; 0 where labels came later, and decide nothing."""
    asked: int
    """Answers that were to be read."""
    questions: int
    """Test questions to which they were drawn."""
    answers: int
    """Different ones among them; what several edits say is read once, and silence not at all."""
    read: int
    """That were read in both passes."""
    reader: Short
    """Who read them."""
    kappa: dict[Short, Number | None]
    """Cohen's kappa of the two passes, by target."""
    sentence: Long
    """What that means for the verdict."""
    claims: Many[LabelledClaim] = ()
    """What the labels change, once all are there."""
