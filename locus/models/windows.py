"""How far back each layer's attention sees, as the model's own masks say.

The masks are asked of the model for a text that is longer than any window its configuration speaks of; no layer is run for that.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from locus.models.layout import setting

if TYPE_CHECKING:
    from locus.models.model import LayerCall, Model

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


def seen_windows(model: "Model") -> list[Window]:
    """The window of every layer."""
    sizes = spoken_of(model.hf.config)
    asked = [size for size in sizes if size + 4 <= min(LONGEST, model.context)]
    if not sizes:
        return [NO_WINDOW] * model.layout.n_layers
    windows = [NO_WINDOW] * model.layout.n_layers
    if asked:
        count = max(asked) + 4
        tokens = torch.full((1, count), 3) % int(model.hf.get_input_embeddings().weight.shape[0])  # type: ignore[operator]
        seen = torch.ones(1, count, dtype=torch.long)
        seen[0, 0] = 0  # padded, without which a mask may be left out
        windows = [_window(call, count, asked) for call in model.called(tokens, seen)]
    return windows if len(asked) == len(sizes) else _longer(model, windows)


def _window(call: "LayerCall", count: int, sizes: list[int]) -> Window:
    """The window of a layer by the mask that it is given."""
    mask = next(
        (one for one in (*call.args, *call.kwargs.values()) if isinstance(one, Tensor) and one.shape[-2:] == (count, count)), None
    )
    if mask is None:
        return NO_WINDOW
    rows = mask.reshape(-1, count, count)[0, -2:]
    sees = rows if rows.dtype == torch.bool else rows > -1.0
    earlier, last = (int(row.nonzero()[0]) for row in sees)
    if last <= 1:
        return NO_WINDOW
    if earlier == last - 1:
        return Window(count - last)
    chunk = next((size for size in sizes if (last - 1) % size == 0 and count - last <= size), None)
    return NO_WINDOW if chunk is None else Window(chunk, chunked=True)


def _longer(model: "Model", windows: list[Window]) -> list[Window]:
    """The same with windows that are too long to be asked for, as the configuration states them."""
    hf: Any = model.hf
    config = hf.config.get_text_config()
    size, kinds = setting(config, "sliding_window"), setting(config, "layer_types")
    if not isinstance(size, int) or size + 4 <= LONGEST or setting(config, "use_sliding_window") is False:
        return windows
    kinds = kinds or ["sliding_attention"] * len(windows)
    return [Window(size) if "sliding" in str(kind) else window for kind, window in zip(kinds, windows, strict=False)]
