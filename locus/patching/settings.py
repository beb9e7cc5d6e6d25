"""What `locus patch` is told: one frozen model from flags and a TOML file; everything that decides a number is in it."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PositiveInt

from locus.boundary import settings
from locus.errors import UserError
from locus.models.locate import DEFAULT_MODEL
from locus.patching.component import Kind
from locus.patching.corruptions import Ablation, Corruption, Noise, Replacement
from locus.patching.detect import Control
from locus.patching.metrics import Direction, Normalise

CorruptionName = Literal["replacement", "noise", "zero", "mean", "resample"]
# Settings that the first edition did not have, each with the value that says what it did; its folders lack them.
SINCE_FIRST: dict[str, object] = {"adapter": None}
MetricName = Literal["logit-difference", "kl", "probability"]


class PatchConfig(settings.Settings):
    """Everything that decides a map."""

    # what is patched
    model: str = DEFAULT_MODEL
    revision: str | None = None
    trust_remote_code: bool = False
    adapter: str | None = Field(None, description="none, merged, or an adapter's folder, as for an audit")
    device: str = "auto"
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    task: str = Field("ioi", description="a task by name, or FILE.jsonl with your own pairs")
    facts: str = Field("", description="JSONL of facts for the task factual; those of the package by default")
    pairs: int = Field(64, ge=2, description="examples")
    keep: Literal["all", "right"] = Field("all", description="keep all examples, or only those the model gets right")
    least_right: float = Field(0.6, ge=0, le=1, description="share of clean prompts the model must get right")
    seed: int = Field(0, ge=0)
    # how: every combination of these is a map of its own, and the first is the one that makes the claim
    tokens: tuple[str, ...] = Field((), description="which tokens are corrupted, for ioi: S2, S1+IO, ABC")
    corruptions: tuple[CorruptionName, ...] = ("replacement",)
    metrics: tuple[MetricName, ...] = ("logit-difference",)
    sites: tuple[Kind, ...] = ("head",)
    windows: tuple[PositiveInt, ...] = Field((), description="widths, in layers, of windows of MLP outputs")
    positions: tuple[str, ...] = Field(
        (), description="spans such as S2 or end, patched one by one; all positions together by default"
    )
    direction: Direction = "denoise"
    nu: float = Field(3.0, gt=0, description="noise, in standard deviations of the embeddings")
    draws: int = Field(10, ge=1, description="of noise, averaged")
    normalise: Normalise = "mean"
    screen: int = Field(0, ge=0, description="patch only so many exactly, those attribution ranks first; 0 patches all")
    sample: int = Field(30, ge=0, description="others patched exactly, to bound what the screen missed")
    steps: int = Field(0, ge=0, description="of integrated gradients in the screen")
    # what counts as found
    alpha: float = Field(0.05, gt=0, lt=1)
    control: Control = "max-statistic"
    least: float = Field(0.02, ge=0, description="size of effect that counts as none, in units of the effects")
    flips: int = Field(10_000, ge=100, description="sign flips of the null")
    claim_size: int = Field(16, ge=1, description="heads in the claim at most, the largest effects first")
    controls: int = Field(19, ge=0, description="random sets of as many heads as the claim's, patched together beside them")
    # batches
    rows: int = Field(16, ge=1)
    budget: int = Field(4096, ge=32, description="tokens in one forward")

    def corruption(self, name: CorruptionName) -> Corruption:
        """A corruption by its name."""
        if name == "replacement":
            return Replacement()
        return Noise(nu=self.nu, draws=self.draws, seed=self.seed) if name == "noise" else Ablation(name, self.seed)


# The paper's experiment: what would other choices have found?
COMPARE: dict[str, object] = {
    "corruptions": ("replacement", "noise"),
    "metrics": ("logit-difference", "kl", "probability"),
    "sites": ("head", "mlp"),
    "windows": (3, 5),
    "draws": 3,
    "flips": 2_000,
}


def resolve(file: Path | None = None, /, compare: bool = False, **flags: Any) -> PatchConfig:
    """The configuration from a TOML file, overridden by flags that are not None.

    Args:
        file: a TOML file with any of the settings.
        compare: begin with every metric, both corruptions, windows, and all choices of tokens that the task knows.
        flags: settings by name.

    Raises:
        UserError: naming every unknown or wrong setting.
    """
    values: dict[str, object] = dict(COMPARE) if compare else {}
    if file is not None:
        values |= settings.from_file(file, "a TOML file with settings")
    values |= {name: value for name, value in flags.items() if value is not None}
    if not values.get("tokens") and values.get("task", "ioi") == "ioi":
        values["tokens"] = ("S2", "S1+IO", "ABC") if compare else ("S2",)
    config = settings.build(PatchConfig, values, "valid settings for patching", "See `locus patch --help`.")
    if any(name in ("zero", "mean", "resample") for name in config.corruptions) and config.direction == "denoise":
        raise UserError(
            "direction noise, for ablations", "denoise", "Add --direction noise, or use the corruptions replacement or noise."
        )
    for name in ("corruptions", "metrics", "sites"):
        if not getattr(config, name) or len(set(getattr(config, name))) < len(getattr(config, name)):
            raise UserError(f"one or more different {name}", str(list(getattr(config, name))), "Name each once.")
    return config
