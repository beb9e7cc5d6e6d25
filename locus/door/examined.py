"""What can be audited of a model, and what a quick audit of it would take: what `locus doctor` says of one."""

from dataclasses import dataclass, field

from locus.behaviours.encoding import added_by
from locus.behaviours.prompts import prompt_format
from locus.door.planned import Planned, in_words, planned
from locus.engine.checks import Check, Standing, run_checks, standing
from locus.errors import UserError
from locus.models.layout import UNLIMITED
from locus.models.load import load
from locus.models.locate import DEFAULT_MODEL
from locus.models.model import Model
from locus.models.shortcuts import told
from locus.plan.config import resolve
from locus.plan.opened import Opened
from locus.plan.preconditions import early
from locus.shown import line
from locus.sites.kind import kinds

SAID: dict[Standing, str] = {
    "complete": "complete",
    "in part": "complete but for a shortcut",
    "row by row": "row by row: verdicts are the same, and cost more",
    "refused": "refused",
}


@dataclass(frozen=True)
class Examined:
    """What was found of a model.

    Attributes:
        name: of the model.
        standing: complete, in part, row by row or refused, as docs/models.md has it of families.
        why: of a refusal, in one sentence; else of every shortcut that is not taken, a sentence each.
        about: sizes, prompt, what is read, in a line each.
        notices: on its prompt.
        checks: every shortcut against the plain path; none where the model could not be opened.
        quick: what a quick audit on the package's own questions would take, or why there can be none; None of a model refused.
    """

    name: str
    standing: Standing
    why: tuple[str, ...]
    about: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()
    checks: tuple[Check, ...] = field(default=(), repr=False)
    quick: Planned | str | None = None

    def __str__(self) -> str:
        lines = [
            f"model {line(self.name)}: {SAID[self.standing]}",
            *(f"  {line(one)}" for one in (*self.about, *self.notices, *self.checks, *self.why)),
        ]
        if isinstance(self.quick, Planned):
            seconds, trials = in_words(self.quick.seconds), self.quick.trials
            lines.append(f"  a quick audit on {line(self.quick.behaviour)}: {trials} trials in about {seconds}, loading aside")
            lines.append(f"  memory of about {self.quick.memory}")
        elif self.quick:
            lines.append(f"  a quick audit: not possible ({line(self.quick)})")
        return "\n".join(lines)


def examine(name: str | None = None, adapter: str | None = None) -> Examined:
    """Open a model, hold every shortcut against the plain path, and reckon a quick audit of it.

    Args:
        name: of the model; the default model by default.
        adapter: none, merged, or an adapter's folder, where one lies beside its weights.
    """
    called = name or DEFAULT_MODEL
    try:
        model = load(called, adapter=adapter)
    except UserError as error:
        return Examined(called, "refused", (str(error),))
    text = prompt_format(model.tokenizer)
    found = run_checks(model, text)
    result = standing(model, found)
    why = [f"{one} row by row" for one in map(str, found) if one.startswith("FAIL")] if result == "refused" else told(model.off)
    about = (*_about(model), f"prompt format {text.name}")
    quick = None if result == "refused" else _quick(model, called, adapter)
    return Examined(model.name, result, tuple(why), about, tuple(text.notices), tuple(found), quick)


def _about(model: Model) -> tuple[str, ...]:
    """Sizes, experts, how much the model reads, and what its tokenizer adds to a text, a line each."""
    layout, experts = model.layout, model.parts.routed
    before, behind = (" ".join(model.tokenizer.convert_ids_to_tokens(ids)) for ids in added_by(model.tokenizer))
    limit = "without a limit that it states" if model.context == UNLIMITED else f"up to {model.context:,} tokens"
    closing = f"{behind} behind it (left off)" if behind else "nothing behind it"
    lines = [
        f"{layout} ({layout.n_kv_heads} key-value) at {layout.shape}",
        f"reads {limit}; its tokenizer puts {before or 'nothing'} before a text, {closing}",
    ]
    there = {kind: sum(kind.counts(layout)) for kind in kinds()}
    lines.append(f"sites: {', '.join(kind.counted(count) for kind, count in there.items() if count)}")
    without = {kind: layout.absent.get(kind.point, "none was seen") for kind, count in there.items() if not count}
    lines += [f"no {kind.nouns}: {why}" for kind, why in without.items()]
    if experts:
        lines.append(f"sends a token to {experts[0]} of {experts[1]} experts: time counts those, memory all")
    return tuple(lines)


def _quick(model: Model, name: str, adapter: str | None) -> Planned | str:
    config = resolve("quick", model=name, adapter=adapter)
    try:
        early(config, opened=Opened(model=model))
        return planned(config, Opened(model=model), lambda what, share: None)
    except UserError as error:
        return str(error)
