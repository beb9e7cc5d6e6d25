"""Where a hook of TransformerLens acts, as a site: directions of SAEs and of vector files name their place by it."""

import re

from locus.sites.names import NUMBER

HOOK = re.compile(rf"blocks\.{NUMBER}\.(hook_resid_pre|hook_resid_post|hook_attn_out|hook_mlp_out|attn\.hook_z)")


def site_of(hook: str, head: int | None = None) -> str:
    """The site of a hook: what leaves a layer enters the next.

    Args:
        hook: as `blocks.8.hook_resid_pre`.
        head: of `attn.hook_z`, where one alone is meant.

    Raises:
        ValueError: if it is no hook of the stream or of a module's output.
    """
    match = HOOK.fullmatch(hook)
    if match is None:
        raise ValueError(f"the hook {hook[:60]!r}, which is none of the stream, of a module's output, or of heads")
    layer, kind = int(match[1]), match[2]
    if kind == "attn.hook_z":
        return f"{layer}.{head}" if head is not None else f"attn.{layer}"
    if kind.startswith("hook_resid"):
        return f"resid.{layer + (kind == 'hook_resid_post')}"
    return f"{'attn' if kind == 'hook_attn_out' else 'mlp'}.{layer}"
