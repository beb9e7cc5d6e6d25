"""The grammar of claims: every form in which sites may be written, one entry in a table each.

A form says whether it recognises what was read, by its outer shape alone; exactly one must, and it then reads all of it or
says what is wrong. Content is a JSON value, an array of numpy, or the words of a text as a list. docs/claims.md shows each form.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from locus.boundary.notices import notice
from locus.claims.claim import Claim
from locus.records.base import JsonObject
from locus.sites.kind import default, kind_of
from locus.sites.names import NUMBER, examples, is_name, named, pattern
from locus.sites.site import Location, Site

COUNT = re.compile(NUMBER)
DOTTED = pattern("{}.{}")  # a head, or a number that is no name
# What a circuit has besides heads; it is left out, and said to be.
OTHER = re.compile(
    rf"input|logits|m{NUMBER}|hook_(?:pos_)?embed|blocks\.{NUMBER}\.(?:mlp|hook_mlp_(?:in|out)|hook_resid_(?:pre|mid|post))"
)
LISTED = ("heads", "sites")  # under which a file lists its sites
BESIDE = ("paper", "title", "authors", "year", "doi", "url", "source", "note", "comment")  # says whose it is, and changes nothing
OURS = ("name", "origin", *LISTED, "scores", "about")


class HeadsAlone(UserWarning):
    """A circuit has parts that are no heads, and these are not audited."""


@dataclass(frozen=True)
class ClaimForm:
    """One way to write a claim.

    Attributes:
        name: what errors call it.
        example: of it, as JSON; arrays as lists.
        recognises: whether content has its outer shape; the shapes of two forms never overlap.
        read: the claim that recognised content states, still without the name of its file; raises ValueError for what is wrong.
    """

    name: str
    example: str
    recognises: Callable[[Any], bool]
    read: Callable[[Any], Claim]


def read_claim(content: Any) -> Claim:
    """The claim that content states in the one form that recognises it.

    Raises:
        ValueError: if no form recognises it, or the one that does cannot read all of it.
    """
    fitting = [form for form in FORMS if form.recognises(content)]
    if not fitting:
        raise ValueError(f"{_kind(content)} without any sites in a form that is known")
    assert len(fitting) == 1, f"forms overlap: {[form.name for form in fitting]}"
    claim = fitting[0].read(content)
    if not claim.location.sites:
        raise ValueError(f"{fitting[0].name} that names no site")
    return claim


def _kind(content: Any) -> str:
    """What content is, as a noun."""
    if isinstance(content, np.ndarray):
        return f"an array of {content.dtype} with shape {list(content.shape)}"
    if isinstance(content, list):
        kinds = sorted(
            {{dict: "objects", list: "lists", str: "texts", bool: "Booleans"}.get(type(x), "numbers") for x in content}
        )
        return f"a list of {' and '.join(kinds)}" if kinds else "an empty list"
    return f"an object with {_first_few(content)}" if isinstance(content, dict) and content else f"{_brief(content)}"


def sites_named(words: Iterable[str]) -> list[Site]:
    """Sites by their names, in the order given.

    Raises:
        ValueError: naming what is no site.
    """
    sites: list[Site] = []
    wrong: list[str] = []
    for word in words:
        kind, places = named(word) or ("", [])
        sites += [Site(kind, *place) for place in places]
        wrong += [] if places else [word]
    if wrong:
        raise ValueError(f"{_first_few(wrong)}, which names no site: they are written {examples()}")
    return sites


def one_notation(words: Sequence[str]) -> None:
    """Refuse a text in which what may be scores stands beside heads in another notation.

    Raises:
        ValueError: showing one of each.
    """
    dotted = [word for word in words if DOTTED.fullmatch(word)]
    others = [word for word in words if word not in dotted and is_name(word)]
    if {kind for word in others if (kind := (named(word) or ("",))[0])} - {default().name}:
        return  # sites of several kinds, of which is said later that each is audited by itself
    if dotted and others and all(word.startswith("0.") for word in dotted):
        raise ValueError(f"{others[0]} beside {dotted[0]}, which is a head of layer 0 in another notation, or a score")


def columns(text: str) -> None:
    """Refuse a table that may be of heads, or of heads and scores, or of scores alone.

    Raises:
        ValueError: naming both readings.
    """
    rows = [row for line in text.splitlines() if (row := [word for word in re.split(r"[,\s]+", line) if word])]
    dotted = all(DOTTED.fullmatch(word) for row in rows for word in row)
    if len(rows) > 1 and all(len(row) == 2 for row in rows) and all(DOTTED.fullmatch(row[1]) for row in rows):
        raise ValueError(
            f"rows such as {_brief(' '.join(rows[0]))}, which are two heads each, or a head and its score: write one head a line"
        )
    if dotted and sum(map(len, rows)) > 1 and all(word.startswith("0.") for row in rows for word in row):
        raise ValueError(f"numbers such as {rows[0][0]}, which are heads of layer 0, or scores: write heads of layer 0 as L0H1")


def _claim(sites: Sequence[Site], **rest: Any) -> Claim:
    """A claim of different sites.

    Raises:
        ValueError: if a site is named twice.
    """
    twice = [str(site) for site, count in Counter(sites).items() if count > 1]
    if twice:
        raise ValueError(f"{_first_few(twice)} more than once")
    return Claim("", Location.of(sites), rest.pop("origin", "given"), **rest)


def _site(layer: Any, head: Any) -> Site:
    """A head from two whole numbers.

    Raises:
        ValueError: if they are none, or not counts from zero.
    """
    for number in (layer, head):
        if type(number) is not int or not COUNT.fullmatch(str(number)):
            raise ValueError(f"{_brief(number)} where a layer or head is counted from zero")
    return Site(default().name, layer, head)


def _all_lists(content: Any) -> bool:
    return isinstance(content, list) and bool(content) and all(isinstance(row, list) for row in content)


def _booleans(rows: Any) -> bool:
    return any(isinstance(cell, bool) for row in rows for cell in row)


def _pairs(rows: list[list[Any]]) -> Claim:
    if wrong := [row for row in rows if len(row) != 2]:
        raise ValueError(f"{_brief(wrong[0])} where a pair [layer, head] belongs")
    if len(rows) > 1 and all(type(number) is int and number in (0, 1) for row in rows for number in row):
        raise ValueError("rows of two 0s and 1s, which are pairs [layer, head], or a mask of two heads a layer: write names")
    return _claim([_site(*row) for row in rows])


def _mask(rows: Any) -> Claim:
    """Heads that are marked in a table of all heads, which must have the model's own shape."""
    width = len(rows[0])
    if any(len(row) != width or any(type(cell) is not bool for cell in row) for row in rows):
        raise ValueError("a mask whose rows are not equally many Booleans")
    sites = [_site(layer, head) for layer, row in enumerate(rows) for head, marked in enumerate(row) if marked]
    return _claim(sites, about={"shape": [len(rows), width]})


