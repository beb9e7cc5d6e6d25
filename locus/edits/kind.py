"""What a kind of edit is: how it is made at a place, whether it is trained, and which kind it is everywhere, or everywhere else.

The flow asks these of whatever the settings `edit` and `steering` name. Another package's kind comes through the entry points
`locus.edits`, a script's through `registry.register`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from locus import registry
from locus.edits.base import Edit, Positions
from locus.models.layout import Layout
from locus.sites.site import Location
from locus.sites.space import SiteSpace


class Vectors(Protocol):
    """What directions stand for."""

    def __call__(self, layer: int, index: int) -> Tensor:
        """The unit vector [d_model] of a direction of a layer."""
        ...

    def spread(self, layer: int, index: int) -> float:
        """Standard deviation of the stream along it, in its own units."""
        ...


@dataclass(frozen=True)
class Place:
    """What an edit is made of.

    Attributes:
        layout: of the model.
        location: the sites that it may write to, of one kind.
        read: what a trained edit reads (layer, heads: the sites, constant); "" for one that is not trained.
        form: of full alignment (heads: at the sites, free); "" elsewhere.
        strength: of a fixed edit, if it has any.
        seed: of the start.
        rank: of a trained edit whose optimum the newton search finds.
        directions: `edits.Directions`, class-mean differences of what is at every site, with their spread.
        vectors: what claimed directions stand for, where the sites are such.
    """

    layout: Layout
    location: Location
    read: str = ""
    form: str = ""
    strength: float | None = None
    seed: int = 0
    rank: int = 1
    directions: Any = None
    vectors: Vectors | None = None

    @property
    def space(self) -> SiteSpace:
        """The places of the sites' kind in the model."""
        return SiteSpace.of(self.location.kind, self.layout)

    @property
    def layers(self) -> dict[int, tuple[slice, ...]]:
        """By layer, the slices of the sites in the vector [`width`] at their point."""
        space = self.space
        by_layer: dict[int, tuple[slice, ...]] = {}
        for site in self.location.sites:
            by_layer[site.layer] = (*by_layer.get(site.layer, ()), space.columns(site))
        return by_layer

    def width(self, layer: int) -> int:
        """Width of the vector at the sites' point of a layer."""
        return self.layout.width(self.space.kind.point, layer)


@dataclass(frozen=True)
class EditKind:
    """One kind of edit.

    Attributes:
        name: in settings and plans.
        make: the edit at a place: trainable and at the identity where it is trained, else with fixed terms.
        trained: whether it is trained (`base.Trainable`), or fixed from the start.
        anywhere: whether it can be made at any sites, and so be asked for; what is only another's `everywhere` or
            `rest` cannot.
        positions: where it acts at sites at all tokens; several that act on answers only share what leads to these.
        everywhere: the kind that is this one at all sites, the ceiling; "" if it is itself.
        rest: the kind that is this one everywhere but at the claim; "" if it is itself.
        strengths: of a fixed edit, each tried; None for those of the setting `iti_strengths`, empty where it has none.
        searched: whether it is a `Rank1`, of whatever rank a place says, whose optimum the newton search finds.
        called: before the name of the place, in tables; its name by default.
    """

    name: str
    make: Callable[[Place], Edit]
    trained: bool
    anywhere: bool = True
    positions: Positions = "all"
    everywhere: str = ""
    rest: str = ""
    strengths: tuple[float, ...] | None = ()
    searched: bool = False
    called: str = ""


def kind(name: str) -> EditKind:
    """A kind of edit by its name.

    Raises:
        UserError: if there is none of the name, suggesting the nearest; or what is registered is no kind of it.
    """
    return registry.one_of("edits", name, EditKind)
