"""Claims as the front door takes them: given, found by probing, or from a patching run."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from locus.claims.claim import Claim
from locus.claims.direction import claim_of, unit
from locus.claims.given import given, said
from locus.claims.published import Choice, Published, Rank
from locus.door.asked import asked
from locus.door.showing import Wanted, showing
from locus.sites.kind import default, kind_of

if TYPE_CHECKING:
    from locus.door.behaviour import Behaviour
    from locus.models.model import Model


def claim(
    source: str | Path | Iterable[Any],
    name: str | None = None,
    *,
    size: int | Literal["all"] | None = None,
    budget: float | None = None,
    rank: Rank | None = None,
) -> Claim:
    """A claim that somebody made: where the behaviour is said to live.

    Args:
        source: heads as `12.3,14.0` or `L12H3`, neurons as `n12.345`, modules as `attn.3` or `mlp.12`, the stream entering a
            layer as `resid.10`, a direction of it as `FILE.npy@12` or `means@12`; a list of these, all of one kind, or of
            (layer, head) counted from zero; a file of them (JSON, .npy, or one a line), or of scores in a published shape
            (docs/claims.md); or `patch:DIR` of a patching run.
        name: what tables call it.
        size: of a file of scores, so many of the highest, or "all".
        budget: instead, this share of the heads that have a score.
        rank: largest or absolute, by value or by magnitude; needed only where scores are negative and the shape does not say.

    Raises:
        UserError: if it cannot be read as sites of one kind in exactly one way, or a file has scores and no size was said.

    Example:
        >>> import locus
        >>> locus.claim("12.3,14.0").location.names
        ['12.3', '14.0']
        >>> locus.claim([(12, 3), (14, 0)], name="mine").name
        'mine'
    """
    if not isinstance(source, str | Path):
        source = ",".join(".".join(map(str, one)) if isinstance(one, tuple | list) else str(one) for one in source)
    made = given(str(source), Choice(size, budget, rank))
    return made if name is None else replace(made, name=name)


def direction(vector: Any, layer: int | Sequence[int], name: str = "vector") -> Claim:
    """A claim that a behaviour lies along a direction of the residual stream.

    Args:
        vector: of [d_model] numbers, an array or a tensor; taken to unit length.
        layer: whose entering stream is meant, counted from zero; or several.
        name: what tables call it.

    Raises:
        UserError: if it has no length, or numbers that are not finite.

    Example:
        >>> import locus
        >>> locus.direction([0.6, 0.8], layer=12).location.layers
        (12,)
    """
    own = unit(vector.detach().float().cpu().numpy() if hasattr(vector, "detach") else vector, repr(name))
    return claim_of([(one, own) for one in ([layer] if isinstance(layer, int) else layer)], name, {})


def published(source: str | Path) -> Published:
    """What a file or folder of somebody's claim says, before anything is chosen of it.

    Args:
        source: as of `claim`.

    Returns:
        Its `scores` by site, the heads that it itself `named`, its `directions`, what is `about` it; `ranked()` has the heads'
        scores, the highest first, and `claim(size=16)` makes the claim.

    Raises:
        UserError: if it cannot be read.

    Example:
        >>> import locus
        >>> locus.published("12.3,14.0").named
        ('12.3', '14.0')
    """
    return said(str(source))[0]


def probe(
    model: "str | Model | None" = None,
    behaviour: "str | Behaviour | Any | None" = None,
    *,
    kind: str | None = None,
    size: int | None = None,
    adapter: str | None = None,
    preset: str = "quick",
    config: str | Path | None = None,
    seed: int | None = None,
    progress: Wanted = None,
    **settings: Any,
) -> Claim:
    """Find a claim by probing: the heads, or other sites, that tell wanted answers from unwanted ones best, on validation data.

    Args:
        model: a name, or as `load` or `wrap` give it; the default model by default.
        behaviour: a name or path, or anything that `behaviour` takes; `misconceptions`, or a planted model's own, by default.
        kind: of the sites, as `locus list sites` shows them; heads by default.
        size: sites that the claim names; 4 by default, 8 with the preset standard, 16 with paper.
        adapter: none, merged, or an adapter's folder, where one lies beside the weights of a model by name.
        preset: quick, standard or paper, by which the numbers of questions are chosen.
        config: a TOML file with any of the settings.
        seed: of splits, and of a planted model named without one.
        progress: as of `audit`.
        settings: any other setting of an audit, by name.

    Returns:
        The claim; its `scores` are the validation accuracy of every site, as a fraction of answers, best first.

    Raises:
        UserError: for everything that the user can fix.

    Example:
        >>> import locus
        >>> found = locus.probe("planted:localized:3", size=1, progress=False)
        >>> found.location.names
        ['1.1']

    Source: Li et al. 2023, section 3.
    """
    asked_for = {"claim_size": size, "adapter": adapter, "seed": seed, **settings}
    resolved, opened = asked(model, behaviour, None, preset, config, asked_for)
    own = kind_of(kind or resolved.site_kind) if kind or resolved.site_kind else default()
    from locus.plan.preconditions import early

    early(resolved, opened=opened)
    from locus.plan.opened import NOTHING
    from locus.run.setup import find_claim

    with showing(progress) as say:
        made = find_claim(resolved, say, opened or NOTHING, own)
    return made