def _by_layer(layers: dict[str, Any]) -> Claim:
    if wrong := [(layer, heads) for layer, heads in layers.items() if not isinstance(heads, list) or not heads]:
        raise ValueError(f"layer {wrong[0][0]} with {_brief(wrong[0][1])} where a list of heads belongs")
    return _claim([_site(int(layer), head) for layer, heads in layers.items() for head in heads])


def _marked(content: JsonObject) -> Claim:
    """Sites as names with true or false; numbers would be scores, and which of them count is not said."""
    _once(content)
    return _claim(sites_named(_marked_names(content)))


def _once(names: Iterable[str]) -> None:
    """Refuse a site under two names, or twice: the two may say two things of it."""
    seen: dict[Site, str] = {}
    for name in names:
        kind, places = named(name) or ("", [])
        for site in (Site(kind, *place) for place in places):
            if site in seen:
                raise ValueError(f"the {kind_of(kind).noun} {site} more than once, as {seen[site]!r} and as {name!r}")
            seen[site] = name


def _marked_names(content: JsonObject) -> list[str]:
    if wrong := [name for name, kept in content.items() if type(kept) is not bool]:
        scored = isinstance(content[wrong[0]], int | float)
        why = "a score, with no rule which scores make a claim" if scored else "neither true nor false"
        raise ValueError(f"{_brief(wrong[0])} with {_brief(content[wrong[0]])}, {why}")
    return [name for name, marked in content.items() if marked]


