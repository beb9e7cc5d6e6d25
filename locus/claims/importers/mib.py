"""mib: a circuit with scores, as the Mechanistic Interpretability Benchmark takes it (`importances.json`) and EAP-IG writes it.

An object of `cfg`, `nodes` and `edges`: each node has `in_graph` and, where nodes were scored, `score`; each edge `A->B<q>` has
`in_graph` and `score`. Where nodes have scores these rank the heads; elsewhere a head has the score of its strongest edge. Marks
name a claim where they mark some and not all. Arrays of neurons are left out.

Source: Mueller et al. 2025 (MIB, arXiv 2504.13151), whose README states both uses, scores or marks; the shape is that of
`Graph.to_json` and `from_json` in github.com/hannamw/EAP-IG.
"""

from collections.abc import Callable, Mapping
from typing import Any

from locus.claims.forms import of_model
from locus.claims.importers.importer import Importer, is_score
from locus.claims.importers.nodes import carried, ends, site
from locus.claims.importers.source import Source
from locus.claims.published import HEAD, Published

PARTS = ("nodes", "edges")
KEYS = {"nodes": {"in_graph", "score", "neurons", "neurons_scores"}, "edges": {"in_graph", "score", "weight"}}


def _recognises(source: Source) -> bool:
    content = source.json
    tables = [content[part] for part in PARTS if isinstance(content.get(part), dict)] if isinstance(content, dict) else []
    return any(isinstance(entry, dict) for table in tables for entry in table.values())


def _read(source: Source) -> Published:
    content: dict[str, Any] = source.json
    if unknown := [key for key in content if key not in (*PARTS, "cfg")]:
        raise ValueError(f"{', '.join(map(repr, unknown[:3]))[:120]} beside cfg, nodes and edges, which may change what is meant")
    tables = {part: _entries(content.get(part, {}), part) for part in PARTS}
    nodes = _once({name: site(name) for name in tables["nodes"]})
    edges = {name: ends(name) for name in tables["edges"]}
    scores, magnitudes = _scores(tables, nodes, edges)
    named, unclear = _marked(tables, nodes, edges)
    return Published("", "", scores, magnitudes, named=named, about=of_model(content.get("cfg", {})), unclear=unclear)


def _entries(table: Any, part: str) -> dict[str, dict[str, Any]]:
    """Every entry of a part as an object; a mark alone is one of `in_graph`.

    Raises:
        ValueError: naming the first that is wrong.
    """
    if not isinstance(table, dict):
        raise ValueError(f"{part!r} where an object belongs")
    entries = {name: {"in_graph": entry} if isinstance(entry, bool) else entry for name, entry in table.items()}
    for name, entry in entries.items():
        if not isinstance(entry, dict) or not entry.keys() <= KEYS[part] or type(entry.get("in_graph", False)) is not bool:
            raise ValueError(f"{name[:60]!r} among the {part} with {repr(entry)[:60]}")
        if "score" in entry and not is_score(entry["score"]):
            raise ValueError(f"{name[:60]!r} with the score {repr(entry['score'])[:40]}")
    scored = sum("score" in entry for name, entry in entries.items() if part == "edges" or HEAD.fullmatch(site(name)))
    there = len(entries) if part == "edges" else sum(bool(HEAD.fullmatch(site(name))) for name in entries)
    if 0 < scored < there:
        raise ValueError(f"{scored:,} of {there:,} {part} with a score")
    return entries


def _once(sites: Mapping[str, str]) -> Mapping[str, str]:
    """Refuse two names of one site."""
    first: dict[str, str] = {}
    for name, one in sites.items():
        if one and first.setdefault(one, name) != name:
            raise ValueError(f"the node {one} more than once, as {first[one]!r} and as {name!r}")
    return sites


def _scores(
    tables: Mapping[str, Mapping[str, Any]], nodes: Mapping[str, str], edges: Mapping[str, tuple[str, str]]
) -> tuple[dict[str, float], dict[str, float]]:
    """Scores of sites: of nodes where these have any, else of edges; edges that all score 0 have none."""
    entries = tables["nodes"]
    of_nodes = {one: float(entries[name]["score"]) for name, one in nodes.items() if one and "score" in entries[name]}
    if of_nodes:
        return of_nodes, {}
    scored = [(edges[name], float(entry["score"])) for name, entry in tables["edges"].items() if "score" in entry]
    return carried(scored) if any(score for _, score in scored) else ({}, {})


def _marked(
    tables: Mapping[str, Mapping[str, Any]], nodes: Mapping[str, str], edges: Mapping[str, tuple[str, str]]
) -> tuple[tuple[str, ...], str]:
    """Heads that are marked where some are and some are not, by nodes and edges; and why none are, where these are at odds."""

    def heads(part: str, of: Callable[[str], tuple[str, ...]]) -> set[str] | None:
        marks = {name: entry["in_graph"] for name, entry in tables[part].items() if "in_graph" in entry}
        if len(set(marks.values())) < 2:
            return None
        return {one for name, mark in marks.items() if mark for one in of(name) if HEAD.fullmatch(one)}

    by_nodes, by_edges = heads("nodes", lambda name: (nodes[name],)), heads("edges", lambda name: edges[name])
    if by_nodes is not None and by_edges is not None and by_nodes != by_edges:
        return (), "its marked nodes and its marked edges name different heads"
    marked = by_nodes if by_nodes is not None else by_edges
    if marked is None:
        return (), "it marks all or nothing"
    return tuple(sorted(marked, key=lambda one: tuple(map(int, one.split("."))))), ""


IMPORTER = Importer("mib", "an object of cfg, nodes and edges with in_graph and score", _recognises, _read)
