"""The optimal edit at a Location: o <- o + <a, o> b, b zero outside the chosen sites, trained by train.py.

Of rank k it has k pairs of a and b in every layer, which are summed; of rank 1, as in the paper, it is what a verdict is by.

What is localized is where the edit *writes*. By default it reads the whole layer (`read="layer"`), as in the paper;
`read="heads"` restricts a to the chosen sites as well, `read="constant"` learns a shift and reads nothing. The verdict can
depend on this, so the read mode is part of every result.

Source: Wang & Veitch 2025 (arXiv 2502.11447), eq. 4.2-4.3 and footnote 1. The start is not stated there; we start at the
identity (b = 0) with a drawn as PEFT draws lora_A, since both zero is a saddle that never trains.
"""

import math
from collections.abc import Callable, Mapping
from itertools import accumulate
from typing import Any, Literal

import torch
from torch import Tensor

from locus.edits.base import Edit, Positions, Terms, Trainable, acting, site_mask
from locus.edits.kind import EditKind, Place
from locus.models.layout import Layout
from locus.sites.site import Location

Read = Literal["layer", "heads", "constant"]
Rank1Form = Literal["heads", "free"]
SEEDS = 1 << 63  # that torch knows


class Rank1(Trainable):
    """A trainable edit of rank 1, or more; one flat float32 parameter holds all a, then all b, of every layer.

    Args:
        layout: of the model.
        location: the sites that may be written to.
        read: what the edit may read: the whole layer, the chosen sites, or nothing (a learned constant).
        form: write at the sites, or, for full alignment at the input of a map W only, freely into what W gives.
        seed: of the start.
        positions: where it acts, unless its sites say so.
        kind: what the trial calls it.
        rank: pairs of a and b in a layer; where it may write or read fewer numbers than that, as many as these.
    """

    def __init__(
        self,
        layout: Layout,
        location: Location,
        read: Read = "layer",
        form: Rank1Form = "heads",
        seed: int = 0,
        positions: Positions = "all",
        kind: str = "rank1",
        rank: int = 1,
    ):
        assert form == "heads" or read == "layer", "the free form writes to the whole layer's output and reads all of it"
        assert rank == 1 or read != "constant", "constants add up to one"
        about = {"read": read, "form": form, "seed": seed, **({} if rank == 1 else {"rank": rank})}
        super().__init__(kind, location, layout, {}, acting(location, positions), about)
        self.read, self.form = read, form
        self._masks = {layer: site_mask(layout, location, layer) for layer in location.layers}
        self._widths = {layer: len(mask) for layer, mask in self._masks.items()}
        self._n_read = {layer: 0 if read == "constant" else width for layer, width in self._widths.items()}
        self._n_write = {layer: layout.d_model if form == "free" else width for layer, width in self._widths.items()}
        self._ranks = {layer: min(rank, *self._free(layer)) if rank > 1 else 1 for layer in self._masks}
        sizes = [self._ranks[layer] * (self._n_read[layer] + self._n_write[layer]) for layer in self._masks]
        self._begins = dict(zip(self._masks, accumulate([0, *sizes]), strict=False))
        self.flat = torch.nn.Parameter(self._start(seed))
        self.layers = _Live(self)

    @property
    def first_layer(self) -> int:
        """The first layer of its Location."""
        return min(self._masks)

    @property
    def n_parameters(self) -> int:
        """Numbers that can change the model: entries of a and b outside the masks do not count."""
        return sum(self._ranks[layer] * sum(self._free(layer)) for layer in self._masks)

    def _free(self, layer: int) -> tuple[int, int]:
        """Of one pair of a and b, the numbers of a that are read and those of b that are written."""
        sites = int(self._masks[layer].sum())
        return sites if self.read == "heads" else self._n_read[layer], sites if self.form == "heads" else self._n_write[layer]

    def _start(self, seed: int) -> Tensor:
        blocks = []
        for layer, rank in self._ranks.items():
            bound = 1 / math.sqrt(self._widths[layer])
            generator = torch.Generator().manual_seed((seed * 100_003 + layer) % SEEDS)
            blocks.append(torch.empty(rank * self._n_read[layer]).uniform_(-bound, bound, generator=generator))
            blocks.append(torch.zeros(rank * self._n_write[layer]))
        return torch.cat(blocks)

    def terms(self, layer: int) -> Terms | None:
        """Its terms in a layer, masked, differentiable in `flat`."""
        if layer not in self._masks:
            return None
        a, b = self._rows(self.flat, layer)
        mask = self._masks[layer].to(b.device)
        if self.read == "constant":
            return Terms(shift=b[0] * mask)
        reads = a * mask if self.read == "heads" else a
        return Terms(read=reads, out=b) if self.form == "free" else Terms(read=reads, write=b * mask)

    @property
    def is_identity(self) -> bool:
        """Whether it changes nothing: b is zero, or out."""
        return not any(self._part(layer, write=True).any() for layer in self._masks)

    def written(self, layer: int) -> Tensor:
        """[width] of ones where it may write at its point of a layer."""
        return self._masks[layer]

    def places(self, layer: int) -> tuple[slice, slice]:
        """Where a layer's a and b lie among `flat`'s numbers, one behind the other."""
        rank, begin = self._ranks[layer], self._begins[layer]
        cut = begin + rank * self._n_read[layer]
        return slice(begin, cut), slice(cut, cut + rank * self._n_write[layer])

    def _rows(self, flat: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        """A layer's a and b, [k, width] each, as views of flat numbers."""
        reads, writes = self.places(layer)
        rank = self._ranks[layer]
        return flat[reads].view(rank, self._n_read[layer]), flat[writes].view(rank, self._n_write[layer])

    def _part(self, layer: int, write: bool) -> Tensor:
        """A layer's b (or a), [k, width], as a view of `flat`'s numbers."""
        return self._rows(self.flat.data, layer)[write]

    def rank(self, layer: int) -> int:
        """Pairs of a and b in a layer."""
        return self._ranks[layer]

    def set_read(self, layer: int, read: Tensor) -> None:
        """Set a layer's first a, or as many as are given, [k, width]; an edit that reads a constant has none."""
        if self._n_read[layer]:
            read = read.view(-1, self._n_read[layer])
            self._part(layer, write=False)[: len(read)].copy_(read)

    def pad(self, inner: Edit, weight: Callable[[int], Tensor]) -> None:
        """Become the edit of a place inside this one, or of a lower rank: its numbers where it has some, zeros in b elsewhere.

        A reading vector that the inner edit does not have stays, since it is multiplied by b = 0; beside some that it has it is
        made as long as these, so that a step can move all alike.

        Args:
            inner: an edit of no higher rank that writes at its sites, or as this one does, and reads what this one may read.
            weight: a layer's map W behind the point, [d_model, width], by which a free edit writes W b.
        """
        assert set(inner.layers) <= set(self._masks), "a place inside this one"
        for layer in self._masks:
            write = self._part(layer, write=True)
            write.zero_()
            if (terms := inner.layers.get(layer)) is None:
                continue
            free = self.form == "free"
            own = terms.out if free else None  # what is written behind the map already
            numbers = own if own is not None else terms.write if self.read != "constant" else terms.shift
            assert numbers is not None, "an edit that writes at its sites, or as this one does, and reads as it does"
            for row, one in zip(write, numbers.view(-1, numbers.shape[-1]), strict=False):
                row.copy_(weight(layer).detach().float().cpu() @ one if free and own is None else one)
            if terms.read is not None:
                self.set_read(layer, terms.read)
                length, more = terms.read.norm(dim=1).mean(), self._part(layer, write=False)[len(terms.read) :]
                if float(length) > 0:
                    more.mul_(length / more.norm(dim=1, keepdim=True))

    def balance(self) -> Tensor:
        """Bring a and b of every pair to like norms: their product stays, and a step can move both.

        Returns:
            By what each of its numbers was multiplied.
        """
        scale = torch.ones_like(self.flat.data)
        for layer in self._masks if self.read != "constant" else ():
            pairs = zip(*self._rows(self.flat.data, layer), *self._rows(scale, layer), strict=True)
            for read, write, of_read, of_write in pairs:
                if float(write.norm()) > 0 and float(read.norm()) > 0:
                    factor = (write.norm() / read.norm()).sqrt()
                    of_read.fill_(factor)
                    of_write.fill_(1 / factor)
        self.flat.data.mul_(scale)
        return scale

    def jacobian(self, layer: int, inputs: Tensor, gradients: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
        """Derivatives of what rows say by the layer's numbers, [rows, numbers of a] and [rows, numbers of b].

        Args:
            layer: one of its layers.
            inputs: [rows, T, width], what is at its point, unedited.
            gradients: [rows, T, width or d_model], by what is edited.
            real: [rows, T], false where a row is padded.
        """
        terms = self.terms(layer)
        assert terms is not None, "a masked layer has terms"
        device = gradients.device  # where the gradients are kept, which need not be where the edit is
        mask = self._masks[layer].to(device)
        inputs, kept = inputs.float(), gradients.float() * real.to(gradients.device)[:, :, None]
        if self.form == "heads":
            kept = kept * mask
        if self.read == "constant":
            return gradients.new_zeros(len(gradients), 0), kept.sum(dim=1)
        write = terms.out if self.form == "free" else terms.write
        assert terms.read is not None and write is not None, "an edit that reads has both"
        by_write = torch.einsum("rtk,rtw->rkw", inputs @ terms.read.detach().to(device).T, kept)
        by_read = torch.einsum("rtk,rtf->rkf", kept @ write.detach().to(device).T, inputs)
        by_read = by_read * mask if self.read == "heads" else by_read
        return by_read.flatten(1), by_write.flatten(1)


class _Live(Mapping[int, Terms]):
    """The layers of a trainable edit, read from its parameter at each look."""

    def __init__(self, edit: Rank1):
        self._edit = edit

    def __getitem__(self, layer: int) -> Terms:
        terms = self._edit.terms(layer)
        if terms is None:
            raise KeyError(layer)
        return terms

    def __iter__(self):  # type: ignore[no-untyped-def]
        return iter(self._edit._masks)

    def __len__(self) -> int:
        return len(self._edit._masks)


def _make(place: Place) -> Rank1:
    read: Any = place.read
    return Rank1(place.layout, place.location, read=read, seed=place.seed, rank=place.rank)


KIND = EditKind("rank1", _make, trained=True, everywhere="full", rest="complement", searched=True)
