"""What an audit would take: its trials as they would be planned, counted, and set against the rate of this machine."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from locus import behaviours
from locus.behaviours.blind import BlindScore
from locus.behaviours.items import Dataset
from locus.behaviours.prompts import prompt_format
from locus.claims import given, is_heuristic
from locus.claims.claim import Claim, named_apart
from locus.claims.direction import over
from locus.conclude.rule import rule
from locus.door.showing import Progress
from locus.engine.cost import Sizes
from locus.engine.trie import build_trie
from locus.errors import raise_all
from locus.machine.rate import REACHED, matrix_rate
from locus.machine.threads import Arithmetic
from locus.metrics.drift import load_text
from locus.models.configured import as_asked, load_configured
from locus.models.model import Model
from locus.plan import document, population, preconditions, questions, readable, trials
from locus.plan.config import AuditConfig
from locus.plan.context import AuditContext, budget_of, choose
from locus.plan.forecast import Costs, Forecast
from locus.plan.memory import Memory, memory_of
from locus.plan.opened import Opened
from locus.records.plan import ArithmeticRecord
from locus.run.setup import elsewhere
from locus.shown import visible
from locus.sites.site import Location
from locus.sites.space import SiteSpace


@dataclass(frozen=True)
class Cost:
    """What the trials of one role would take.

    Attributes:
        trials: how many.
        macs: multiply-adds of all of them.
        seconds: of this machine, reckoned.
    """

    trials: int
    macs: float
    seconds: float


@dataclass(frozen=True)
class Planned:
    """What an audit would run, and what it would take.

    Attributes:
        model, behaviour: what it would be run on.
        questions: used, by part.
        by_role: cost of each kind of trial.
        rate: multiply-adds a second of this machine's matrix product, just measured.
        memory: what the audit would hold.
        notes: what is reckoned otherwise than it would be run.
    """

    model: str
    behaviour: str
    questions: dict[str, int]
    by_role: dict[str, Cost]
    rate: float
    memory: Memory
    notes: tuple[str, ...]

    @property
    def trials(self) -> int:
        """All trials, if none is spared by stopping early."""
        return sum(one.trials for one in self.by_role.values())

    @property
    def macs(self) -> float:
        """Multiply-adds of all trials."""
        return sum(one.macs for one in self.by_role.values())

    @property
    def seconds(self) -> float:
        """Of all trials on this machine, reckoned; loading, probing and judging aside."""
        return sum(one.seconds for one in self.by_role.values())

    def __repr__(self) -> str:
        used = ", ".join(f"{count} {part}" for part, count in self.questions.items())
        lines = [f"Plan: {visible(self.model, 120)} on {visible(self.behaviour, 120)} ({used} questions)"]
        rows = [*self.by_role.items(), ("all", Cost(self.trials, self.macs, self.seconds))]
        lines += [f"  {'trials of':<18}{'number':>8}{'multiply-adds':>16}{'about':>12}"]
        lines += [f"  {role:<18}{one.trials:>8,}{one.macs:>16.3g}{in_words(one.seconds):>12}" for role, one in rows]
        lines += [f"  At {REACHED:.0%} of {self.rate:.3g} multiply-adds a second. {' '.join(self.notes)}".rstrip()]
        return "\n".join([*lines, f"  Memory of about {self.memory}"])


@dataclass(frozen=True)
class Counted:
    """A plan, made without reading a question with the model, and what its trials take.

    Attributes:
        model: as it was opened.
        dataset: name of the questions.
        context: of what trials are run on, with nothing read.
        plan: all trials and banks.
        works: trial -> kind of work -> work.
        memory: what the audit would hold.
        notes: what is reckoned otherwise than it would be run.
    """

    model: Model
    dataset: str
    context: AuditContext
    plan: trials.Plan
    works: dict[str, Costs]
    memory: Memory
    notes: tuple[str, ...]

    @property
    def sizes(self) -> Sizes:
        """Of the model."""
        return Sizes.of(self.model, self.context.space.kind.point)


def counted(config: AuditConfig, opened: Opened, progress: Progress, memory: Callable[[Model], int] | None = None) -> Counted:
    """Make the plan of an audit without reading a question with the model, and count it.

    Args:
        config: of the audit.
        opened: what is open already.
        progress: told what goes on and the share of it.
        memory: bytes of the device that is meant, in so far as they hold edits of this model, where it is not the one it is on.

    Raises:
        UserError: as an audit does before it begins.
    """
    dataset, others = questions.audited(config, opened), questions.others(config, opened)
    questions.distinct(dataset, others)
    kind = population.kind_asked(config, opened.claims)
    questions.marked([dataset, *others], kind)
    progress("loading the model", 0.1)
    model = _opened(config, opened.model)
    space = SiteSpace.of(kind, model.layout)
    context = _context(config, dataset, others, model, space)
    progress("counting", 0.5)
    layout, notes = model.layout, ["An audit that stops early runs fewer."] if config.sequential else []
    made = []
    for source in config.claims:
        if source in opened.claims or not is_heuristic(source):
            made.append(over(opened.claims.get(source) or given(source), space.layers))
            continue
        notes.append(f"The claim that {source} would find is reckoned as a random Location of its size.")
        (place,) = space.draw(Location(space.everywhere.sites[: config.claim_size]), 1, config.seed)
        made.append(Claim(source, place, source))
    made = named_apart(made)
    for claim in made:
        claim.check(model.fingerprint, space, carried=config.twin is not None)
    no_baselines: list[BlindScore] = []
    places = [claim.location for claim in made]
    population.check(config, space, places)
    basis = document.basis(context, dataset, no_baselines, rule(population.bounded(config, space, places), space.kind))
    trie = build_trie(model.tokenizer, context.prompt, context.items["train"], space.kind.at)
    threads = ArithmeticRecord(threads=context.arithmetic.own, bank=context.arithmetic.own, held=layout.n_layers)
    budget = budget_of(model, config, trie, None if memory is None else memory(model))
    plan = replace(trials.make(config, layout, made, basis, budget), arithmetic=threads)
    forecast = Forecast(plan.record, dataset, model, others=others)
    works, cores = forecast.trials(), context.arithmetic.own if memory is None else 1
    held = memory_of(model, plan, forecast.tries, budget, cores)
    if config.judge != "none":
        notes.append("Speech is reckoned at its longest; judging is not counted.")
    return Counted(model, dataset.name, context, plan, works, held, tuple(notes))


def planned(config: AuditConfig, opened: Opened, progress: Progress) -> Planned:
    """Count an audit, and set it against the rate of this machine.

    Raises:
        UserError: as an audit does before it begins.
    """
    found = counted(config, opened, progress)
    sizes, rate = found.sizes, matrix_rate(found.model.device)
    macs: dict[str, list[float]] = {}
    for trial in found.plan.trials:
        macs.setdefault(trial.role, []).append(sum(work.macs(sizes) for work in found.works[trial.id].values()))
    costs = {role: Cost(len(ones), sum(ones), sum(ones) / (REACHED * rate)) for role, ones in macs.items()}
    progress("", 1.0)
    used = {name: len(part) for name, part in found.context.items.items()}
    return Planned(found.model.name, found.dataset, used, costs, rate, found.memory, found.notes)


def _opened(config: AuditConfig, opened: Model | None) -> Model:
    """The model that is open, or else the one that the settings name; its twin where that is asked for."""
    return load_configured(config) if opened is None else as_asked(opened, config.twin)


def _context(config: AuditConfig, dataset: Dataset, others: tuple[Dataset, ...], model: Model, space: SiteSpace) -> AuditContext:
    """What trials are run on, with nothing read."""
    split = behaviours.split(dataset.items, config.seed)
    items = choose(dataset, split, config)
    preconditions.warn_of_few(items, config)
    sample = load_text(config.text, config.text_passages, config.seed) if config.text_passages else None
    text = prompt_format(model.tokenizer, name=config.prompt, day=config.template_date, variables=config.template_variables)
    raise_all(readable.problems(model.tokenizer, model.context, text, items, sample, config))
    asked = elsewhere(config, model.tokenizer, text, items["test"], others)
    return AuditContext(model, config, split, items, text, sample, (), space, arithmetic=Arithmetic.here(), elsewhere=asked)


def in_words(seconds: float) -> str:
    """A time as one says it."""
    if 0 < seconds < 1:
        return "under 1 s"
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
