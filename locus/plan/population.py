"""Of which kind of site an audit is, and how many places of it there are to hold a claim against.

Where fewer places exist than random Locations were asked for, all of them are taken: the rank among them is exact, and its least
p is one in as many as there are. A level that no rank can reach is refused before anything is run.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from locus import claims
from locus.claims.claim import Claim
from locus.errors import UserError
from locus.models.checkpoint import SIZES, read_config, size
from locus.plan.config import AuditConfig
from locus.sites.kind import SiteKind, default, kind_of
from locus.sites.names import one_kind
from locus.sites.site import Location
from locus.sites.space import SiteSpace

Places = Callable[[SiteKind], SiteSpace | None]  # of a kind in a model; None where that is not known yet


def kind_asked(config: AuditConfig, opened: Mapping[str, Claim] | None = None) -> SiteKind:
    """The one kind of site that the claims are of; a heuristic finds its own among those that the settings or others name.

    Args:
        config: the settings.
        opened: claims that are open already, by their source.

    Raises:
        UserError: if claims are of several kinds, or cannot be read; or if there is no such kind as the settings name.
    """
    named = [(opened or {}).get(source) or claims.given(source) for source in config.claims if _states(source, opened)]
    asked = {kind_of(config.site_kind).name} if config.site_kind else set()
    return kind_of(one) if (one := one_kind(asked | {claim.location.kind for claim in named})) else default()


def _states(source: str, opened: Mapping[str, Claim] | None) -> bool:
    return source in (opened or {}) or not claims.is_heuristic(source)


def bounded(config: AuditConfig, space: SiteSpace, locations: Sequence[Location]) -> AuditConfig:
    """The settings with no more random Locations than there are places, whatever the way in which they are drawn.

    Where the kind has ways of its own in which they are drawn, it is these.
    """
    config = config.model_copy(update={"null": "own"}) if space.kind.nulls and config.null == "uniform" else config
    there = min((space.capacity(one, match) for one in locations for match in config.nulls), default=config.random)
    return config if config.random <= there else config.model_copy(update={"random": there})


def levels(config: AuditConfig) -> list[UserError]:
    """A rank test on N random Locations cannot go below 1 / (1 + N); who asks for none asks for no test."""
    if not config.random or 1 / (1 + config.random) <= config.alpha / config.sharing:
        return []  # plainly enough, and no statistics need be imported to say so
    from locus import stats

    least = stats.least_random_for(config.alpha, config.sharing)
    if config.random >= least:
        return []
    return [
        UserError(
            f"at least {least} random Locations for a rank test at alpha = {config.alpha:g} with {config.sharing} claim(s)",
            f"{config.random}, with which no p below {stats.smallest_p(config.random):.3f} is possible",
            f"Use random = {least}, or an alpha of at least {_enough(config.random, config.sharing)}.",
        )
    ]


def _enough(random: int, claims: int) -> str:
    """The least level that a rank among so many random Locations reaches for each of some claims, in three digits upwards."""
    return f"{math.ceil(1000 * claims / (1 + random) - 1e-9) / 1000:g}"


def check(config: AuditConfig, space: SiteSpace, locations: Sequence[Location]) -> None:
    """Refuse a null that this kind does not have, or so few places that no rank among them reaches the level.

    Raises:
        UserError: saying how many there are, and what could be asked for.
    """
    config = config.model_copy(update={"null": bounded(config, space, locations).null})
    if unknown := [match for match in config.nulls if match not in space.matches]:
        wanted = f"random Locations that {space.kind.nouns} have: {', '.join(space.matches)}"
        raise UserError(wanted, ", ".join(unknown), f"A layer has one {space.kind.noun}: use --set null=uniform.")
    if space.kind.around and config.shift_everywhere:
        remedy = "Leave shift_everywhere out."
        raise UserError(f"a shift at claimed and at random {space.kind.nouns}", "shift_everywhere, along none", remedy)
    there = bounded(config, space, locations).random
    if there == config.random:
        return
    from locus import stats  # slow to import

    level = config.alpha / config.sharing
    scarce = min(config.nulls, key=lambda match: min(space.capacity(one, match) for one in locations))
    where = f"{space}" if scarce == "uniform" else f"those with as many {space.kind.nouns} in each layer"
    if stats.smallest_p(there) > level:
        raise UserError(
            f"at least {stats.least_random_for(config.alpha, config.sharing)} places to hold the claim against, for a rank "
            f"test at alpha = {config.alpha:g} with {config.sharing} claim(s)",
            f"{there} besides the claim's own among {where}, with which no p below {stats.smallest_p(there):.3f} is possible",
            f"Use an alpha of at least {_enough(there, config.sharing)}, another claim, or random = 0: no such test.",
        )


def foreseen(sizes: Mapping[str, int | None]) -> Places:
    """The places that a model of some sizes has, before it is loaded."""

    def places(kind: SiteKind) -> SiteSpace | None:
        counts = kind.foreseen(sizes)
        return None if counts is None else SiteSpace(kind, counts)

    return places


def foreseen_in(folder: str) -> Places:
    """The places that a folder's config.json speaks of, by any name that sizes go by; unknown if it does not say, or if layers
    may differ in them, which is seen where the model is loaded."""
    config = read_config(Path(folder) / "config.json")
    kinds = config.get("layer_types")
    alike = not isinstance(kinds, list) or all(kind == kinds[0] for kind in kinds)
    alike = alike and "layers_block_type" not in config
    return foreseen({what: size(config, what) for what in SIZES} if alike else {})
