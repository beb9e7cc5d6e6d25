"""What activation patching measured, patch.json: every component's effect, which are found at a stated error rate, how steadily.

A later version may add to any part, and older readers let that be: heads are taken from here to an audit, which plans by itself.
"""

from typing import Annotated, Literal

from pydantic import Field

from locus.records.base import JsonObject, Long, Many, Number, OpenPart, Short

PATCH_SCHEMA: Literal["locus-patch/1"] = "locus-patch/1"
Ends = Annotated[
    tuple[Number | None, Number | None, Number | None], Field(strict=False)
]  # an effect and the ends of its interval


class MapSetting(OpenPart):
    """What a map is of: the choices that make it another map."""

    tokens: Long
    """Which tokens were corrupted; empty where the task has no choice of them."""
    site: Short
    """What was patched."""
    width: int
    """Layers patched together; 1 for single ones."""
    corruption: Short
    """How the corrupted prompts differ."""
    metric: Short
    """What was read of the answers."""

    @property
    def label(self) -> str:
        """The setting in a few words."""
        width = f", windows of {self.width}" if self.width > 1 else ""
        tokens = f"{self.tokens}, " if self.tokens else ""
        return f"{tokens}{self.corruption}, {self.metric}, {self.site}{width}"


class ComponentEffect(OpenPart):
    """What patching one component does; null where it is undefined."""

    name: Long
    """The component, or the components that are patched together."""
    layer: int
    """Of the first."""
    head: int | None
    """Of the first; null where it is no head."""
    position: int | Long | None
    """Span of tokens, or number of a token; null for all tokens together."""
    mean: Number | None
    """Its mean effect over examples."""
    low: Number | None
    """Lower end of the interval."""
    high: Number | None
    """Upper end of the interval."""
    p: Number | None
    """By sign flips over examples, for this component alone."""
    adjusted: Number | None
    """Adjusted for all components."""
    found: bool
    """Whether it counts as found."""
    two_deviations: bool
    """Whether the rule of two standard deviations would name it."""


class TwoDeviations(OpenPart):
    """What the usual rule, which controls no error rate, would name."""

    detected: Many[Long]
    """Components further than two standard deviations from the mean."""
    expected_false: Number
    """How many normal noise alone would give."""
    sentence: Long
    """Both in words."""


class Halves(OpenPart):
    """What one half of the examples finds, with effects from the other half: free of the winner's curse."""

    found: Many[Long]
    """Components that the first half finds."""
    held_out: dict[Long, Ends]
    """Component -> its effect in the other half, and the ends of its interval."""
    reason: Long
    """Why there is nothing; empty otherwise."""


class Stability(OpenPart):
    """How far the strongest components, as many as were found, are the same in other examples; null where undefined."""

    jaccard: Number | None
    """With resampled examples."""
    chance: Number | None
    """What chance would give."""
    split_jaccard: Number | None
    """Between two halves of the examples."""
    split_correlation: Number | None
    """Of the effects in two halves."""
    size: int
    """How many components were found."""


class MapRecord(MapSetting):
    """One map: the effect of every component under one setting."""

    n: int
    """Examples."""
    normalise: Short
    """The unit of the effects: of the metric (none), or the difference that the corruption makes."""
    clean: Number | None
    """Mean of the metric in clean runs."""
    corrupted: Number | None
    """Mean of the metric in corrupted runs."""
    warnings: Many[Long]
    """Why the map says less than it seems to."""
    components: Many[ComponentEffect]
    """Every component."""
    detected: Many[Long]
    """Components that are found."""
    two_deviations: TwoDeviations
    """What the usual rule would name."""
    halves: Halves
    """What one half of the examples finds."""
    stability: Stability
    """How steadily."""

    @property
    def strongest(self) -> list[ComponentEffect]:
        """Components that count as found, the largest effects first."""
        return sorted((one for one in self.components if one.found), key=lambda one: -abs(one.mean or 0.0))


class Agreement(OpenPart):
    """How far two maps of the same components find the same; null where undefined."""

    a: Long
    """Label of the one."""
    b: Long
    """Label of the other."""
    differ: Many[Short]
    """Choices in which they differ."""
    jaccard: Number | None
    """Of the sets that are found."""
    correlation: Number | None
    """Spearman's, of mean effects."""
    sign: Number | None
    """Share of components found in either whose effects have the same sign in both."""
    only_a: Many[Long]
    """Found in the one alone."""
    only_b: Many[Long]
    """Found in the other alone."""


