"""What is added to the stream as a control vector: a GGUF that llama.cpp and repeng add behind layers, with a strength of 1.

`direction.N` is added to what leaves the layer N, counted from zero, and so enters the layer N + 1. There is none of layer 0, so
what enters the first two layers has none.

Source: llama.cpp's common/common.cpp and https://github.com/vgel/repeng, as in `claims.importers.control_vector`.
"""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from locus.edits.base import Edit
from locus.errors import UserError
from locus.models.model import Model
from locus.models.points import POINTS
from locus.report.faithful import compare, fits, hooked
from locus.report.maps import REMEDY

FILE = "control-vector.gguf"
KIND = "controlvector"
Vectors = Mapping[int, Tensor]  # by the layer behind which each is added


def vectors(model: Model, edit: Edit) -> Vectors:
    """The vectors of an edit, [d_model], after a file of them was written, read again, and tried on the model.

    Raises:
        UserError: if it is no sum with a vector of the stream, is one that enters a layer behind which there is none, or says
            something else.
    """
    fits(model, edit)
    if POINTS[edit.point].side != "stream":
        received = f"one at {POINTS[edit.point].words}"
        raise UserError("an edit of the stream, to which a control vector is added", received, "Export it with --as bias.")
    found: dict[int, Tensor] = {}
    for layer, terms in sorted(edit.layers.items()):
        if terms.shift is None or terms.keep is not None or terms.read is not None:
            wanted = "a shift or a constant edit of the stream: a control vector reads nothing"
            raise UserError(wanted, f"{edit.kind!r}", REMEDY)
        if layer < 2:
            received = f"layer {layer}, behind which a file of control vectors has none"
            raise UserError("a vector of what enters layer 2 or a later one", received, "Export it with --as bias.")
        found[layer - 1] = terms.shift.float().cpu()
    with TemporaryDirectory() as folder:
        write(model, found, Path(folder))
        again = read(Path(folder) / FILE)
    compare(model, edit, lambda tokens: _added(model, again, tokens), "a control vector")
    return found


def write(model: Model, found: Vectors, folder: Path) -> None:
    """Write vectors as a GGUF of control vectors."""
    from gguf import GGUFWriter

    writer = GGUFWriter(folder / FILE, KIND)
    config: Any = model.hf.config
    writer.add_string(f"{KIND}.model_hint", str(config.model_type))
    writer.add_uint32(f"{KIND}.layer_count", len(found))
    for layer, vector in found.items():
        writer.add_tensor(f"direction.{layer}", np.ascontiguousarray(vector.numpy(), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def read(path: Path) -> dict[int, Tensor]:
    """The vectors of a file, as gguf's own reader has them."""
    from gguf import GGUFReader

    there = GGUFReader(path).tensors
    return {int(one.name.removeprefix("direction.")): torch.from_numpy(np.array(one.data, dtype=np.float32)) for one in there}


def _added(model: Model, found: Vectors, tokens: Tensor) -> Tensor:
    """Logits of the model with vectors added to what its layers give."""

    def hook(vector: Tensor) -> Any:
        def after(_: nn.Module, __: Any, output: Any) -> Any:
            first = output[0] if isinstance(output, tuple) else output
            steered = (first.float() + vector.to(first.device)).to(first.dtype)
            return (steered, *output[1:]) if isinstance(output, tuple) else steered

        return after

    return hooked(model, tokens, {model.layers[layer]: hook(vector) for layer, vector in found.items()})
