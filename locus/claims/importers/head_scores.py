"""head-scores: one score a head, as probes (honest_llama, ITI), head importances and attributions are saved.

Read are an array of numbers [layers, heads] as .npy or as JSON; `{"L9H6": 0.3}` by any name of a head; and a table with a header,
columns `layer` and `head` (or `name`) and one of `score`, `importance`, `effect`, `attribution`, `accuracy`.

Source: Li et al. 2023 (arXiv 2306.03341), whose code (github.com/likenneth/honest_llama) has accuracies as one row of all heads,
which it reshapes to [layers, heads], and activations as [answers, layers, width], which are no scores; Michel et al. 2019
(arXiv 1905.10650) for importances.
"""

from typing import Any

import numpy as np

from locus.claims.importers.importer import Importer, counted, is_score, number
from locus.claims.importers.nodes import is_node, site
from locus.claims.importers.source import Row, Source
from locus.claims.published import Published

SCORE = ("score", "importance", "effect", "attribution", "accuracy")
NAME = ("name", "node", "head", "component")


def _recognises(source: Source) -> bool:
    if source.kind == "table":
        return bool(source.rows) and _columns(source.rows[0]) is not None
    if source.kind == "array":
        return source.array.dtype.kind == "f" and (source.array.ndim < 2 or _is_table(source.array, source.named))
    content = source.json
    if isinstance(content, dict):
        return bool(content) and all(map(is_node, content)) and not any(isinstance(score, bool) for score in content.values())
    scored = _is_rows(content) and any(isinstance(score, float) for row in content for score in row)
    return scored and _is_table(np.array(content), source.named)


def _is_rows(content: Any) -> bool:
    """Whether JSON is a table of numbers, every row as long as the first."""
    rows = isinstance(content, list) and bool(content) and all(isinstance(row, list) and row for row in content)
    return rows and len({len(row) for row in content}) == 1 and all(is_score(x) for row in content for x in row)


def _is_table(array: Any, named: bool) -> bool:
    """Whether an array may be [layers, heads] and nothing else: rows of two or three may be of a head and its score."""
    return array.ndim == 2 and (named or array.shape[1] > 3)


def _columns(row: Row) -> tuple[str, str] | None:
    """What names the head ("" where layer and head do) and the score; None where they are not there, or several may be meant."""
    scores = [name for name in SCORE if name in row]
    if len(scores) != 1:
        return None
    if "layer" in row and "head" in row:
        return "", scores[0]
    names = [name for name in NAME if name in row and is_node(row[name])]
    return (names[0], scores[0]) if len(names) == 1 else None


def _read(source: Source) -> Published:
    if source.kind == "table":
        return Published(scores=_of_table(source.rows))
    content = source.json
    if isinstance(content, dict):
        return Published(scores=_by_name(content))
    array = source.array if content is None else np.array(content, dtype=np.float64)
    if array.ndim < 2:
        raise ValueError(
            f"{array.size:,} numbers in a row: scores need reshape(layers, heads), and a direction its layer, as FILE.npy@12"
        )
    return of_array(array)


def of_array(array: Any) -> Published:
    """Scores [layers, heads].

    Raises:
        ValueError: if one is no finite number, or there are none.
    """
    if not array.size or max(array.shape) > 100_000:
        raise ValueError(f"scores with shape {list(array.shape)}")
    if not np.isfinite(array).all():
        layer, head = np.argwhere(~np.isfinite(array))[0]
        raise ValueError(f"{array[layer, head]} for the head {layer}.{head}, which is no score")
    scores = {f"{layer}.{head}": float(score) for (layer, head), score in np.ndenumerate(array)}
    return Published(scores=scores, about={"shape": list(array.shape)})


def _by_name(content: dict[str, Any]) -> dict[str, float]:
    scores: dict[str, float] = {}
    for name, score in content.items():
        if not is_score(score):
            raise ValueError(f"{name[:60]!r} with {repr(score)[:40]} where a score belongs")
        _add(scores, site(name), float(score))
    return scores


def _of_table(rows: list[Row]) -> dict[str, float]:
    columns = _columns(rows[0])
    assert columns is not None, "the header was recognised"
    scores: dict[str, float] = {}
    for row in rows:
        name = site(row[columns[0]]) if columns[0] else f"{counted(row['layer'], 'layer')}.{counted(row['head'], 'head')}"
        _add(scores, name, number(row[columns[1]], columns[1]))
    return scores


def _add(scores: dict[str, float], name: str, score: float) -> None:
    if name in scores:
        raise ValueError(f"{name} more than once")
    if name:
        scores[name] = score


IMPORTER = Importer("head-scores", "one finite number a head: [layers, heads], by name, or a table", _recognises, _read)