class WindowEffect(OpenPart):
    """A window of layers: its effect, and the sum of the effects of its layers; null where undefined."""

    name: Long
    """The window."""
    joint: Number | None
    """Patched together."""
    summed: Number | None
    """Patched one by one, and added."""
    ratio: Number | None
    """Together over added."""
    reason: Long
    """Why there is no ratio; empty otherwise."""


class WindowMap(MapSetting):
    """A map of windows beside the map of the single layers."""

    windows: Many[WindowEffect]
    """Every window."""
    peak: Long
    """The window of largest joint effect."""
    ratio: Number | None
    """Its ratio."""
    interval: Annotated[tuple[Number, Number], Field(strict=False)] | None
    """95 % percentile interval of the ratio over examples; null where the sum may be zero."""


class Screen(MapSetting):
    """How far the screen of a map can be trusted."""

    sentence: Long
    """In words."""
    bound: Number
    """With 95 % confidence, at most so many of those left out have an effect."""
    correlation: Number | None
    """Of estimates and exact effects."""


class Controls(OpenPart):
    """The claim's heads together, beside random sets of as many and all others; only a sentence where there are no others."""

    joint: Ends | None = None
    """Effect of the claim's heads together, and the ends of its interval."""
    complement: Ends | None = None
    """The same of all other heads."""
    random: Many[Number] = ()
    """Mean effects of the random sets."""
    p: Number | None = None
    """Rank of the claim's absolute effect among those of the random sets."""
    match: Short = ""
    """What the random sets share with the claim's heads."""
    sentence: Long
    """In words."""


class ClaimSource(OpenPart):
    """What the claim follows from."""

    setting: MapSetting
    """Of the first map."""
    n: int
    """Its examples."""
    normalise: Short
    """Its unit."""
    found: int
    """Heads that were found."""
    kept: int
    """How many of them the claim names, the strongest first."""
    alpha: Number
    """The error rate."""
    control: Short
    """Of what error that is the rate."""
    least: Number
    """Size of effect that counts as none."""
    model_fingerprint: Short
    """Of the weights."""


class PatchClaim(OpenPart):
    """The heads that the first map finds, as an audit takes them up."""

    name: Long
    """What the claim is called."""
    origin: Short
    """Where it comes from."""
    heads: Many[Short]
    """The heads."""
    scores: dict[Short, Number]
    """Every head that was found -> its effect, the largest first."""
    about: ClaimSource
    """What it follows from."""


class PairsSummary(OpenPart):
    """The pairs of prompts that were patched."""

    n: int
    """How many."""
    sha256: Short
    """Of all of them."""
    first: Many[Many[Long]]
    """The first few: clean text, corrupted text."""


class PatchedLayout(OpenPart):
    """Its sizes, in the order of this file and under the first edition's names."""

    shape: Short
    """Where what is inside a layer's modules; the name of a family's arrangement."""
    n_layers: int
    """Layers."""
    n_heads: int
    """Query heads a layer."""
    n_kv_heads: int
    """Key-value heads a layer."""
    head_dim: int
    """Width of one head (d_head)."""
    width: int
    """Width of the residual stream (d_model)."""


class PatchedModel(OpenPart):
    """Which model."""

    name: Short
    """Hub id, folder, file, or planted:KIND:SEED."""
    fingerprint: Short
    """Of its weights."""
    anatomy: PatchedLayout
    """Its sizes."""


class PatchRecord(OpenPart):
    """A patch.json."""

    schema_: Literal["locus-patch/1"] = Field(alias="schema")
    """Its version."""
    config: JsonObject
    """The settings, as config.json has them."""
    model: PatchedModel
    """Which model."""
    version: Short
    """Of locus."""
    right: dict[Long, Number]
    """Choice of tokens -> share of clean prompts that the model gets right."""
    shortcut: bool
    """Whether patched runs may start at the first token that differs."""
    pairs: dict[Long, PairsSummary]
    """Choice of tokens -> the pairs."""
    maps: Many[MapRecord] = Field(min_length=1)
    """Every map; the first makes the claim."""
    agreement: Many[Agreement] = ()
    """Every two maps of the same components."""
    windows: Many[WindowMap] = ()
    """Maps of windows, beside those of single layers."""
    sentences: Many[Long] = ()
    """What other choices would have found, in words."""
    claim: PatchClaim | None
    """The heads that the first map finds; null where it is not of heads, or nothing is found."""
    screens: Many[Screen] = ()
    """How far each screen can be trusted; empty where everything was patched exactly."""
    controls: Controls | None = None
    """The claim's heads together; null without a claim."""
    seconds: Number
    """How long it took."""
    effects_sha256: Short
    """Of effects.parquet, which has every example."""
