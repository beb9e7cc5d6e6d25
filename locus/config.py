"""What an audit is told: one frozen model, from a preset, a TOML file and flags, in that order.

The resolved configuration is written into the plan and the receipt; nothing else decides what is run.
"""

import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from locus.errors import UserError
from locus.model import DEFAULT_MODEL

Read = Literal["layer", "heads", "constant"]
JUDGED = ("truth", "info", "true_info")  # metrics that need a judge


class AuditConfig(BaseModel):
    """Everything that decides an audit's numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    preset: str = "quick"
    # what is audited
    model: str = DEFAULT_MODEL
    revision: str | None = None
    trust_remote_code: bool = False
    device: str = "auto"
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    data: str = "misconceptions"
    prompt: Literal["auto", "chat", "qa", "primer", "bare"] = "auto"
    claims: tuple[str, ...] = Field(("probe",), description="probe, a list of heads such as 12.3,14.0, or a file of heads")
    claim_size: int = Field(4, ge=1, description="heads a heuristic claim names")
    features: Literal["answer", "next_question", "two_banks"] = Field(
        "next_question", description="text whose last token is probed: answer; answer + another question (WV); ITI's two banks"
    )
    # questions
    train: int | None = Field(None, ge=4, description="training questions used; all by default")
    validation: int | None = Field(None, ge=2)
    test: int | None = Field(None, ge=4)
    # what it is compared with
    random: int = Field(19, ge=0, description="random Locations of the claim's size")
    null: Literal["uniform", "layer"] = "uniform"
    singles: int = Field(0, ge=0, description="random single heads")
    reads: tuple[Read, ...] = ("layer",)
    full_forms: tuple[Literal["heads", "free"], ...] = ("heads",)
    alphas: tuple[float, ...] = (5.0, 15.0)
    shift_random: int = Field(3, ge=0, description="random Locations that are also steered with ITI")
    # how edits are trained
    objective: Literal["ipo", "dpo", "logit"] = "ipo"
    reduce: Literal["sum", "mean"] = "sum"
    taus: tuple[float, ...] = (0.1,)
    lr_scales: tuple[float, ...] = (1.0,)
    epochs: int = Field(2, ge=1)
    batch: int = Field(4, ge=1)
    batching: Literal["questions", "pairs"] = "questions"
    seeds: int = Field(1, ge=1, description="training seeds per Location")
    # what is measured
    metric: Literal["mc1", "mc2", "mc3", "margin", "truth", "info", "true_info"] = Field(
        "mc2", description="the main metric of the verdict; true_info where a judge is on, unless told otherwise"
    )
    text: str = "pydoc"
    text_passages: int = Field(4, ge=0, description="passages for KL and cross-entropy; 0 switches them off")
    text_tokens: int = Field(96, ge=8)
    # what the edited models say, and who judges it
    judge: str = Field("none", description="none, local, local:WEIGHTS, blind, lm:MODEL, or api:MODEL")
    judge_url: str | None = Field(None, description="base URL of an OpenAI-compatible endpoint, for api:MODEL")
    judge_cap: float | None = Field(None, ge=0, description="the most that api:MODEL may cost, in the unit of judge_prices")
    judge_prices: tuple[float, float] = Field((0.0, 0.0), description="price of a million tokens read, and of a million written")
    judge_figures: str | None = Field(None, description="JSON of `locus judge eval` on unseen answers, for the corrected rates")
    judge_validation: bool = Field(False, description="also judge validation answers, and choose settings by them")
    max_new_tokens: int = Field(50, ge=1, description="the longest answer that is generated")
    sample: bool = Field(False, description="draw tokens instead of taking the likeliest")
    temperature: float = Field(1.0, gt=0)
    top_p: float = Field(1.0, gt=0, le=1)
    # how the verdict is drawn
    alpha: float = Field(0.05, gt=0, lt=0.5, description="level of the tests; their intervals have level 1 - 2 alpha")
    margin: float = Field(0.25, gt=0, lt=1, description="non-inferiority margin, as a fraction of the ceiling's effect")
    sequential: bool = Field(True, description="draw random Locations only until the verdict can no longer change")
    seed: int = Field(0, ge=0, description="of splits, random Locations, starts and resampling")
    bank: int | None = Field(None, ge=1, description="edits trained in one forward; by default what memory allows")
    tokens: int = Field(512, ge=32, description="token budget of a row")

    @property
    def looks(self) -> tuple[int, ...]:
        """After how many random Locations the verdict is looked at: about four times if it may stop early, else once."""
        if not self.sequential or self.random < 8:
            return (self.random,)
        step = -(-self.random // 4)
        return (*range(step, self.random, step), self.random)


PRESETS: dict[str, dict[str, Any]] = {
    "quick": {
        "train": 40,
        "validation": 16,
        "test": 50,
        "features": "answer",
        "lr_scales": (10.0,),
        "epochs": 1,
        "batch": 2,
        "shift_random": 2,
        "text_passages": 2,
        "text_tokens": 64,
    },
    "standard": {
        "judge": "local",
        "claim_size": 8,
        "train": 160,
        "validation": 60,
        "test": 160,
        "random": 39,
        "singles": 12,
        "alphas": (2.0, 5.0, 10.0, 15.0, 20.0),
        "shift_random": 19,
        "lr_scales": (5.0, 15.0),
        "text_passages": 16,
        "text_tokens": 128,
    },
    "paper": {
        "judge": "local",
        "claim_size": 16,
        "random": 16,
        "singles": 24,
        "alphas": (1.0, 2.0, 5.0, 10.0, 15.0, 20.0),
        "shift_random": 16,
        "taus": (0.1, 0.2, 0.3, 0.4, 0.5),
        "batching": "pairs",
        "text_passages": 100,
        "text_tokens": 128,
        # 16 random sets cannot reach a rank p below 1/17; the paper's size is run as it was, at the level it can reach.
        "alpha": 0.06,
        "sequential": False,
    },
}


# A planted model brings its own questions of one word; it is tiny, and wants more steps and no text.
PLANTED: dict[str, Any] = {
    "prompt": "bare",
    "judge": "none",
    "claim_size": 1,
    "features": "answer",
    "lr_scales": (10.0,),
    "epochs": 15,
    "batch": 4,
    "train": None,
    "validation": None,
    "test": None,
    "text_passages": 0,
    "bank": 11,
}


def resolve(preset: str = "quick", file: Path | None = None, **flags: Any) -> AuditConfig:
    """The configuration from a preset, overridden by a TOML file, overridden by flags that are not None.

    Raises:
        UserError: naming every unknown or wrong setting.
    """
    told: dict[str, Any] = {}
    if file is not None:
        try:
            told = tomllib.loads(file.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise UserError(
                "a TOML file with audit settings", f"{str(file)!r} ({error})", "Check the path and syntax."
            ) from error
    told |= {name: value for name, value in flags.items() if value is not None}
    preset = str(told.pop("preset", preset))
    if preset not in PRESETS:
        raise UserError("a preset: " + ", ".join(PRESETS), repr(preset), "Choose one of them.")
    if str(told.get("model", "")).startswith("planted:"):
        if str(told["model"]).count(":") == 1:
            told["model"] = f"{told['model']}:{told.get('seed', 0)}"
        told = {"data": told["model"], **PLANTED, **told}
    if str(told.get("data", "")).startswith("task:"):
        told = {"prompt": "bare", **told}  # a task's prompt is a text that goes on with its answer
    told = {**PRESETS[preset], "preset": preset, **told}
    # What a model says is the better evidence, so it is what the verdict is drawn from wherever somebody judges it.
    told.setdefault("metric", "mc2" if told.get("judge", "none") == "none" else "true_info")
    try:
        return AuditConfig(**told)
    except ValidationError as error:
        found = "; ".join(f"{'.'.join(map(str, part['loc']))}: {part['msg']} ({part['input']!r})" for part in error.errors())
        raise UserError("valid audit settings", found, "See `locus audit --help` and docs/configuration.md.") from error


def learning_rate(n_heads: int, scale: float = 1.0) -> float:
    """Peak learning rate for an edit of n heads, times a scale from the grid.

    A scale of 1 is the paper's rate, for its 3,280 steps; a few dozen steps want about ten times as much. The paper's three
    points, 2e-3 for 1 head, 5e-4 for 16 and 1e-4 for all 1,024 of its model, are joined by straight lines in log-log
    coordinates and continued beyond.

    Source: Wang & Veitch 2025, appendix A.
    """
    power = -0.5 if n_heads <= 16 else -0.387
    anchor = (1, 2e-3) if n_heads <= 16 else (16, 5e-4)
    return scale * float(anchor[1] * (n_heads / anchor[0]) ** power)
