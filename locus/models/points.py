"""The points of a layer at which an edit may act: one vector a token, which is read and replaced as the model runs.

They bear the names that TransformerLens gives their hooks. At the input of a linear map (z, post) what is written can also be
taken behind the map, freely in the residual stream. What is there is seen in a probe (`discovery`), never looked up by a name.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

if TYPE_CHECKING:
    from locus.models.discovery import LayerParts

Side = Literal["input", "output", "stream"]
Change = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Point:
    """One point.

    Attributes:
        words: what the vector there is.
        side: of a module: what enters it, what it gives, or the stream among what it is called with.
        path: of the module, among a layer's parts; "" where the layer has none.
        before_mlp: whether the layer's MLP lies behind it.
    """

    words: str
    side: Side
    path: Callable[["LayerParts"], str]
    before_mlp: bool = True

    @property
    def has_map(self) -> bool:
        """Whether it is the input of a linear map, behind which an edit may write as well."""
        return self.side == "input"


POINTS: Mapping[str, Point] = {
    "z": Point("the input of the attention's output projection", "input", lambda parts: parts.output),
    "post": Point("the input of the MLP's down projection", "input", lambda parts: parts.down, before_mlp=False),
    "attn_out": Point("the output of the attention module", "output", lambda parts: parts.output),
    "mlp_out": Point("the output of the MLP", "output", lambda parts: parts.mlp or parts.down, before_mlp=False),
    "resid_pre": Point("the residual stream entering the layer", "stream", lambda parts: parts.path),
}


def attach(
    own: nn.Module, side: Side, change: Change, stream: int | str = 0, idle: Callable[[], bool] = lambda: False
) -> RemovableHandle:
    """Put what a function makes of a point's vectors [rows, T, width] in their place, until the handle is removed.

    Args:
        own: the point's module.
        side: of it.
        change: the function.
        stream: how a layer is handed the residual stream: a place among its arguments, or a keyword.
        idle: whether layers are called only to see how, and none is run.
    """

    def entering(_: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return (change(args[0]), *args[1:])

    def handed(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if idle():
            return args, kwargs
        if isinstance(stream, str):
            return args, {**kwargs, stream: change(kwargs[stream])}
        return (*args[:stream], change(args[stream]), *args[stream + 1 :]), kwargs

    def given(_: nn.Module, __: tuple[Any, ...], output: Any) -> Any:  # of several things, the first is meant
        return (change(output[0]), *output[1:]) if isinstance(output, tuple) else change(output)

    if side == "input":
        return own.register_forward_pre_hook(entering)
    if side == "output":
        return own.register_forward_hook(given)
    return own.register_forward_pre_hook(handed, with_kwargs=True)
