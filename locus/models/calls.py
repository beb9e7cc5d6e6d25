"""How a model calls its layers: what enters the first, and what each is given besides the residual stream."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class LayerInputs:
    """What enters the first layer, [rows, T, width], and how each layer is called for these rows."""

    hidden: Tensor
    calls: list[tuple[tuple[Any, ...], dict[str, object]]]


@dataclass(frozen=True)
class LayerCall:
    """How a layer is called: with the stream [rows, T, width] and the rest of its arguments."""

    hidden: Tensor
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    @classmethod
    def of(cls, args: tuple[Any, ...], kwargs: Mapping[str, Any], stream: int | str) -> "LayerCall":
        """Take the stream out of a call's arguments."""
        if isinstance(stream, int):
            return cls(args[stream], (*args[:stream], *args[stream + 1 :]), kwargs)
        return cls(kwargs[stream], args, {key: value for key, value in kwargs.items() if key != stream})


def is_mask(value: Any, count: int) -> bool:
    """Whether an argument is a mask over pairs of so many tokens."""
    return isinstance(value, Tensor) and value.ndim == 4 and value.shape[-2:] == (count, count)
