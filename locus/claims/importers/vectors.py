"""vectors: steering vectors in a safetensors file, one tensor a layer, of [width] or [1, width].

A name says the layer: a hook of TransformerLens (`blocks.8.hook_resid_pre`) also says where in it; `8`, `layer_8` or `layers.8`
do not, and the place is then left open rather than guessed.

Source: there is no one shape; these are the names in use, as of github.com/steering-vectors/steering-vectors (a vector for each
layer number) and TransformerLens (names of hooks).
"""

import re

from locus.claims.importers.hooks import HOOK, site_of
from locus.claims.importers.importer import Importer
from locus.claims.importers.source import Source
from locus.claims.published import Direction, Published
from locus.sites.names import NUMBER

LAYER = re.compile(rf"(?:.*[._])?(?:layers?[._]?)?{NUMBER}")
MOST = 4096  # directions of a file


def _read(source: Source) -> Published:
    tensors = source.tensors()
    if not tensors.shapes or len(tensors.shapes) > MOST:
        raise ValueError(f"{len(tensors.shapes):,} tensors, where one a layer belongs")
    directions, widths = [], set()
    for name, shape in sorted(tensors.shapes.items()):
        plain = [size for size in shape if size != 1] or [1]
        if len(plain) > 1 or len(shape) > 2 or not 0 < plain[0] < 1 << 24:
            raise ValueError(f"the tensor {name[:60]!r} of shape {list(shape)}, which is no one vector")
        if not HOOK.fullmatch(name) and not LAYER.fullmatch(name):
            raise ValueError(f"the tensor {name[:60]!r}, whose name says no layer")
        vector = tensors.read(name).reshape(-1)
        if not vector.any():
            raise ValueError(f"{name[:60]!r} of zeros, which is no direction")
        directions.append(Direction(site_of(name) if HOOK.fullmatch(name) else "", vector, name[:80]))
        widths.add(plain[0])
    if len(widths) > 1:
        raise ValueError(f"vectors of widths {sorted(widths)[:4]}")
    return Published(directions=tuple(directions))


IMPORTER = Importer("vectors", "a .safetensors of one vector a layer", lambda source: source.kind == "safetensors", _read)
