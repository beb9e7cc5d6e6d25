"""How far back each layer's attention sees, as the model's own masks say.

The masks are asked of the model for a text that is longer than any window its configuration speaks of; no layer is run for that.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from locus.models.layout import context, setting

SPEAKS = ("window", "chunk", "local")  # of how settings are called that limit how far back is seen
LONGEST = 8200  # tokens of a mask that is asked for: 270 MB


@dataclass(frozen=True)
class Window:
    """How far back a token sees: all before it, so many tokens, or to the beginning of its chunk of so many."""

    size: int | None = None
    chunked: bool = False

    def reaches(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Whether queries see keys, by the positions of both, whose shapes broadcast."""
        if self.size is None:
            return torch.ones((), dtype=torch.bool, device=queries.device)
        if self.chunked:
            return queries // self.size == keys // self.size
        return queries - keys < self.size


NO_WINDOW = Window()


def spoken_of(config: Any) -> list[int]:
    """The sizes of windows that a configuration speaks of."""
    config = config.get_text_config()
    names = [name for name in config.to_dict() if any(word in name for word in SPEAKS)]
    values = [setting(config, name) for name in names]
    return sorted({value for value in values if isinstance(value, int) and not isinstance(value, bool) and value > 1})


def seen_windows(config: Any, n_layers: int, masks: Callable[[Tensor, Tensor], list[Tensor | None]], known: int) -> list[Window]:
    """The window of every layer.

    Args:
        config: of the model.
        n_layers: of the model.
        masks: gives the mask of every layer for tokens [1, T] under a mask of these.
        known: tokens that the model has embeddings for.
    """
    sizes = spoken_of(config)
    asked = [size for size in sizes if size + 4 <= min(LONGEST, context(config))]
    windows = [NO_WINDOW] * n_layers
    if asked:
        count = max(asked) + 4
        seen = torch.ones(1, count, dtype=torch.long)
        seen[0, 0] = 0  # padded, without which a mask may be left out
        windows = [_window(mask, asked) for mask in masks(torch.full((1, count), 3) % known, seen)]
    return windows if len(asked) == len(sizes) else _longer(config.get_text_config(), windows)


def _window(mask: Tensor | None, sizes: list[int]) -> Window:
    """The window of a layer by the mask that it is given."""
    if mask is None:
        return NO_WINDOW
    count = mask.shape[-1]
    rows = mask.reshape(-1, count, count)[0, -2:]
    sees = rows if rows.dtype == torch.bool else rows > -1.0
    earlier, last = (int(row.nonzero()[0]) for row in sees)
    if last <= 1:
        return NO_WINDOW
    if earlier == last - 1:
        return Window(count - last)
    chunk = next((size for size in sizes if (last - 1) % size == 0 and count - last <= size), None)
    return NO_WINDOW if chunk is None else Window(chunk, chunked=True)


def _longer(config: Any, windows: list[Window]) -> list[Window]:
    """The same with windows that are too long to be asked for, as the configuration states them."""
    size, kinds = setting(config, "sliding_window"), setting(config, "layer_types")
    if not isinstance(size, int) or size + 4 <= LONGEST or setting(config, "use_sliding_window") is False:
        return windows
    kinds = kinds or ["sliding_attention"] * len(windows)
    return [Window(size) if "sliding" in str(kind) else window for kind, window in zip(kinds, windows, strict=False)]
