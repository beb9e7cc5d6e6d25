"""The plan: every Trial of an audit with its content id, fixed before any result exists.

A Trial is Location x Edit x hyper-parameters x seed. Its id is a hash of exactly that, and of the context in which it is run
(model, data, split, prompt, texts): identity belongs to the trial, so a resumed run knows what is done.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise, product
from typing import Any

from locus.behaviours.items import content_hash
from locus.claims import null
from locus.claims.claim import Claim
from locus.edits.kind import EditKind, kind
from locus.engine.train import TrainingRecipe
from locus.models.layout import Layout
from locus.plan import population
from locus.plan.config import AuditConfig, learning_rate
from locus.records.plan import DRAWN, ArithmeticRecord, PlanBasis, PlanRecord, roles_of
from locus.sites.kind import kind_of
from locus.sites.site import Location
from locus.sites.space import holds, space_of

VERSION = "trial/1"
UNEDITED = "none"  # the edit of the trial that is the model itself
OUTER = ("ceiling", "complement")  # roles of places that others lie inside
RANKED = ("claim", "random", *OUTER)  # roles of edits that are searched for at higher ranks as well
FIRST = 3  # random Locations from which ceiling and complement are searched for as well
STAND_IN = (0.1,)  # for a tau that only the model can tell, where a plan is made to be counted
FIXED = 2  # edits that are not trained, for one that is: what leads to the answers is run once for all in a forward


@dataclass(frozen=True)
class Trial:
    """One edit to be made and measured.

    Attributes:
        role: base, shift, shift-random, shift-everywhere, claim, random, random-layer, single, ceiling or complement.
        arm: what tables call the place ("probe", "random-03", "ceiling"); trials of one arm differ in the grid and the seed.
        claim: the claim it belongs to, or "".
        location: the sites.
        edit: none, or a kind of edit by its name.
        read: layer, heads or constant; "" where the edit reads nothing.
        form: heads or free (full alignment only).
        alpha: strength of a fixed edit; of the shift, in standard deviations.
        recipe: how it is trained, if it is.
        seed: of its start and its order of questions.
        context: hash of what it is run on.
        starts: ids of trials of places inside it, or of the same place by edits of a lower rank, from the best of whose edits it
            is searched for as well.
        rank: of the edit, where it is trained.
        further: the most steps of a second search, from its end, whose edit is not used.
        shorter: whether it is the first part of another trial's search, of which it takes the edit as it stood then.
        again: the id of the trial that it is once more, for another claim, where claims share their random Locations.
    """

    role: str
    arm: str
    claim: str
    location: Location
    edit: str
    context: str
    read: str = ""
    form: str = ""
    alpha: float | None = None
    recipe: TrainingRecipe | None = None
    seed: int = 0
    starts: tuple[str, ...] = ()
    further: int = 0
    rank: int = 1
    shorter: bool = field(default=False, compare=False)
    again: str = field(default="", compare=False)

    @property
    def id(self) -> str:
        """Content id: 16 hexadecimal digits."""
        return content_hash([VERSION, self.to_dict()])[:16]

    @property
    def search(self) -> tuple[Any, ...]:
        """What it has in common with shorter and longer trials of the same search."""
        recipe = replace(self.recipe, rounds=0) if self.recipe else None
        return (self.role, self.arm, self.claim, self.location, self.read, self.form, self.rank, recipe, self.seed)

    @property
    def first_layer(self) -> int:
        """The first layer it edits."""
        return self.location.sites[0].layer if self.location.sites else 0

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        fields = {**vars(self), "location": self.location.names, "recipe": self.recipe.to_json() if self.recipe else None}
        del fields["shorter"], fields["again"]  # its recipe's rounds say it, and all that it has in common with the other
        # What the first edition did not have is left out where there is none.
        starts, further, rank = (fields.pop(name) for name in ("starts", "further", "rank"))
        since = {"starts": list(starts)} if starts else {}
        since |= ({"further": further} if further else {}) | ({"rank": rank} if rank > 1 else {})
        return {**fields, **since}


@dataclass(frozen=True)
class MemoryBudget:
    """What one training forward may hold; it decides which trials share one, and must not depend on what else runs.

    Attributes:
        nbytes: memory for the activations of all its edits.
        edits: the most edits; more would not be faster.
        tokens: of the longest training row.
        itemsize: bytes of a computed number.
        answers: to the training questions.
        apart: whether the last bank's edits are run one by one, since banks run side by side and should end together.
    """

    nbytes: int = 1 << 30
    edits: int = 3
    tokens: int = 512
    itemsize: int = 4
    answers: int = 0
    apart: bool = True

    def takes(self, trial: Trial, layout: Layout) -> int:
        """Bytes of one edit's row: autograd keeps 13.2 residual widths a token and layer of SmolLM2-135M; 14 are reckoned.

        An edit that is not trained keeps nothing for the way back: it holds one layer's at a time. One of a higher rank is
        searched for with a Jacobian that is no longer small beside these, twice, in float32.
        """
        if trial.shorter or trial.again:
            return 0  # a point of a search that is there anyway, or the whole of it
        layers = layout.n_layers - trial.first_layer if trial.recipe is not None else 1
        ways = 2 if trial.starts else 1
        activations = 14 * layout.d_model * self.itemsize * self.tokens * layers
        return ways * (activations + (self._jacobians(trial, layout) if trial.rank > 1 else 0))

    def _jacobians(self, trial: Trial, layout: Layout) -> int:
        """Bytes of what a search holds of the answers' derivatives by an edit's numbers."""
        point = kind_of(trial.location.kind).point
        numbers = trial.rank * sum(2 * layout.width(point, layer) for layer in trial.location.layers)
        return 2 * 4 * self.answers * numbers


@dataclass(frozen=True)
class Plan:
    """All trials of an audit, in a fixed order, and which of them share a forward.

    Attributes:
        trials: in order.
        banks: ids of trials that are run and committed together.
        claims: what is audited.
        basis: what they follow from.
        arithmetic: threads with which their numbers are computed; None before that is settled, and in a run of the first edition.
    """

    trials: tuple[Trial, ...]
    banks: tuple[tuple[str, ...], ...]
    claims: tuple[Claim, ...]
    basis: PlanBasis
    arithmetic: ArithmeticRecord | None = None

    @cached_property
    def hashed(self) -> dict[str, Any]:
        """All that the plan's file holds, but for its hash."""
        return {
            **self.basis.to_json(),
            **({} if self.arithmetic is None else {"arithmetic": self.arithmetic.to_json()}),
            "claims": [claim.to_dict() for claim in self.claims],
            "trials": [{"id": trial.id, **trial.to_dict()} for trial in self.trials],
            "banks": [list(bank) for bank in self.banks],
        }

    @cached_property
    def sha256(self) -> str:
        """Hash of all that the plan's file holds, fixed before the first result."""
        return content_hash(self.hashed)

    @property
    def record(self) -> PlanRecord:
        """As the plan's file has it."""
        return PlanRecord.parse(json.loads(json.dumps({**self.hashed, "sha256": self.sha256}, allow_nan=False)))

    def trial(self, identity: str) -> Trial:
        """A trial by id."""
        return next(trial for trial in self.trials if trial.id == identity)


