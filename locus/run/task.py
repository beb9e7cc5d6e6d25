"""A bank as a task that can be done anywhere: what it is known by, what it needs, and what does it.

A job is small: its trials, and the edits that some of them start from. What does it holds the rest, once for all its jobs; sent
to another process it takes the model by its name (or, of one that lies in somebody's memory, its weights) and everything that the
base model made as it is, so that nothing is computed twice, and nothing otherwise.
"""

import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from locus import registry
from locus.behaviours.items import content_hash
from locus.edits import Edit
from locus.engine.cache import NONE
from locus.errors import UserError
from locus.judges.api import Endpoint
from locus.judges.kind import open_judge
from locus.machine import threads
from locus.machine.versions import source, versions
from locus.models.configured import load_configured
from locus.models.memory import view
from locus.models.model import Model
from locus.models.shortcuts import TREES
from locus.plan.config import AuditConfig
from locus.plan.context import AuditContext
from locus.plan.trials import Trial
from locus.run.bank import DoneBank, do_bank
from locus.run.parcel import Parcel, pack, unpack


@dataclass(frozen=True)
class BankJob:
    """One bank.

    Attributes:
        trials: of it, in order.
        starts: by trial, the edits from which some of them are searched for as well.
    """

    trials: tuple[Trial, ...]
    starts: Mapping[str, Edit]

    @cached_property
    def id(self) -> str:
        """Content id, of its trials' ids."""
        return content_hash([trial.id for trial in self.trials])[:16]

    @property
    def called(self) -> str:
        """What a message calls it."""
        return f"bank {self.id} ({self.trials[0].role}: {', '.join(dict.fromkeys(one.arm for one in self.trials))})"


class BankWork:
    """Does banks on what they are run on."""

    def __init__(self, context: AuditContext):
        self.context = context

    def __call__(self, job: BankJob, say: Callable[[float], None]) -> DoneBank:
        """Do one."""
        return do_bank(list(job.trials), self.context, job.starts, say)

    def __reduce__(self) -> tuple[Any, ...]:
        """Sent elsewhere, it opens model and judge there, and brings all else along."""
        return arrived, (Sent.of(self.context),)


@dataclass(frozen=True)
class Sent:
    """What a worker in another process needs before it does a bank.

    Attributes:
        made_by: versions and source of who sends it.
        fingerprint: of the model.
        config: by which the model is loaded there, and the judge opened.
        weights: the model itself, where no name opens it.
        off: by shortcut, why the model does not allow it.
        called: name of the model, whether it was quantised, and whether it was merged.
        rest: the context but for model and judge.
        own: what the user has registered.
    """

    made_by: dict[str, str]
    fingerprint: str
    config: AuditConfig
    weights: Parcel | None
    off: dict[str, str]
    called: tuple[str, bool, bool]
    rest: Parcel
    own: dict[registry.Kind, dict[str, registry.Entry]]

    @classmethod
    def of(cls, context: AuditContext) -> "Sent":
        """That of a context."""
        model = context.model
        own: dict[str, Any] = {"device": model.device.type, "dtype": str(model.dtype).removeprefix("torch.")}
        away = {id(model): "model", id(context.judge): "judge"}
        nameless = context.config.model.startswith(registry.MEMORY)
        return cls(
            made_here(),
            model.fingerprint,
            context.config.model_copy(update=own),
            pack((view(model.hf, model.name), model.tokenizer)) if nameless else None,
            dict(model.off),
            (model.name, model.quantised, model.merged),
            pack({**vars(context), "cache": NONE}, away),  # of this machine's disk
            registry.own(),
        )


def made_here() -> dict[str, str]:
    """By what this process computes."""
    return {**versions(), "source": source()}


def arrived(sent: Sent) -> BankWork:
    """What does banks, in the process to which it was sent.

    Raises:
        UserError: if this process computes by other versions, or loads another model, than the one that sent it.
    """
    here = made_here()
    if other := [f"{name} {here.get(name)} for {there}" for name, there in sent.made_by.items() if here.get(name) != there]:
        raise UserError(
            "workers with the versions of who began the run",
            f"{', '.join(other)} on {socket.gethostname()}",
            "Install the same there; other versions give other last digits.",
        )
    registry.take(sent.own)
    threads.settle()
    model = _model(sent)
    if model.fingerprint != sent.fingerprint:
        raise UserError(
            f"the model that the run was begun with ({sent.fingerprint[:12]})",
            f"{sent.config.model!r} with other weights ({model.fingerprint[:12]}) on {socket.gethostname()}",
            "Give a worker the same files, or name the model by what is the same everywhere.",
        )
    config = sent.config
    judge = None
    if config.judge != "none":
        judge = open_judge(config.judge, Endpoint(config.judge_url, config.judge_cap, config.judge_prices))
    context = AuditContext.__new__(AuditContext)
    vars(context).update(unpack(sent.rest, {"model": model, "judge": judge}))
    return BankWork(context)


def _model(sent: Sent) -> Model:
    """The model, without the shortcuts that it was found not to allow."""
    if sent.weights is None:
        model = load_configured(sent.config)
    else:
        name, quantised, merged = sent.called
        hf, tokenizer = unpack(sent.weights)
        model = Model(hf, tokenizer, name, quantised, merged)
    if TREES in sent.off:
        model.do_without(TREES, sent.off[TREES])
    model.off, model.checked = dict(sent.off), True
    return model
