"""What an audit is told: one frozen model, from a preset, a TOML file and flags, in that order.

The resolved configuration is written into the plan and the receipt; nothing else decides what is run.
"""

from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, cast

from pydantic import AfterValidator, BeforeValidator, Field, NonNegativeFloat, PositiveFloat, PositiveInt

from locus.behaviours.exchange import PREFIX as EXCHANGED
from locus.behaviours.items import Dataset
from locus.behaviours.template import DATE, Scalar
from locus.boundary import settings
from locus.errors import UserError
from locus.metrics.base import Metric, measured
from locus.models.devices import DeviceMap
from locus.models.locate import DEFAULT_MODEL
from locus.plan import judging, values
from locus.plan.presets import FIRST_PRESETS, PLANTED, PLANTED_SITED, PRESETS
from locus.records.base import JsonObject
from locus.sites.kind import default
from locus.sites.space import Match

Read = Literal["layer", "heads", "constant"]
# What the first edition called some settings; files and plans may still.
RENAMED = {"alphas": "iti_strengths", "lr_scales": "lr_multipliers", "margin": "tolerance"}
# Settings that the first edition did not have, each with the value that says what it did; its plans lack them.
SINCE_FIRST: dict[str, object] = {
    "adapter": None,
    "template_date": DATE.isoformat(),
    "template_variables": {},
    "metrics": [],
    "edit": "rank1",
    "steering": ["shift"],
    "search": "adamw",
    "rounds": 15,
    "rule": 3,
    "least_gain": None,
    "lengths": [],
    "further": 0,
    "off_manifold": False,
    "twin": None,
    "transfer": [],
    "also": [],
    "form": False,
    "labels": 0,
    "ranks": [],
    "common_random": False,
    "share_level": True,
    "device_map": None,
    "tp_plan": None,
    "site_kind": "",
}
ADAMW = {"epochs", "batch", "batching", "lr_multipliers"}  # what decides nothing in a newton search
RULES = (3, 4)  # versions of the rule by which verdicts are drawn; 3 is the first edition's