def make(config: AuditConfig, layout: Layout, claims: list[Claim], basis: PlanBasis, budget: MemoryBudget) -> Plan:
    """All trials for some claims.

    Args:
        config: the resolved configuration.
        layout: of the model.
        claims: what is audited.
        basis: what the trials are run on, and the verdict rule.
        budget: what a forward may hold, where the configuration does not say how many edits share one.
    """
    config = config.with_taus(basis.taus or STAND_IN)
    locations = [claim.location for claim in claims]
    config = population.bounded(config, space_of(locations, layout), locations)
    unique = trials_of(config, layout, claims, basis.context)
    banks = tuple(tuple(trial.id for trial in bank) for bank in _banks(unique, config, layout, budget))
    return Plan(unique, banks, tuple(claims), basis)


def trials_of(config: AuditConfig, layout: Layout, claims: list[Claim], identity: Mapping[str, Any]) -> tuple[Trial, ...]:
    """All trials for some claims, each once and in order: they follow from settings, claims, sizes and what they are run on."""
    context, edit = content_hash(identity), kind(config.edit)
    space = space_of([claim.location for claim in claims], layout)
    config = population.bounded(config, space, [claim.location for claim in claims])
    trials = [Trial("base", "base", "", Location(()), UNEDITED, context)]
    for claim in claims:
        drawn = {
            role: null.draw_locations(claim.location, space, config.random, config.seed, match, role.removeprefix("random-"))
            for role, match in zip(roles_of(config.nulls), config.nulls, strict=True)
        }
        randoms = drawn["random"]
        steered = [("shift", claim), *(("shift-random", random) for random in randoms[: config.shift_random])]
        for fixed in map(kind, config.steering):
            for (role, place), alpha in product(steered, strengths(fixed, config)):
                arm = f"{fixed.called or fixed.name}:{claim.name if role == 'shift' else place.name}"
                trials.append(Trial(role, arm, claim.name, place.location, fixed.name, context, alpha=alpha))
        for read in config.reads:
            places = [("claim", claim), *((role, random) for role, several in drawn.items() for random in several)]
            for role, place in places:
                further = config.further if role == "claim" or place in randoms[:FIRST] else 0
                trial = Trial(role, place.name, claim.name, place.location, edit.name, context, read=read, further=further)
                trials += _grid(config, trial)
            rest = space.rest(claim.location)
            trials += _grid(
                config, Trial("complement", "complement", claim.name, rest, edit.rest or edit.name, context, read=read)
            )
    everywhere = space.everywhere
    for fixed in map(kind, config.steering if config.shift_everywhere else ()):
        for alpha in strengths(fixed, config):
            arm = f"{fixed.called or fixed.name}:everywhere"
            trials.append(Trial("shift-everywhere", arm, "", everywhere, fixed.name, context, alpha=alpha))
    best = edit.everywhere or edit.name
    for form in config.full_forms:
        trial = Trial("ceiling", f"ceiling:{form}", "", everywhere, best, context, read="layer", form=form)
        trials += _grid(config, replace(trial, further=config.further))
    if config.singles:
        one = Location(everywhere.sites[:1])
        for read, single in product(config.reads, null.draw_locations(one, space, config.singles, config.seed + 1, "uniform")):
            name = single.name.replace("random", "single")
            trials += _grid(config, Trial("single", name, "", single.location, edit.name, context, read=read))
    trials = [_begun_within(trials, trial) for trial in trials]
    lower = [trial for trial in trials if trial.role in RANKED]
    for rank in config.ranks:
        lower = _ranked(lower, rank)
        trials += lower
    unique = {trial.id: trial for trial in trials}
    return _shared(unique) if config.common_random else tuple(unique.values())


