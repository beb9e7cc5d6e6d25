"""Names of a circuit's nodes, in the notations of those who publish circuits, as sites: a head, a module, or neither.

Source: EAP-IG's `a9.h6<q>` and `m3` (Hanna et al. 2024, arXiv 2403.17806, github.com/hannamw/EAP-IG); `head.9.6.q` and `mlp.3` of
edge attribution patching (Syed et al. 2023, arXiv 2310.10348); hooks of TransformerLens with an index, as ACDC writes them
(Conmy et al. 2023, arXiv 2304.14997).
"""

import re
from collections.abc import Iterable, Mapping

from locus.claims.published import Published
from locus.sites.names import NUMBER

HEADS = (
    re.compile(rf"a{NUMBER}\.h{NUMBER}(?:<[qkv]>)?"),
    re.compile(rf"head\.{NUMBER}\.{NUMBER}(?:\.[qkv])?"),
    re.compile(rf"L{NUMBER}H{NUMBER}"),
    re.compile(rf"{NUMBER}\.{NUMBER}"),
    re.compile(rf"blocks\.{NUMBER}\.attn\.hook_(?:z|result|[qkv])\[(?::,:,)?{NUMBER}\]"),
    re.compile(rf"blocks\.{NUMBER}\.hook_(?:[qkv]_input|attn_in)\[(?::,:,)?{NUMBER}\]"),
)
LAYER = re.compile(rf"blocks\.{NUMBER}\.attn\.hook_(?:z|result|[qkv])(?:\[:?\])?")
MLPS = (
    re.compile(rf"m{NUMBER}"),
    re.compile(rf"mlp\.{NUMBER}"),
    re.compile(rf"blocks\.{NUMBER}\.(?:mlp|hook_mlp_(?:in|out))(?:\[:?\])?"),
)
OTHERS = re.compile(
    rf"input|logits|embed|pos_embed|hook_embed(?:\[:?\])?|hook_pos_embed(?:\[:?\])?|resid_(?:pre|mid|post)\.{NUMBER}"
    rf"|blocks\.{NUMBER}\.hook_resid_(?:pre|mid|post)(?:\[:?\])?"
)


def site(name: str) -> str:
    """A node as a site, `9.6` or `mlp.3`; "" for inputs, logits and the stream, which are none.

    Raises:
        ValueError: for a name that is no node's.
    """
    plain = name.replace(" ", "")
    for pattern in HEADS:
        if match := pattern.fullmatch(plain):
            return f"{match[1]}.{match[2]}"
    for pattern in MLPS:
        if match := pattern.fullmatch(plain):
            return f"mlp.{match[1]}"
    if LAYER.fullmatch(plain):
        raise ValueError(f"{name[:60]!r}, which is every head of a layer: name one, as {plain.partition('[')[0]}[6]")
    if not OTHERS.fullmatch(plain):
        raise ValueError(f"{name[:60]!r}, which is no node of a circuit")
    return ""


def is_node(name: object) -> bool:
    """Whether something is a node's name."""
    try:
        return isinstance(name, str) and site(name) is not None
    except ValueError:
        return False


def ends(edge: str) -> tuple[str, str]:
    """The sites at the ends of an edge `A->B`.

    Raises:
        ValueError: if it is no edge.
    """
    parts = edge.split("->")
    if len(parts) != 2:
        raise ValueError(f"{edge[:60]!r} where an edge A->B belongs")
    return site(parts[0]), site(parts[1])


def carried(edges: Iterable[tuple[tuple[str, str], float]]) -> tuple[dict[str, float], dict[str, float]]:
    """What edges with scores say of the sites that carry them: of each its strongest edge, by value and by magnitude.

    So the k highest sites are those that one meets first as the edges are taken from the strongest down.
    """
    largest: dict[str, float] = {}
    magnitudes: dict[str, float] = {}
    for both, score in edges:
        for one in dict.fromkeys(filter(None, both)):
            largest[one] = max(largest.get(one, score), score)
            if abs(score) > abs(magnitudes.get(one, 0.0)) or one not in magnitudes:
                magnitudes[one] = score
    return largest, magnitudes


def of_edges(edges: Mapping[str, tuple[tuple[str, str], float | None]]) -> Published:
    """What a list of edges says: with scores, those of the sites that carry them; without, these sites.

    Args:
        edges: by name, the two sites and the score.

    Raises:
        ValueError: if some have a score and others none.
    """
    scored = [(both, score) for both, score in edges.values() if score is not None]
    if scored and len(scored) < len(edges):
        raise ValueError(f"{len(scored):,} of {len(edges):,} edges with a score")
    if scored:
        largest, magnitudes = carried(scored)
        return Published(scores=largest, magnitudes=magnitudes)
    named = dict.fromkeys(one for both, _ in edges.values() for one in both if one)
    return Published(named=tuple(named))
