"""Plan a recorded run anew: its trials follow from its settings, its claims and the model's sizes, and need no model.

Whoever makes a run folder can write any hash into it. So what a plan lists is not believed but made again, and compared: a claim
that was moved, a random Location that was chosen by hand, a trial left out or added.
"""

import json
from collections import Counter
from collections.abc import Sequence
from math import prod

from locus.claims.claim import Claim
from locus.claims.direction import vectors_of
from locus.claims.given import is_heuristic, spelled
from locus.edits.kind import kind
from locus.errors import UserError, VerificationError
from locus.models.layout import Layout
from locus.plan.config import AuditConfig
from locus.plan.population import bounded
from locus.plan.trials import strengths, trials_of
from locus.records.base import JsonObject
from locus.records.plan import PlanRecord, TrialRecord
from locus.sites.kind import kind_of
from locus.sites.site import Location, Site
from locus.sites.space import SiteSpace, space_of

GRIDS = ("taus", "lr_multipliers", "lengths", "iti_strengths", "reads", "full_forms")


def claims_of(recorded: PlanRecord) -> list[Claim]:
    """The claims as the plan has them, whose sources are not looked at again.

    Raises:
        VerificationError: if they cannot be read.
    """
    try:
        claims = [Claim(one.name, Location.parse(one.location), one.origin, one.scores, one.about) for one in recorded.claims]
        vectors_of(claims)  # what they hold is what they are known by
        return claims
    except (LookupError, TypeError, ValueError, AttributeError, UserError) as error:
        raise VerificationError(f"the plan's claims cannot be read ({type(error).__name__})") from error


def places_of(recorded: PlanRecord) -> tuple[SiteSpace, AuditConfig]:
    """The places that a plan's claims are among, and its settings with no more random Locations than there are.

    Raises:
        VerificationError: if its claims are of several kinds, or of one that its model lacks.
    """
    places = [claim.location for claim in claims_of(recorded)]
    try:
        space = space_of(places, _layout(recorded))
    except UserError as error:
        raise VerificationError(f"the plan's claims are none about its model: expected {error.expected}") from error
    return space, bounded(AuditConfig.recorded(recorded.config), space, places)


def planned(recorded: PlanRecord) -> list[JsonObject]:
    """The trials that a plan's settings make of its claims, as a plan lists them.

    Raises:
        VerificationError: if the plan lists far fewer trials than that, or its claims are no claims about its model.
    """
    config, layout, claims = _once(AuditConfig.recorded(recorded.config)), _layout(recorded), claims_of(recorded)
    if (config.taus == "auto") != (recorded.taus is not None):
        raise VerificationError("the plan says which tau the model asks for just where its settings do not leave it to that")
    config = config.with_taus(recorded.taus or ())
    try:
        space = space_of([claim.location for claim in claims], layout)
        for claim in claims:
            claim.check(str(recorded.context.get("model")), space, carried=config.twin is not None)
        config = bounded(config, space, [claim.location for claim in claims])
        _bearable(config, space, claims, recorded.trials)
        made = trials_of(config, layout, claims, recorded.context)
    except UserError as error:
        raise VerificationError(
            f"the plan's trials do not follow from it: expected {error.expected}; {error.received}"
        ) from error
    listed: list[JsonObject] = json.loads(json.dumps([{"id": trial.id, **trial.to_dict()} for trial in made]))
    return listed


def check_claims(recorded: PlanRecord) -> tuple[str, ...]:
    """See that a plan's claims are those that its settings name, as far as the settings say it.

    Returns:
        The names of the claims whose sites the settings do not say: those of files, of what patching found, and
        of other packages' heuristics.

    Raises:
        VerificationError: with the first that is another.
    """
    config, claims, open_ones = AuditConfig.recorded(recorded.config), claims_of(recorded), []
    if len(claims) != len(config.claims):
        raise VerificationError(f"the plan audits {len(claims)} claim(s), its settings name {len(config.claims)}")
    for source, claim in zip(config.claims, claims, strict=True):
        if source == "probe":
            _probed(claim, config.claim_size, _layout(recorded))
            if config.site_kind and claim.location.kind != kind_of(config.site_kind).name:
                raise VerificationError(f"the plan's claim {claim.name!r} is not of the kind of site that its settings name")
            continue
        try:
            named = None if is_heuristic(source) else spelled(source)
        except UserError:
            named = None  # an earlier version may have read it
        if named is None:
            open_ones.append(claim.name)
        elif named.location != claim.location:
            raise VerificationError(f"the plan's claim {claim.name!r} is of other sites than its settings name: {claim.location}")
    return tuple(open_ones)


def _probed(claim: Claim, size: int, layout: Layout) -> None:
    """Hold a probe's claim against the scores by which it says it was chosen."""
    space = SiteSpace.of(claim.location.kind, layout)
    sites = space.probed
    try:
        best: list[Site] = sorted(sites, key=lambda site: -claim.scores[str(site)])[:size]  # stable, as where it was made
    except KeyError as error:
        raise VerificationError(f"the plan's claim {claim.name!r} has no score of {space.kind.noun} {error.args[0]}") from error
    if Location.of(best) != claim.location or claim.origin != "probe" or len(claim.scores) != len(sites):
        raise VerificationError(f"the plan's claim {claim.name!r} is not of the {size} {space.kind.noun}(s) with the best scores")


def _layout(recorded: PlanRecord) -> Layout:
    try:
        return Layout.from_dict(recorded.model.anatomy.to_json())
    except TypeError as error:
        raise VerificationError(f"the plan's model has sizes that locus does not know: {str(error)[:160]}") from error


def _places(config: AuditConfig) -> int:
    """Trained edits of a claim in each read mode: at it, everywhere but there, and at random Locations."""
    return 2 + config.random * len(config.nulls) + len(config.ranks) * (2 + config.random)


def _once(config: AuditConfig) -> AuditConfig:
    """The settings with every value of a grid once: a second one makes the same trials."""
    grids = {name: values for name in GRIDS if isinstance(values := getattr(config, name), tuple)}
    return config.model_copy(update={name: tuple(dict.fromkeys(values)) for name, values in grids.items()})


def _bearable(config: AuditConfig, space: SiteSpace, claims: list[Claim], listed: Sequence[TrialRecord]) -> None:
    """Refuse settings that make far more trials than the plan lists, before making them."""
    grid = config.grid * config.seeds
    steered = 1 + min(config.shift_random, config.random)
    fixed = sum(len(strengths(kind(name), config)) for name in config.steering)
    each = steered * fixed + len(config.reads) * grid * _places(config)
    whole = 1 + fixed * config.shift_everywhere
    whole += grid * (len(config.full_forms) * (1 + len(config.ranks)) + len(config.reads) * config.singles)
    # Claims of one name share the random Locations that they have in common.
    alike = max(Counter(claim.name for claim in claims).values())
    names = len(space.everywhere.names)
    sites = prod((names, len(claims), len(config.reads)))  # a claim, and everywhere but there
    if each * len(claims) + whole > len(listed) * alike or sites > alike * sum(len(trial.location) for trial in listed):
        raise VerificationError("the plan lists fewer trials than its settings make")
