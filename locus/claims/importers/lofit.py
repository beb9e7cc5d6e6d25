"""lofit: the heads that LoFiT tunes, a .npy of whole numbers [heads, 2] as layer and head, best first.

All of them are the claim; `FILE#16` takes the first sixteen, as LoFiT's own `use_topk_heads` does.

Source: Yin et al. 2024 (arXiv 2406.01563); github.com/fc2869/lo-fit keeps them in `top_heads/` with numpy.save.
"""

from locus.claims.forms import read_claim
from locus.claims.importers.importer import Importer
from locus.claims.importers.source import Source
from locus.claims.published import Published


def _recognises(source: Source) -> bool:
    return source.array is not None and source.array.dtype.kind in "iu"


def _read(source: Source) -> Published:
    read_claim(source.array)  # says what is wrong with it
    return Published(named=tuple(f"{layer}.{head}" for layer, head in source.array.tolist()), ordered=True)


IMPORTER = Importer("lofit", "whole numbers [heads, 2], best first", _recognises, _read)
