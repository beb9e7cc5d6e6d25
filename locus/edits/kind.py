"""What a kind of edit is: how it is made at a place, whether it is trained, and which kind it is at all heads, or at all others.

The flow asks these of whatever the settings `edit` and `steering` name. Another package's kind comes through the entry points
`locus.edits`, a script's through `registry.register`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from locus import registry
from locus.edits.base import Edit, Positions
from locus.models.layout import Layout
from locus.sites.site import Location


@dataclass(frozen=True)
class Place:
    """What an edit is made of.

    Attributes:
        layout: of the model.
        location: the heads that it may write to.
        read: what a trained edit reads (layer, heads, constant); "" for one that is not trained.
        form: of full alignment (heads, free); "" elsewhere.
        strength: of a fixed edit, if it has any.
        seed: of the start.
        directions: `edits.Directions`, class-mean differences of every head's outputs with their spread.
    """

    layout: Layout
    location: Location
    read: str = ""
    form: str = ""
    strength: float | None = None
    seed: int = 0
    directions: Any = None


@dataclass(frozen=True)
class EditKind:
    """One kind of edit.

    Attributes:
        name: in settings and plans.
        make: the edit at a place: trainable and at the identity where it is trained, else with fixed terms.
        trained: whether it is trained (`base.Trainable`), or fixed from the start.
        anywhere: whether it can be made at any heads, and so be asked for; what is only another's `everywhere` or
            `rest` cannot.
        positions: where it acts; several that act on answers only share what leads to these.
        everywhere: the kind that is this one at all heads, the ceiling; "" if it is itself.
        rest: the kind that is this one everywhere but at the claim; "" if it is itself.
        strengths: of a fixed edit, each tried; None for those of the setting `iti_strengths`, empty where it has none.
        searched: whether it is a rank-1 edit, whose optimum the newton search finds.
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
