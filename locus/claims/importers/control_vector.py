"""control-vector: a GGUF of control vectors, one direction a layer, as llama.cpp applies and repeng exports them.

`direction.N` is added to what leaves the block N, counted from zero, and so enters the layer N + 1; there is none for block 0.

Source: llama.cpp's common/common.cpp and https://github.com/vgel/repeng: general.architecture `controlvector`, and tensors
`direction.N` of float32 [width].
"""

import re
import struct

import numpy as np

from locus.claims.importers.importer import Importer
from locus.claims.importers.source import Source
from locus.claims.published import Direction, Published

NAME = re.compile(r"direction\.([1-9][0-9]{0,4})")
FLOAT32 = 0


def _read(source: Source) -> Published:
    from locus.models.gguf import read_head

    content = source.bytes
    try:
        head = read_head(source.path)
    except struct.error as error:
        raise ValueError(f"a GGUF file that is cut ({error})") from error
    if head.settings.get("general.architecture") != "controlvector":
        raise ValueError(f"a GGUF file of {repr(head.settings.get('general.architecture'))[:40]}, not of control vectors")
    directions, widths = {}, set()
    for name, shape, kind, offset in head.tensors:
        match = NAME.fullmatch(name)
        if match is None or kind != FLOAT32 or len(shape) != 1 or not 0 < shape[0] < 1 << 24:
            raise ValueError(f"the tensor {name[:60]!r} of shape {list(shape)}, which is no direction.N of float32")
        if (layer := int(match[1])) in directions:
            raise ValueError(f"the direction of layer {layer} more than once")
        vector = np.frombuffer(content, "<f4", shape[0], head.begin + offset)
        if not np.isfinite(vector).all() or not vector.any():
            raise ValueError(f"{name} of zeros, or of what is no finite number")
        directions[layer] = Direction(f"resid.{layer + 1}", vector, name)
        widths.add(shape[0])
    if len(widths) != 1:
        raise ValueError("no direction" if not widths else f"directions of widths {sorted(widths)[:4]}")
    hint = head.settings.get("controlvector.model_hint")
    return Published(directions=tuple(directions[layer] for layer in sorted(directions)), about={"model_hint": str(hint)[:80]})


IMPORTER = Importer("control-vector", "a GGUF of control vectors", lambda source: source.kind == "gguf", _read)
