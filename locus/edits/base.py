"""What an edit is: for every layer it touches, an affine change of the vector at one point of the model.

With o the vector [width] at that point (the concatenated head outputs, an MLP's neurons, what a module gives, the stream) of one
position, an edit replaces

    o  by  keep * o + shift + sum_i <read_i, o> write_i          and          W o'  by  W o' + sum_i <read_i, o> out_i,

each term optional, the last where the point is the input of a linear map W. Ablation is `keep` (and `shift` for the mean), ITI
is `shift`, an edit of rank k is k pairs of `read` and `write`, and the free parametrisation of full alignment writes to `out`.
One form for all kinds of edits and of sites is what lets a bank mix them.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from locus import atomic
from locus.boundary import incoming
from locus.errors import UserError
from locus.models.layout import HEADS, Layout
from locus.sites import positions as tokens
from locus.sites.kind import kind_of
from locus.sites.site import Location
from locus.sites.space import SiteSpace

Positions = str  # `sites.positions`: all, answer, last, or the name of a span
TERMS = ("keep", "shift", "read", "write", "out")
PAIRED = ("read", "write", "out")  # of as many rows as the edit's rank
FORMAT = "locus-edit/1"
MOST_BYTES = 1 << 30


@dataclass(frozen=True)
class Terms:
    """The change in one layer; None is a term that is not there.

    Attributes:
        keep: [width], multiplies o; 1 where nothing is ablated.
        shift: [width], added to o.
        read: [k, width], a by row; inner products with o are the k scalars that a position yields.
        write: [k, width], b by row, zero outside the edited sites.
        out: [k, d_model], what the scalars add to what the map behind the point gives (free parametrisation).

    A vector in place of one of the last three is its only row: an edit of rank 1.
    """

    keep: Tensor | None = None
    shift: Tensor | None = None
    read: Tensor | None = None
    write: Tensor | None = None
    out: Tensor | None = None

    def __post_init__(self) -> None:
        for name in PAIRED:
            if (value := getattr(self, name)) is not None and value.ndim == 1:
                object.__setattr__(self, name, value[None])


@dataclass
class Edit:
    """An edit with fixed terms.

    Attributes:
        kind: shift, rank1, full, complement, ablate, ...
        location: the sites it may write to, whose kind says at which point of the model it acts.
        layout: of the model it was made for.
        layers: its terms by layer.
        positions: every one, from the last prompt token on, that alone, or the last one of a span that questions mark.
        about: how it was made (alpha, tau, learning rate, seed, read mode ...), saved with it.
    """

    kind: str
    location: Location
    layout: Layout
    layers: Mapping[int, Terms]
    positions: Positions = "all"
    about: dict[str, Any] = field(default_factory=dict)

    @property
    def trainable(self) -> bool:
        """Whether its terms can still change."""
        return False

    @property
    def point(self) -> str:
        """Where in a layer it acts."""
        return kind_of(self.location.kind).point if self.location.sites else HEADS

    @property
    def first_layer(self) -> int:
        """The first layer it touches: everything below runs as in the base model."""
        return min(self.layers) if self.layers else self.layout.n_layers - 1

    def terms(self, layer: int) -> Terms | None:
        """Its terms in a layer, or None."""
        return self.layers.get(layer)

    def content(self) -> bytes:
        """As the bytes of a safetensors file, with everything needed to read it back in its metadata; what has one row, as it."""
        tensors = {
            f"{layer}.{name}": _plain(name, getattr(terms, name)).detach().float().contiguous().cpu()
            for layer, terms in sorted(self.layers.items())
            for name in TERMS
            if getattr(terms, name) is not None
        }
        about = {
            "kind": self.kind,
            "location": self.location.names,
            "anatomy": self.layout.to_dict(self.point),
            "positions": self.positions,
            "about": self.about,
        }
        return save(tensors, {"format": FORMAT, "edit": json.dumps(about, sort_keys=True)})

    def save(self, path: Path) -> None:
        """Write it as a file, whole or not at all."""
        atomic.replace(path, self.content())


def _plain(name: str, value: Tensor) -> Tensor:
    """A term as a file has it."""
    return value[0] if name in PAIRED and len(value) == 1 else value


class Trainable(Edit):
    """An edit whose terms follow from one flat float32 parameter, which training moves from the identity.

    Attributes:
        flat: the parameter; `layers` gives the terms as they are now, differentiable in it.
    """

    flat: torch.nn.Parameter

    @property
    def trainable(self) -> bool:
        """Until it is frozen, training moves it."""
        return True

    def frozen(self, about: dict[str, object]) -> Edit:
        """A copy with fixed terms and a note of how it was made."""
        layers = {}
        for layer in self.layers:
            terms = self.terms(layer)
            assert terms is not None, "a layer that is edited has terms"
            layers[layer] = Terms(
                **{name: None if value is None else value.detach().clone() for name, value in vars(terms).items()}
            )
        return Edit(self.kind, self.location, self.layout, layers, self.positions, {**self.about, **about})


def load_edit(path: Path) -> Edit:
    """Read an edit that `Edit.save` wrote.

    Raises:
        UserError: if the file is missing or is not such an edit.
    """
    content = incoming.read_bytes(path, "a saved edit (safetensors)", MOST_BYTES)
    try:
        length = int.from_bytes(content[:8], "little")
        metadata = incoming.parse_json(content[8 : 8 + length]).get("__metadata__", {})
        tensors = load(content)
    except (ValueError, AttributeError, SafetensorError) as error:
        raise UserError("a saved edit (safetensors)", f"{path} ({error})", "Check the path.") from error
    if metadata.get("format") != FORMAT:
        raise UserError(f"an edit in the format {FORMAT}", f"{metadata.get('format')!r} in {path}", "Save it with locus.")
    try:
        return _edit_of(incoming.parse_json(metadata["edit"]), tensors)
    except (ValueError, LookupError, TypeError, AttributeError, UserError) as error:
        raise UserError("an edit as locus saves it", f"{path} ({type(error).__name__}: {error})", "Save it again.") from error


def _edit_of(about: dict[str, Any], tensors: dict[str, Tensor]) -> Edit:
    """An edit from what a file says of it; terms of another size, or not finite, are those of no edit."""
    layout = Layout.from_dict(about["anatomy"])
    location = Location.parse(about["location"]) if about["location"] else Location(())
    point = HEADS
    if location.sites:
        space = SiteSpace.of(location.kind, layout)
        space.check(location)
        point = space.kind.point
    layers: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        layer, name = key.split(".")
        within = int(layer) in range(layout.n_layers)
        size = layout.d_model if name == "out" else layout.width(point, int(layer)) if within else 0
        rows = len(tensor) if name in PAIRED and tensor.ndim == 2 else 1
        plain = tensor.shape == (size,) or (tensor.shape == (rows, size) and 1 < rows <= size)
        if name not in TERMS or not within or not plain:
            raise ValueError(f"a tensor {key[:80]!r} of shape {tuple(tensor.shape)}")
        if not bool(tensor.isfinite().all()):
            raise ValueError(f"a tensor {key[:80]!r} that is not finite")
        layers.setdefault(int(layer), {})[name] = tensor
    if not tokens.SPAN.fullmatch(about["positions"]) or not isinstance(about["about"], dict):
        raise ValueError("neither positions nor what it is about")
    terms = {layer: Terms(**tensors_of_layer) for layer, tensors_of_layer in layers.items()}
    for one in terms.values():
        if len({len(getattr(one, name)) for name in PAIRED if getattr(one, name) is not None}) > 1:
            raise ValueError("terms of several ranks in a layer")
    return Edit(str(about["kind"]), location, layout, terms, about["positions"], about["about"])


def acting(location: Location, usual: Positions) -> Positions:
    """Where an edit at a Location acts: as its sites say, or as usual where these are sites at all tokens."""
    at = kind_of(location.kind).at if location.sites else tokens.ALL
    return usual if at == tokens.ALL else at


def site_mask(layout: Layout, location: Location, layer: int) -> Tensor:
    """[width] of ones on the slices of a Location's sites in a layer and zeros elsewhere."""
    own = kind_of(location.kind)
    mask = torch.zeros(layout.width(own.point, layer))
    for index in location.indices(layer):
        mask[own.columns(layout, layer, index)] = 1.0
    return mask