def _ranked(lower: Sequence[Trial], rank: int) -> list[Trial]:
    """The same searches by edits of a higher rank, each from the lower one's end as well, which is an edit of the higher rank."""
    ends = {trial.search: trial.id for trial in lower if not trial.shorter}
    again = [
        replace(one, rank=rank, arm=f"{one.arm.partition(':rank-')[0]}:rank-{rank}", starts=(ends[one.search],), further=0)
        for one in lower
    ]
    return [_begun_within(again, trial) for trial in again]


def _shared(trials: Mapping[str, Trial]) -> tuple[Trial, ...]:
    """Trials by id, those marked that are the same as one before but for their claim: such as random Locations, which claims of
    one size draw alike."""
    first: dict[Trial, str] = {}
    alike = {identity: first.setdefault(replace(trial, claim=""), identity) for identity, trial in trials.items()}
    return tuple(replace(trial, again="" if alike[one] == one else alike[one]) for one, trial in trials.items())


def _begun_within(trials: Sequence[Trial], outer: Trial) -> Trial:
    """Ceiling and complement, searched for from places inside them as well: the claims, and each one's first random Locations.

    A place contains every edit of a place inside it, so its optimum is no worse; a local search from there cannot end above.
    """
    if outer.role not in OUTER or outer.recipe is None or outer.recipe.search != "newton":
        return outer
    sites = set(outer.location.sites)
    inside: dict[tuple[str, str], list[str]] = {}
    for trial in trials:
        alike = trial.recipe is not None and trial.recipe.tau == outer.recipe.tau and trial.read == outer.read
        whole = trial.role in ("claim", "random") and not trial.shorter
        if whole and alike and holds(sites, trial.location.sites):
            inside.setdefault((trial.claim, trial.role), []).append(trial.id)
    starts = (trial for (_, role), ids in inside.items() for trial in (ids if role == "claim" else ids[:FIRST]))
    return replace(outer, starts=(*outer.starts, *starts))


def strengths(fixed: EditKind, config: AuditConfig) -> tuple[float | None, ...]:
    """The strengths at which a fixed edit is tried; None alone where it has none."""
    return config.iti_strengths if fixed.strengths is None else fixed.strengths or (None,)


