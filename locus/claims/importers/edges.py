"""edges: a list of a circuit's edges, as ACDC and edge attribution patching write it; the claim is the heads that carry them.

Read are, in JSON, `["A->B", ...]`, `{"A->B": score}`, `[[A, B, score], ...]`, objects with a column for each end, and ACDC's
`[[to, index, from, index], score]`; and tables with a header and the same columns. Nodes have the names of `nodes`. A head's
score is that of its strongest edge.

Source: Conmy et al. 2023 (ACDC, arXiv 2304.14997), whose saved edges are (to, index, from, index) with an effect
(github.com/ArthurConmy/Automatic-Circuit-Discovery); Syed et al. 2023 (arXiv 2310.10348), whose top edges are (from, to, score).
An index at `hook_k` or `hook_v` is a query head where the groups of grouped-query attention are ungrouped, as both methods ask.
"""

from collections.abc import Iterable
from typing import Any

from locus.claims.importers.importer import Importer, is_score, number
from locus.claims.importers.nodes import ends, of_edges, site
from locus.claims.importers.source import Source
from locus.claims.published import Published

FROM = ("from", "source", "src", "sender", "parent", "upstream")
TO = ("to", "target", "dst", "receiver", "child", "downstream")
SCORE = ("score", "weight", "effect", "effect_size", "attribution")
Edge = tuple[str, str, float | None]  # from, to


def _recognises(source: Source) -> bool:
    if source.kind == "table":
        return any(_columns(row) is not None for row in source.rows[:1])
    content = source.json
    if isinstance(content, dict):
        return bool(content) and all("->" in name for name in content)
    if not isinstance(content, list) or not content:
        return False
    first = content[0]
    if isinstance(first, str):
        return "->" in first
    if isinstance(first, dict):
        return _columns(first) is not None
    if isinstance(first, list) and first and isinstance(first[0], list):
        first = first[0]
    return isinstance(first, list) and len(first) > 1 and isinstance(first[0], str)


def _columns(row: dict[str, Any]) -> tuple[str, str, str] | None:
    """Which keys hold the two ends and the score; None where they are not there, or several may be meant."""
    found = [[name for name in names if name in row] for names in (FROM, TO, SCORE)]
    if len(found[0]) != 1 or len(found[1]) != 1 or len(found[2]) > 1:
        return None
    return found[0][0], found[1][0], (found[2] or [""])[0]


def _read(source: Source) -> Published:
    content: Any = source.rows if source.kind == "table" else source.json
    listed: Iterable[Edge] = map(_of_name, content.items()) if isinstance(content, dict) else map(_edge, content)
    edges = {}
    for begin, end, score in listed:
        name = f"{begin}->{end}"
        if name in edges:
            raise ValueError(f"the edge {name[:80]!r} more than once")
        edges[name] = ((site(begin), site(end)), score)
    return of_edges(edges)


def _of_name(entry: tuple[str, Any]) -> Edge:
    name, score = entry
    ends(name)
    if not is_score(score):
        raise ValueError(f"the edge {name[:60]!r} with {repr(score)[:40]} where a score belongs")
    begin, _, end = name.partition("->")
    return begin, end, float(score)


def _edge(entry: Any) -> Edge:
    """An edge in whatever form.

    Raises:
        ValueError: if it is none.
    """
    if isinstance(entry, str):
        ends(entry)
        begin, _, end = entry.partition("->")
        return begin, end, None
    if isinstance(entry, dict):
        return _of_columns(entry)
    if not isinstance(entry, list) or len(entry) < 2:
        raise ValueError(f"{repr(entry)[:60]} where an edge belongs")
    if isinstance(entry[0], list):  # ACDC's, with its effect
        begin, end, _ = _acdc(entry[0])
        return begin, end, _score(entry[1:])
    return _acdc(entry) if len(entry) >= 4 else (*_names(entry[0], entry[1]), _score(entry[2:]))


def _of_columns(entry: dict[str, Any]) -> Edge:
    columns = _columns(entry)
    if columns is None:
        raise ValueError(f"an edge with {', '.join(map(repr, entry))[:100]}, which does not name two ends and at most one score")
    begin, end = _names(entry[columns[0]], entry[columns[1]])
    value = entry[columns[2]] if columns[2] else None
    return begin, end, number(value, columns[2]) if isinstance(value, str) else _score([] if value is None else [value])


def _names(begin: Any, end: Any) -> tuple[str, str]:
    if not isinstance(begin, str) or not isinstance(end, str):
        raise ValueError(f"an edge from {repr(begin)[:40]} to {repr(end)[:40]}, which are no names")
    return begin, end


def _acdc(entry: list[Any]) -> Edge:
    """The four parts of an edge of ACDC, and what follows as its score: it names the receiver first."""
    if len(entry) not in (4, 5):
        raise ValueError(f"{repr(entry)[:60]} where [to, index, from, index] belongs")
    end, begin = _names(entry[0], entry[2])
    return begin + _index(entry[3]), end + _index(entry[1]), _score(entry[4:])


def _index(value: Any) -> str:
    """An index of ACDC, `[None, None, 6]` or `[:, :, 6]`, as `[6]`; "" for a whole hook.

    Raises:
        ValueError: if it is neither.
    """
    last = value[-1] if isinstance(value, list) and value else value
    if isinstance(last, str):
        last = last.replace(" ", "").strip("[]").split(",")[-1]
        last = int(last) if last.isascii() and last.isdigit() and len(last) < 6 else None if last in ("", ":") else last
    if last is None or last == []:
        return ""
    if type(last) is not int or not 0 <= last < 100_000:
        raise ValueError(f"{repr(value)[:60]} where the index of a hook belongs")
    return f"[{last}]"


def _score(rest: list[Any]) -> float | None:
    if not rest:
        return None
    if len(rest) > 1 or not is_score(rest[0]):
        raise ValueError(f"{repr(rest)[:60]} where one score belongs")
    return float(rest[0])


IMPORTER = Importer("edges", "edges of a circuit, from one node to another, with or without scores", _recognises, _read)
