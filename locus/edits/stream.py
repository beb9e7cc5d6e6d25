"""Edits of the stream that write one vector with a strength: r <- r + (<a, r> + c) v. Along a direction, or off one.

*Along* a direction v only the strength is learned, a and c; a place *off* v learns what it writes as well, any vector that is
orthogonal to v, or any at all where nothing is left out. So whatever an edit along a direction does, one of all the stream can
do: its training loss is never above. All begin at the identity: a = c = 0 along a direction, what is written = 0 off one.

What an edit reads is the stream (`layer`), its own part of it (`heads`: v alone, or what is orthogonal to v), or nothing.
"""

import math
from itertools import accumulate

import torch
from torch import Tensor

from locus.edits.base import Edit, Positions, Terms, Trainable, acting
from locus.edits.kind import EditKind, Place, Vectors
from locus.edits.rank1 import SEEDS, Rank1, Read, _Live
from locus.errors import UserError
from locus.models.layout import Layout
from locus.sites.kind import kind_of
from locus.sites.site import Location


class Stream(Rank1):
    """A trainable edit along a direction of the stream, or off one; one flat float32 parameter holds all its numbers.

    Args:
        layout: of the model.
        location: directions, or what is off them; one a layer.
        vectors: what these are, by layer and index: unit vectors, [d_model].
        read: what the strength is read from: the stream, the site's own part of it, or nothing (a learned constant).
        seed: of the start.
        kind: what the trial calls it.
    """

    def __init__(
        self, layout: Layout, location: Location, vectors: Vectors, read: Read = "layer", seed: int = 0, kind: str = "rank1"
    ):
        about = {"read": read, "form": "heads", "seed": seed}
        Trainable.__init__(self, kind, location, layout, {}, acting(location, "all"), about)
        self.read, self.form = read, "heads"
        self.along = kind_of(location.kind).written == "along"
        assert len(location.layers) == len(location), "one direction a layer"
        self.vectors = {site.layer: vectors(site.layer, site.index) for site in location.sites if self.along or site.index}
        self._widths = {layer: layout.width(self.point, layer) for layer in location.layers}
        self._masks = {layer: torch.ones(width) for layer, width in self._widths.items()}
        own = 1 if self.along else None
        self._n_read = {layer: self._reads(width) for layer, width in self._widths.items()}
        self._n_write = {layer: own or width + (read != "constant") for layer, width in self._widths.items()}
        self._ranks = dict.fromkeys(self._masks, 1)
        sizes = [self._n_read[layer] + self._n_write[layer] for layer in self._masks]
        self._begins = dict(zip(self._masks, accumulate([0, *sizes]), strict=False))
        self.flat = torch.nn.Parameter(self._start(seed))
        self.layers = _Live(self)

    def _reads(self, width: int) -> int:
        """Numbers by which it reads: along a direction that it reads itself, one."""
        return {"layer": width, "heads": 1 if self.along else width, "constant": 0}[self.read]

    @property
    def n_parameters(self) -> int:
        """Numbers that can change the model: of what is orthogonal to a direction, one fewer than there are."""
        bound = 0 if self.along else len(self.vectors) * (2 if self.read == "heads" else 1)
        return self.flat.numel() - bound

    def _start(self, seed: int) -> Tensor:
        blocks = []
        for layer, width in self._widths.items():
            read = torch.zeros(self._n_read[layer])
            if not self.along:
                generator = torch.Generator().manual_seed((seed * 100_003 + layer) % SEEDS)
                bound = 1 / math.sqrt(width)
                read.uniform_(-bound, bound, generator=generator)
            blocks += [read, torch.zeros(self._n_write[layer])]
        return torch.cat(blocks)

    def _off(self, layer: int, vector: Tensor) -> Tensor:
        """[..., d_model] without its part along the layer's direction, if it has one."""
        if layer not in self.vectors:
            return vector
        own = self.vectors[layer].to(vector.device)
        return vector - (vector @ own)[..., None] * own

    def _numbers(self, layer: int) -> tuple[Tensor | None, Tensor | None, Tensor]:
        """What is read, the constant, and what is written; differentiable in `flat`."""
        a, rest = (self.flat[place] for place in self.places(layer))
        if self.along:
            v = self.vectors[layer].to(rest.device)
            return (None if self.read == "constant" else a * v if self.read == "heads" else a), rest[0], v
        c, b = (None, rest) if self.read == "constant" else (rest[0], rest[1:])
        read = None if self.read == "constant" else self._off(layer, a) if self.read == "heads" else a
        return read, c, self._off(layer, b)

    def terms(self, layer: int) -> Terms | None:
        """Its terms in a layer, differentiable in `flat`."""
        if layer not in self._masks:
            return None
        read, constant, write = self._numbers(layer)
        shift = write if constant is None else constant * write
        return Terms(shift=shift) if read is None else Terms(shift=shift, read=read, write=write)

    @property
    def is_identity(self) -> bool:
        """Whether it changes nothing: the strength is zero, or what is written."""
        return not any(self._written(layer).any() for layer in self._masks)

    def _written(self, layer: int) -> Tensor:
        """The numbers that are zero at the identity, as a view of `flat`'s."""
        reads, writes = self.places(layer)
        skipped = 0 if self.read == "constant" else 1  # the constant, which changes nothing while nothing is written
        return self.flat.data[reads.start : writes.stop] if self.along else self.flat.data[writes.start + skipped : writes.stop]

    def set_read(self, layer: int, read: Tensor) -> None:
        """Set a layer's a; along a direction it is what is learned, and begins at zero."""
        if self._n_read[layer] and not self.along:
            self._part(layer, write=False).copy_(read.view(-1, self._n_read[layer])[0])

    def pad(self, inner: Edit, weight: object = None) -> None:
        """Become the edit of a place inside this one: its numbers where it has some, nothing written elsewhere."""
        assert not self.along and set(inner.layers) <= set(self._masks), "a place inside this one"
        for layer in self._masks:
            reads, writes = self.places(layer)
            self.flat.data[writes].zero_()
            if (terms := inner.layers.get(layer)) is None:
                continue
            write = terms.shift if terms.write is None else terms.write[0]
            assert write is not None and terms.out is None, "an edit that writes into the stream"
            if self.read == "constant":
                self.flat.data[writes] = write
                continue
            shift = 0.0 if terms.shift is None else float(terms.shift @ write / (write @ write).clamp(min=1e-30))
            read = torch.zeros_like(write) if terms.read is None else terms.read[0]
            self.flat.data[reads] = read
            self.flat.data[writes] = torch.cat([torch.tensor([shift]), write])
        self.balance()

    def balance(self) -> Tensor:
        """Bring strength and what is written to like norms in every layer; their product stays.

        Returns:
            By what each of its numbers was multiplied.
        """
        scale = torch.ones_like(self.flat.data)
        for layer in () if self.along or self.read == "constant" else self._masks:
            reads, writes = self.places(layer)
            strength = torch.cat([self.flat.data[reads], self.flat.data[writes][:1]]).norm()
            write = self.flat.data[writes][1:].norm()
            if float(strength) > 0 and float(write) > 0:
                factor = (write / strength).sqrt()
                scale[reads], scale[writes] = factor, 1 / factor
                scale[writes.start] = factor
        self.flat.data.mul_(scale)
        return scale

    def jacobian(self, layer: int, inputs: Tensor, gradients: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
        """Derivatives of what rows say by the layer's numbers, [rows, numbers that read] and [rows, the others].

        Args:
            layer: one of its layers.
            inputs: [rows, T, d_model], the stream, unedited.
            gradients: [rows, T, d_model], by what is edited.
            real: [rows, T], false where a row is padded.
        """
        device = gradients.device
        read, constant, write = (None if one is None else one.detach().to(device) for one in self._numbers(layer))
        inputs, kept = inputs.float(), gradients.float() * real.to(device)[:, :, None]
        assert write is not None, "something is written"
        along = kept @ write  # [rows, T], by the strength at a token
        by_constant = along.sum(dim=1, keepdim=True)
        if read is None:
            return gradients.new_zeros(len(kept), 0), by_constant if self.along else self._off(layer, kept.sum(dim=1))
        by_read = torch.einsum("rt,rtw->rw", along, inputs)
        if self.along:
            v = self.vectors[layer].to(device)
            return (by_read @ v[:, None] if self.read == "heads" else by_read), by_constant
        assert constant is not None, "what reads has a constant"
        strength = inputs @ read + constant
        by_write = self._off(layer, torch.einsum("rt,rtw->rw", strength, kept))
        return self._off(layer, by_read) if self.read == "heads" else by_read, torch.cat([by_constant, by_write], dim=1)


def added(layout: Layout, location: Location, vectors: Vectors, strengths: dict[int, float], positions: Positions) -> Edit:
    """Directions added with a fixed strength in each layer, in units of the stream."""
    layers = {one.layer: Terms(shift=strengths[one.layer] * vectors(one.layer, one.index)) for one in location.sites}
    return Edit("shift", location, layout, layers, acting(location, positions), {})


def projected_out(layout: Layout, location: Location, vectors: Vectors, positions: Positions = "all") -> Edit:
    """The stream without its part along each direction: r <- r - <v, r> v."""
    found = {one.layer: vectors(one.layer, one.index) for one in location.sites}
    layers = {layer: Terms(read=-vector, write=vector) for layer, vector in found.items()}
    return Edit("ablate", location, layout, layers, acting(location, positions), {"to": "zero"})


def at(kind: EditKind, place: Place) -> Edit:
    """The edit of a kind at a place, as the sites there are written.

    Raises:
        UserError: if the kind of edit has no form along a direction.
    """
    own = place.space.kind
    if own.written == "slices":
        edit = kind.make(place)
        edit.positions = acting(place.location, edit.positions)
        return edit
    assert place.vectors is not None, "a place of directions knows what they are"
    if kind.searched:
        read: Read = "layer" if not place.read else place.read  # type: ignore[assignment]
        return Stream(place.layout, place.location, place.vectors, read, place.seed, kind.name)
    if kind.strengths is None and place.strength is not None and own.written == "along":
        spread = {one.layer: place.strength * place.vectors.spread(one.layer, one.index) for one in place.location.sites}
        edit = added(place.layout, place.location, place.vectors, spread, kind.positions)
        edit.about["alpha"] = place.strength
        return edit
    raise UserError(f"an edit that {own.nouns} have: rank1, shift", repr(kind.name), "Choose one of them.")