def _grid(config: AuditConfig, trial: Trial) -> list[Trial]:
    """The trial under every tau, learning rate and seed."""
    fields = {name: getattr(trial, name) for name in trial.__dataclass_fields__}
    grid = []
    newton = config.search == "newton"
    assert config.taus != "auto", "values of tau"
    lengths = (config.rounds, *config.lengths) if newton else (0,)
    rates = (0.0,) if newton else config.lr_multipliers
    for tau, scale, number, rounds in product(config.taus, rates, range(config.seeds), lengths):
        recipe = TrainingRecipe(
            tau=tau,
            lr=0.0 if newton else learning_rate(len(trial.location), scale),
            objective=config.objective,
            reduce=config.reduce,
            epochs=config.epochs,
            batch=config.batch,
            batching=config.batching,
            seed=config.seed + number,
            search=config.search,
            rounds=rounds,
        )
        shorter = rounds < config.rounds and newton
        further = 0 if shorter else trial.further
        grid.append(Trial(**{**fields, "recipe": recipe, "seed": config.seed + number, "shorter": shorter, "further": further}))
    return grid


def _banks(trials: tuple[Trial, ...], config: AuditConfig, layout: Layout, budget: MemoryBudget) -> list[list[Trial]]:
    """Trials that run together: alike in what a bank shares, neighbours in the first layer they edit.

    Random Locations come last, look by look in the order in which they were drawn, so that a sequential audit can stop; those
    from which ceiling or complement are searched for come before these. Edits of a higher rank follow those of a lower one.
    """
    shorter: dict[tuple[Any, ...], list[Trial]] = {}
    again: dict[str, list[Trial]] = {}
    original = {trial.id: trial.again or trial.id for trial in trials}
    for trial in trials:
        if trial.again:
            again.setdefault(trial.again, []).append(trial)
        elif trial.shorter:
            shorter.setdefault(trial.search, []).append(trial)
    trials = tuple(trial for trial in trials if not trial.shorter and not trial.again)
    needed = {original[identity] for trial in trials if trial.role in OUTER for identity in trial.starts}
    order: dict[tuple[Any, ...], list[str]] = {}
    for trial in trials:
        if trial.role in DRAWN and trial.arm not in (arms := order.setdefault(_drawn(trial), [])):
            arms.append(trial.arm)
    planned = config.looks
    groups: dict[Any, list[Trial]] = {}
    for trial in trials:
        look = 0
        if trial.role in DRAWN and trial.id not in needed:
            place = order[_drawn(trial)].index(trial.arm)
            look = 1 + next(index for index, count in enumerate(planned) if place < count)
        when = (look, trial.rank, trial.role in OUTER and bool(trial.starts))
        key = (when, trial.recipe.shared if trial.recipe else (trial.edit,), trial.role in DRAWN[1:])
        groups.setdefault(key, []).append(trial)
    most, nbytes = (budget.edits, budget.nbytes) if config.bank is None else (config.bank, math.inf)

    def fits(bank: list[Trial]) -> bool:
        limit = most * FIXED if bank[0].recipe is None and config.bank is None else most
        return len(bank) == 1 or (len(bank) <= limit and sum(budget.takes(one, layout) for one in bank) <= nbytes)

    banks: list[list[Trial]] = []
    for key in sorted(groups, key=lambda key: key[0]):  # stable: plan order within a look
        banks += _filled(sorted(groups[key], key=lambda trial: trial.first_layer), fits)  # stable: plan order within a layer
    if budget.apart and config.bank is None and len(banks) > 2:
        banks[-1:] = [[trial] for trial in banks[-1]]
    whole = [[*bank, *(one for trial in bank for one in shorter.get(trial.search, ()))] for bank in banks]
    return [[*bank, *(one for trial in bank for one in again.get(trial.id, ()))] for bank in whole]


def _drawn(trial: Trial) -> tuple[Any, ...]:
    """What random Locations that were drawn together have in common."""
    return (trial.role, trial.claim, trial.read, trial.rank)


def _filled(trials: list[Trial], fits: Callable[[list[Trial]], bool]) -> list[list[Trial]]:
    """As few banks as hold the trials in order; alike in size if they fit so, since the last ones run side by side."""
    banks: list[list[Trial]] = [[]]
    for trial in trials:
        if fits([*banks[-1], trial]):
            banks[-1].append(trial)
        else:
            banks.append([trial])
    size, larger = divmod(len(trials), len(banks))
    ends = [number * size + min(number, larger) for number in range(len(banks) + 1)]
    alike = [trials[start:end] for start, end in pairwise(ends)]
    return alike if all(map(fits, alike)) else banks
