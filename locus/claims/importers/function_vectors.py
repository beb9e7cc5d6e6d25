"""function-vectors: indirect effects of heads, as [trials, layers, heads], or the top heads as rows of layer, head and effect.

Of trials the mean is taken: the average indirect effect. The largest effects rank first.

Source: Todd et al. 2023 (arXiv 2310.15213); github.com/ericwtodd/function_vectors saves the effects of every trial with
torch.save (save them with numpy.save), and lists top heads as (layer, head, effect).
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from locus.claims.importers.head_scores import of_array
from locus.claims.importers.importer import Importer, is_score
from locus.claims.importers.source import Source
from locus.claims.published import Published

WIDE = (
    "which may be activations of [answers, layers, width]: if it is effects of [trials, layers, heads], say function-vectors:FILE"
)


def _recognises(source: Source) -> bool:
    array = source.array
    if array is not None:
        return array.dtype.kind == "f" and (array.ndim == 3 or (array.ndim == 2 and array.shape[1] == 3 and _whole(array)))
    content = source.json
    return (
        isinstance(content, list)
        and bool(content)
        and all(isinstance(row, list) and len(row) == 3 for row in content)
        and (
            all(type(row[0]) is int and type(row[1]) is int for row in content)
            and any(isinstance(row[2], float) for row in content)
        )
    )


def _whole(array: Any) -> bool:
    """Whether the first two columns can be layers and heads, and the third is not such a number throughout."""
    first, last = array[:, :2], array[:, 2]
    return bool(((first == np.floor(first)) & (first >= 0)).all() and (last != np.floor(last)).any())


def _read(source: Source) -> Published:
    array = source.array
    if array is None:
        return _top(source.json)
    if array.ndim == 2:
        return _top([[int(layer), int(head), float(effect)] for layer, head, effect in array.tolist()])
    if not source.named:
        raise ValueError(f"an array with shape {list(array.shape)}, {WIDE}")
    if not array.shape[0]:
        raise ValueError("effects of no trial")
    found = of_array(array.mean(axis=0, dtype=np.float64))
    return replace(found, rank="largest", about={**found.about, "trials": array.shape[0]})


def _top(rows: Iterable[list[Any]]) -> Published:
    scores: dict[str, float] = {}
    for layer, head, effect in rows:
        name = f"{layer}.{head}"
        if not (0 <= layer < 100_000 and 0 <= head < 100_000) or not is_score(effect) or name in scores:
            problem = "more than once" if name in scores else f"with the effect {repr(effect)[:40]}"
            raise ValueError(f"the head {name[:40]} {problem}")
        scores[name] = float(effect)
    return Published(scores=scores, rank="largest")


IMPORTER = Importer("function-vectors", "effects [trials, layers, heads], or rows of layer, head and effect", _recognises, _read)