def _sites_within(content: JsonObject) -> Claim:
    """An object that says its sites, and besides at most whose they are."""
    key = next(key for key in LISTED if key in content)
    if others := [one for one in content if one != key and one not in BESIDE]:
        raise ValueError(f"{_first_few(others)} beside {key!r}, which may change what is meant: leave out what does not")
    if not isinstance(content[key], list) or not content[key]:
        raise ValueError(f"{key!r} with {_brief(content[key])} where a list belongs")
    return read_claim(content[key])


def _ours(content: dict[str, Any]) -> Claim:
    """A claim that locus wrote."""
    unknown = [key for key in content if key not in OURS]
    name, origin, listed = content.get("name", ""), content["origin"], [content[key] for key in LISTED if key in content]
    scores, about, words = content.get("scores", {}), content.get("about", {}), listed[0] if len(listed) == 1 else None
    shapes = ((name, str), (origin, str), (words, list), (scores, dict), (about, dict))
    wrong = any(not isinstance(value, kind) for value, kind in shapes)
    if unknown or wrong or not all(isinstance(word, str) for word in words or ()):
        problem = f"with {_first_few(unknown)} in it" if unknown else "with a part of another kind than it writes"
        raise ValueError(f"a claim of locus {problem}")
    odd = [site for site, score in scores.items() if not _number(score) or not is_name(site)]
    if odd:
        raise ValueError(f"the score {_brief(scores[odd[0]])} of {_brief(odd[0])}")
    if not isinstance(about.get("model_fingerprint", ""), str) or not _is_shape(about.get("shape", [1, 1])):
        raise ValueError("a claim of locus whose 'about' names no model as locus does")
    sites = sites_named(words or ())
    claim = _claim(sites, origin=origin, scores={site: float(score) for site, score in scores.items()}, about=dict(about))
    return Claim(name, claim.location, claim.origin, claim.scores, claim.about)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_shape(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(type(size) is int and size > 0 for size in value)


def _circuit(content: JsonObject) -> Claim:
    """The heads among the nodes of a circuit, or at the ends of its edges; where both are given they must agree."""
    sides = {part: _parts(content[part], ends) for part, ends in (("nodes", 1), ("edges", 2)) if part in content}
    heads = {part: {name for name in names if not OTHER.fullmatch(name)} for part, names in sides.items()}
    if len(heads) == 2 and heads["nodes"] != heads["edges"]:
        raise ValueError("a circuit whose nodes and edges name different heads")
    if len(content) > len(sides) + ("cfg" in content):
        raise ValueError(
            f"{_first_few([key for key in content if key not in (*sides, 'cfg')])} beside a circuit's nodes and edges"
        )
    names = next(iter(sides.values()))
    if left := [name for name in names if OTHER.fullmatch(name)]:
        notice(f"the circuit's {_first_few(left)} left out: a claim is of heads", HeadsAlone)
    sites = sites_named(name for name in names if not OTHER.fullmatch(name))
    return Claim("", Location.of(sites), "given", about=of_model(content.get("cfg", {})))


def of_model(cfg: Any) -> dict[str, object]:
    """What a circuit says of the model that it was found in, to be held against the one that is audited."""
    if not isinstance(cfg, dict):
        raise ValueError(f"'cfg' with {_brief(cfg)} where an object belongs")
    names = [cfg[key] for key in ("model_name", "model") if isinstance(cfg.get(key), str)]
    sizes = {key: cfg[key] for key in ("n_layers", "n_heads") if key in cfg}
    if any(type(size) is not int for size in sizes.values()):
        raise ValueError(f"'cfg' with sizes {_brief(list(sizes.values()))}")
    return {**({"circuit_of": names[0][:200]} if names else {}), **({"circuit_sizes": sizes} if sizes else {})}


def _parts(content: Any, ends: int) -> list[str]:
    """Nodes by name, once each; an edge, `A->B` or `A->B<q>`, is its two ends.

    Args:
        content: names, or names with true or false.
        ends: 1 for nodes, 2 for edges.
    """
    names = _marked_names(content) if isinstance(content, dict) else content
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{_brief(content)} where the nodes or edges of a circuit belong")
    if wrong := [name for name in names if len(name.split("->")) > ends]:
        raise ValueError(f"{_brief(wrong[0])} where {'an edge A->B' if ends == 2 else 'a node'} belongs")
    if ends == 1:
        _once(content)
    return list(dict.fromkeys(re.sub(r"<[qkv]>$", "", end) for name in names for end in name.split("->")))


def _array(content: Any, kinds: str) -> bool:
    return isinstance(content, np.ndarray) and content.dtype.kind in kinds


def _indices(array: Any) -> Claim:
    if array.ndim != 2 or array.shape[1] != 2:
        raise ValueError(f"whole numbers with shape {list(array.shape)}, not [heads, 2]")
    return _pairs(array.tolist())


def _marks(array: Any) -> Claim:
    if array.ndim != 2 or not array.size:
        raise ValueError(f"Booleans with shape {list(array.shape)}, not [layers, heads]")
    return _mask(array.tolist())


def _texts(content: Any) -> bool:
    return isinstance(content, list) and bool(content) and all(isinstance(word, str) for word in content)


def _keys(content: Any, fit: Callable[[str], Any]) -> bool:
    """Whether content is an object of which every key fits."""
    return isinstance(content, dict) and bool(content) and all(map(fit, content))


def _object(content: Any, has: Sequence[str], lacks: Sequence[str] = ()) -> bool:
    return isinstance(content, dict) and any(key in content for key in has) and not any(key in content for key in lacks)


ONE_CLAIM = '{"name": "probe", "origin": "probe", "heads": ["1.0"], "scores": {"1.0": 0.9}, "about": {}}'
CIRCUIT = '{"nodes": {"a1.h0": true, "m3": true, "a2.h3": false}}'
PAIRS, MASK = "[[1, 0], [2, 3]]", "[[false, false], [true, false]]"
FORMS = (
    ClaimForm("a list of names", '["1.0", "2.3"]', _texts, lambda c: _claim(sites_named(c))),
    ClaimForm("pairs [layer, head]", PAIRS, lambda c: _all_lists(c) and not _booleans(c), _pairs),
    ClaimForm("a mask", MASK, lambda c: _all_lists(c) and _booleans(c), _mask),
    ClaimForm("heads by layer", '{"1": [0, 2], "2": [3]}', lambda c: _keys(c, COUNT.fullmatch), _by_layer),
    ClaimForm("marked names", '{"1.0": true, "2.3": false}', lambda c: _keys(c, is_name), _marked),
    ClaimForm("an object with heads", f'{{"heads": {PAIRS}}}', lambda c: _object(c, LISTED, ["origin"]), _sites_within),
    ClaimForm("a claim of locus", ONE_CLAIM, lambda c: _object(c, LISTED) and "origin" in c, _ours),
    ClaimForm("a circuit", CIRCUIT, lambda c: _object(c, ["nodes", "edges"], LISTED), _circuit),
    ClaimForm("an array of indices", PAIRS, lambda c: _array(c, "iu"), _indices),
    ClaimForm("an array of Booleans", MASK, lambda c: _array(c, "b"), _marks),
)


def _brief(value: Any) -> str:
    """A value in a few characters."""
    text = repr(value[:4] if isinstance(value, list | str) and len(value) > 40 else value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _first_few(values: Iterable[Any]) -> str:
    """The first few of many."""
    listed = list(values)
    return ", ".join(map(_brief, listed[:3])) + (f" and {len(listed) - 3} more" if len(listed) > 3 else "")