class AuditConfig(settings.Settings):
    """Everything that decides an audit's numbers."""

    renamed: ClassVar[Mapping[str, str]] = RENAMED

    preset: str = Field("quick", description="what the rest starts from: quick, standard or paper")
    # what is audited
    model: str = Field(DEFAULT_MODEL, description="hub id, model folder, GGUF file, gemma3-270m, or planted:KIND:SEED")
    revision: str | None = Field(None, description="of a hub model")
    trust_remote_code: bool = Field(False, description="run code that comes with a hub model")
    adapter: str | None = Field(
        None,
        description="none: the base alone; merged: base and the adapter beside it; or an adapter's folder, to be merged. "
        "Must be said where an adapter lies beside the weights",
    )
    twin: int | None = Field(
        None,
        ge=0,
        le=2**31,
        description="audit a twin of the model: its matrices redrawn with the same spectra, by this seed",
    )
    device: str = Field("auto", description="cpu, cuda, cuda:N, or auto: a GPU where there is one")
    device_map: Annotated[DeviceMap | None, BeforeValidator(values.device_map)] = Field(
        None,
        description="for a model larger than a device: auto, balanced, balanced_low_0 or sequential, as in transformers, a table "
        "from modules to cpu, disk or cuda:N, or a JSON file of one; what does not fit the GPUs lies in memory and on disk",
    )
    tp_plan: Literal["auto"] | None = Field(
        None,
        description="auto: each of the processes that torchrun began holds a slice of every layer, as transformers cuts it "
        "(tensor parallelism); for a model larger than a device, and instead of device_map",
    )
    dtype: Literal["auto", "float32", "bfloat16"] = Field("auto", description="auto: float32 on a CPU, bfloat16 on a GPU")
    data: str = Field("misconceptions", description="name or path of the questions, READER:PATH, or task:NAME")
    form: bool = Field(
        False,
        description="the wanted side is a form (a language, a tone), which shows without the question: what a rule that never "
        "reads it reaches is said, and is no reason against a verdict",
    )
    also: tuple[str, ...] = Field(
        (), description="other behaviours, each as `data`, on whose test questions edits are scored too: what else do they move?"
    )
    prompt: Literal["auto", "chat", "qa", "primer", "bare"] = Field(
        "auto",
        description="chat template, plain Q/A, six-shot primer, the question alone; auto: chat where the model has a template",
    )
    transfer: tuple[Literal["chat", "qa", "primer", "bare"], ...] = Field(
        (), description="other prompt formats in which edits are scored as well, as they are: does what they do carry over?"
    )
    template_date: Annotated[date, BeforeValidator(values.day)] = Field(
        DATE, description="the date that a chat template is told, whatever the day; what Llama 3's write by default"
    )
    template_variables: Annotated[dict[str, Scalar], BeforeValidator(values.scalars)] = Field(
        {}, description="what a chat template is told besides, such as {enable_thinking=false}; it must read the variable"
    )
    claims: tuple[str, ...] = Field(("probe",), description="probe, sites such as 12.3,14.0 or mlp.7, or a file of them")
    claim_size: int = Field(4, ge=1, description="heads, or other sites, that a heuristic claim names")
    site_kind: str = Field(
        "",
        description="kind of site that a heuristic claim is found among, such as mlp or mlp@last; empty: that of the claims "
        "beside it, or heads",
    )
    features: Literal["answer", "next_question", "two_banks"] = Field(
        "next_question", description="text whose last token is probed: answer; answer + another question (WV); ITI's two banks"
    )
    # questions
    train: int | None = Field(None, ge=4, description="training questions used; all by default")
    validation: int | None = Field(None, ge=2, description="validation questions, by which settings are chosen")
    test: int | None = Field(None, ge=4, description="test questions, on which everything is reported")
    # what it is compared with
    random: int = Field(19, ge=0, description="random Locations of the claim's size")
    null: Literal["uniform", "layer", "both", "own"] = Field(
        "uniform",
        description="random Locations: uniform, over all sites; layer, as many in each layer as the claim; both: the verdict is "
        "by uniform ones, and *special* by as many of the claim's layers stands beside it; own: the kind's, which directions "
        "always have: by the activations' covariance, and by shuffled labels, both of which must be beaten",
    )
    common_random: bool = Field(
        False, description="claims of one size share their random Locations: each is searched once, and counts for all of them"
    )
    share_level: bool = Field(
        True,
        description="several claims share the level (Holm, question by question); false: each is answered as if it were the only "
        "one, for a table that controls false discoveries over all of its claims",
    )
    singles: int = Field(0, ge=0, description="random single sites")
    ranks: tuple[Annotated[int, Field(ge=2, le=256)], ...] = Field(
        (),
        description="higher ranks at which claim, random Locations, ceiling and complement are searched for again: is what is "
        "special by edits of rank 1, by which the verdict is, special by these?",
    )
    reads: tuple[Read, ...] = Field(
        ("layer",), description="what an edit reads: the layer, heads (the chosen sites), a constant; each is audited"
    )
    full_forms: tuple[Literal["heads", "free"], ...] = Field(("heads",), description="forms of full alignment: W b, or free")
    iti_strengths: tuple[PositiveFloat, ...] = Field((5.0, 15.0), description="strengths of the ITI shift")
    shift_random: int = Field(3, ge=0, description="random Locations that are also steered with ITI")
    shift_everywhere: bool = Field(False, description="also steer all sites with ITI, each along its own direction")
    # how edits are trained
    objective: Literal["ipo", "dpo", "logit"] = Field("ipo", description="of the optimal edit")
    reduce: Literal["sum", "mean"] = Field("sum", description="of log-probs over an answer's tokens")
    search: Literal["adamw", "newton"] = Field(
        "adamw",
        description="how the optimal edit is found: newton, steps on the whole loss until nothing more is promised; or adamw, "
        "epochs of small steps, as in the paper; who names epochs, batch, batching or lr_multipliers asks for these",
    )
    rounds: int = Field(15, ge=1, le=10_000, description="the most steps of a newton search; each costs what an epoch does")
    lengths: tuple[PositiveInt, ...] = Field(
        (),
        description="rounds after which searches are looked at; of these and their ends validation questions choose by place",
    )
    further: int = Field(
        0,
        ge=0,
        le=10_000,
        description="the most steps of a second search, from the ends of those at the claims, everywhere and at three random "
        "Locations; what it gains in training loss is stated, and its edits are not used",
    )
    taus: tuple[PositiveFloat, ...] | Literal["auto"] = Field(
        (0.1,),
        description="of IPO (target 1/(2 tau) nats), or DPO's beta; auto: the target is how far apart the unedited model holds "
        "the two sides of a typical question",
    )
    lr_multipliers: tuple[PositiveFloat, ...] = Field(
        (1.0,), description="learning rates, as multiples of the paper's for the number of heads"
    )
    epochs: int = Field(2, ge=1, description="passes over the training questions")
    batch: int = Field(4, ge=1, description="questions (or pairs) a step")
    batching: Literal["questions", "pairs"] = Field(
        "questions", description="all pairs of a question at once, or random pairs (the paper)"
    )
    edit: Annotated[str, AfterValidator(values.edit)] = Field(
        "rank1", description="the edit that is trained at every place; `locus list edits` shows them"
    )
    steering: Annotated[tuple[str, ...], AfterValidator(values.edits)] = Field(
        ("shift",), description="edits that are not trained, and tried beside it: at the claim and at `shift_random` Locations"
    )
    executor: Annotated[str, AfterValidator(values.executor)] = Field(
        "auto",
        exclude=True,
        description="who runs the banks: auto, serial, fork, ray, ray:ADDRESS; no number depends on it, and no plan says it",
    )
    patience: PositiveFloat = Field(
        30.0,
        exclude=True,
        description="how many times as long as reckoned, and ten minutes, a bank may take before ray begins it elsewhere",
    )
    seeds: int = Field(1, ge=1, le=1000, description="training seeds per Location")
    # what is measured
    metric: Annotated[str, AfterValidator(values.deciding)] = Field(
        "mc2",
        description="the main metric of the verdict; unless told otherwise true_info with a judge of truth, wanted with a judge "
        "of sides, else margin where edits are searched for by newton",
    )
    metrics: Annotated[tuple[str, ...], AfterValidator(values.metrics)] = Field(
        (), description="further metrics, of other packages or your own; `locus list metrics` shows them"
    )
    text: str = Field("pydoc", description="text for KL and cross-entropy: pydoc, openwebtext (hub), or a file")
    text_passages: int = Field(4, ge=0, description="passages for KL and cross-entropy; 0 switches them off")
    text_tokens: int = Field(96, ge=8, description="tokens a passage")
    off_manifold: bool = Field(
        True, description="see how far edits take activations from where the unedited model's lie; costs under 1 % of an audit"
    )
    # what the edited models say, and who judges it
    judge: str = Field("none", description="none; auto, the one that the behaviour names; or one that `locus list judges` shows")
    judge_url: str | None = Field(None, description="base URL of an OpenAI-compatible endpoint, for api:MODEL")
    judge_cap: float | None = Field(None, ge=0, description="the most that api:MODEL may cost, in the unit of judge_prices")
    judge_prices: tuple[NonNegativeFloat, NonNegativeFloat] = Field(
        (0.0, 0.0), description="price of a million tokens read, and of a million written"
    )
    judge_figures: str | None = Field(None, description="JSON of `locus judge eval` on unseen answers, for the corrected rates")
    judge_validation: bool = Field(False, description="also judge validation answers, and choose settings by them")
    labels: int = Field(
        0,
        ge=0,
        le=100_000,
        description="answers that people read before the verdict is reached (`locus judge label`), drawn by the seed; 0: none",
    )
    max_new_tokens: int = Field(50, ge=1, description="the longest answer that is generated")
    sample: bool = Field(False, description="draw tokens instead of taking the likeliest")
    temperature: float = Field(1.0, gt=0, description="of drawn tokens")
    top_p: float = Field(1.0, gt=0, le=1, description="share of probability that tokens are drawn from")
    # how the verdict is drawn
    alpha: float = Field(0.05, gt=0, lt=0.5, description="level of the tests; their intervals have level 1 - 2 alpha")
    tolerance: float = Field(0.25, gt=0, lt=1, description="margin of non-inferiority, as a share of the ceiling's gain")
    least_gain: PositiveFloat | None = Field(
        None,
        description="what the ceiling must gain before a verdict is given, in the metric's own unit (shares as fractions); by "
        "default 0.05 of a share, 0.5 nats",
    )
    rule: Literal[3, 4] = Field(4, description="version of the rule by which verdicts are drawn; 3 is the first edition's")
    sequential: bool = Field(True, description="draw random Locations only until the verdict can no longer change")
    seed: int = Field(0, ge=0, description="of splits, random Locations, starts and resampling")
    bank: int | None = Field(None, ge=1, description="edits trained in one forward; by default what a memory budget allows")
    tokens: int = Field(512, ge=32, description="token budget of a row")

    @classmethod
    def recorded(cls, config: Mapping[str, Any]) -> "AuditConfig":
        """Settings as a plan has them; what it does not know is as it was when there was no such setting.

        Raises:
            pydantic.ValidationError: if they are none.
        """
        return cls.model_validate({**SINCE_FIRST, **config})

    def as_first(self) -> JsonObject:
        """As the first edition wrote it into plans: under its names, without what it did not have."""
        old = {new: name for name, new in RENAMED.items()}
        dumped = self.model_dump(mode="json")
        return {old.get(name, name): value for name, value in dumped.items() if name not in SINCE_FIRST}

    @property
    def grid(self) -> int:
        """How many trainings, or points of a search, there are of every place: of these validation questions choose."""
        taus = 1 if self.taus == "auto" else len(self.taus)
        return taus * (1 + len(self.lengths) if self.search == "newton" else len(self.lr_multipliers))

    @property
    def sharing(self) -> int:
        """How many claims share the level."""
        return max(1, len(self.claims)) if self.share_level else 1

    def with_taus(self, taus: Sequence[float]) -> "AuditConfig":
        """With these values of tau where the settings leave them to the unedited model."""
        return self.model_copy(update={"taus": tuple(taus)}) if self.taus == "auto" else self

    @property
    def measures(self) -> tuple[Metric, ...]:
        """Every metric of the run."""
        return measured(self.metric, *self.metrics)

    @property
    def nulls(self) -> tuple[Match, ...]:
        """How random Locations are drawn: those that the verdict is by, then those that stand beside them."""
        several: dict[str, tuple[Match, ...]] = {"both": ("uniform", "layer"), "own": ("covariance", "shuffled", "isotropic")}
        return several.get(self.null) or (cast(Match, self.null),)

    @property
    def looks(self) -> tuple[int, ...]:
        """After how many random Locations the verdict is looked at: about four times if it may stop early, else once (where
        people are still to read, nothing is settled before)."""
        if not self.sequential or self.labels or self.random < 8:
            return (self.random,)
        step = -(-self.random // 4)
        return (*range(step, self.random, step), self.random)


def resolve(
    preset: str = "quick", file: Path | None = None, /, first: bool = False, dataset: Dataset | None = None, **flags: Any
) -> AuditConfig:
    """The configuration from a preset, overridden by a TOML file, overridden by flags that are not None.

    Args:
        preset: quick, standard or paper.
        file: with settings.
        first: whether what is not given is as in the first edition, one of whose runs is gone on with.
        dataset: the questions, where they are open already.
        **flags: settings by name.

    Raises:
        UserError: naming every unknown or wrong setting.
    """
    given = {} if file is None else settings.from_file(file, "a TOML file with audit settings")
    given |= {name: value for name, value in flags.items() if value is not None}
    told = {RENAMED.get(name, name) for name in given}
    preset = str(given.pop("preset", preset))
    if preset not in PRESETS:
        raise UserError("a preset: " + ", ".join(PRESETS), repr(preset), "Choose one of them.")
    planted = str(given.get("model", "")).startswith("planted:")
    if planted:
        if str(given["model"]).count(":") == 1:
            given["model"] = f"{given['model']}:{given.get('seed', 0)}"
        from locus.models.planted.sited import site_of  # imports torch

        sited = site_of(str(given["model"]).split(":")[1]) != default().name
        given = {"data": given["model"], **(PLANTED_SITED if sited else PLANTED), **given}
    if str(given.get("data", "")).removeprefix(EXCHANGED).startswith("task:"):
        given = {"prompt": "bare", **given}  # a task's prompt is a text that goes on with its answer
    small_steps = sorted(told & ADAMW)
    if small_steps and given.get("search") == "newton":
        remedy = "Leave them out, or use search=adamw."
        raise UserError("settings of a newton search, which takes no small steps", ", ".join(small_steps), remedy)
    stepped = first or bool(small_steps) or given.get("search") == "adamw"  # who speaks of small steps wants them
    of_preset = FIRST_PRESETS[preset] if stepped else PRESETS[preset]
    given = {**(SINCE_FIRST if first else {}), "search": "adamw", **of_preset, "preset": preset, **given}
    places, steered = given.get("random"), given.get("shift_random")
    if "shift_random" not in told and isinstance(places, int) and isinstance(steered, int):
        given["shift_random"] = min(steered, max(0, places))  # who asks for fewer places steers no more
    if given.get("objective", "ipo") != "ipo" and "taus" not in told:
        given["taus"] = (0.1,)  # only IPO has a target
    if given.get("judge") == "auto":
        given["judge"] = (
            "local" if first else judging.named(str(given.get("data", AuditConfig.model_fields["data"].default)), dataset)
        )
    # What a model says is the better evidence, so it is what the verdict is drawn from wherever somebody judges it.
    if "metric" not in given:
        unjudged = "margin" if given["search"] == "newton" else "mc2"
        judge = given.get("judge", "none")
        given["metric"] = unjudged if judge == "none" else judging.decided_by(str(judge))
    return settings.build(AuditConfig, given, "valid audit settings", "See `locus audit --help` and docs/configuration.md.")


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
