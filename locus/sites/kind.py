"""What a kind of site is: how its sites are written, how many a model has, and which slice of which vector each one is.

The flow asks these of whatever a claim names, and never which kind it is. Ours stand in a file each; another package's come
through the entry points `locus.sites`, a script's through `registry.register`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

from locus import registry
from locus.sites import positions


class Sizes(Protocol):
    """What a kind may ask of a model's sizes (`models.layout.Layout`)."""

    @property
    def n_layers(self) -> int:
        """Layers."""
        ...

    @property
    def heads(self) -> tuple[int, ...]:
        """Query heads of each layer."""
        ...

    def width(self, point: str, layer: int) -> int:
        """Width of the vector at a point of a layer; 0 where there is none."""
        ...


@dataclass(frozen=True)
class SiteKind:
    """One kind of site.

    Attributes:
        name: in the registry, plans and verdicts.
        noun, nouns: one of them in words, and several.
        notations: how one is written, {} for each number; the first is the one that we write.
        point: of a layer, where its edits act (`models.points`).
        counts: how many sites each layer has.
        columns: of the vector at its point in a layer, those that are one site's, by its index.
        foreseen: how many sites each layer has by a configuration's sizes (layers, heads, inner width), before a model is loaded;
            None where these do not say.
        written: what an edit of it writes: the sites' slices of the vector at its point; or, of all of it, one direction alone
            (along), or all but one (off).
        around: of what is written along a direction, the kind that stands for all that is off it.
        nulls: how random Locations are drawn of it, where that is not among the model's own sites; the claim must beat the first
            two, and what stands behind them is for comparison.
        by_name: whether a claim is made by writing its sites; a direction's is made of a vector.
        runs: whether neighbours are written as one, `n12.0-511`.
        calibrated: whether the error rates of its verdicts were measured, on planted models where the truth is known; without,
            an audit ends in numbers and no standing.
        filed: under which key files list its sites.
        at: the tokens at which its edits act (`positions`). Sites elsewhere are of another kind, `mlp@subject`, whose ceiling,
            complement and random Locations act where the claim does.
    """

    name: str
    noun: str
    nouns: str
    notations: tuple[str, ...]
    point: str
    counts: Callable[[Any], tuple[int, ...]]
    columns: Callable[[Any, int, int], slice]
    foreseen: Callable[[Mapping[str, int | None]], tuple[int, ...] | None] = lambda sizes: None
    written: Literal["slices", "along", "off"] = "slices"
    around: str = ""
    nulls: tuple[str, ...] = ()
    by_name: bool = True
    runs: bool = False
    calibrated: bool = False
    filed: str = "sites"
    at: str = positions.ALL

    def __reduce__(self) -> tuple[Callable[[str], "SiteKind"], tuple[str]]:
        """By its name, in a process that knows it."""
        return kind_of, (self.name,)

    @property
    def plain(self) -> "SiteKind":
        """The same sites, at all tokens."""
        return kind_of(self.name.partition("@")[0])

    def acting(self, at: str) -> "SiteKind":
        """The same sites, at some tokens.

        Raises:
            UserError: if no positions are called so.
        """
        if positions.known(at) == positions.ALL:
            return self.plain
        where, own = positions.words(at), self.plain
        return replace(
            own,
            name=f"{own.name}@{at}",
            noun=f"{own.noun} {where}",
            nouns=f"{own.nouns} {where}",
            notations=tuple(f"{notation}@{at}" for notation in own.notations),
            around=own.around and f"{own.around}@{at}",
            calibrated=False,  # of which nobody has measured the errors
            at=at,
        )

    def counted(self, number: int) -> str:
        """So many of them in words: "1 head", "4 heads"."""
        return f"{number} {self.noun if number == 1 else self.nouns}"


def whole(point: str) -> Callable[[Any], tuple[int, ...]]:
    """The counts of a kind of which each layer that has a point has one site: all of its vector."""
    return lambda sizes: tuple(int(sizes.width(point, layer) > 0) for layer in range(sizes.n_layers))


def whole_columns(sizes: Any, layer: int, index: int) -> slice:
    """All of a vector."""
    return slice(None)


def one_a_layer(sizes: Mapping[str, int | None]) -> tuple[int, ...] | None:
    """One site in each layer, as far as a configuration says how many layers there are."""
    return (1,) * layers if (layers := sizes.get("layers")) else None


def kind_of(name: str) -> SiteKind:
    """A kind of site by its name, `mlp`, or `mlp@subject` where it acts at some tokens alone.

    Raises:
        UserError: if there is none of the name, suggesting the nearest; or what is registered is no kind of it.
    """
    plain, at, where = name.partition("@")
    own = registry.one_of("sites", plain, SiteKind)
    return own.acting(where) if at else own


def kinds() -> list[SiteKind]:
    """All that are known."""
    return [kind_of(name) for name in registry.entries("sites")]


def along() -> SiteKind:
    """The kind of which a vector makes a site."""
    return next(kind for kind in kinds() if kind.written == "along")


def default() -> SiteKind:
    """The kind of a claim that nobody has named a site of: the first."""
    return kinds()[0]
