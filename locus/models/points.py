"""The points of a layer at which an edit may act: one vector a token, which is read and replaced as the model runs.

They bear the names that TransformerLens gives their hooks. At the input of a linear map (z, post) what is written can also be
taken behind the map, freely in the residual stream. What is there is seen in a probe (`discovery`), never looked up by a name.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

Side = Literal["input", "output", "stream"]
Change = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class LayerParts:
    """Where what is inside one layer's modules.

    Attributes:
        path: of the layer, in the model.
        output: path of the attention's output projection in the model; "" where the layer has no heads.
        transposed: whether that projection's weight is stored as [input, output].
        mlp: path of what is added to the stream besides attention; "" where that is not one module, or is all there is.
        down: path of the MLP's down projection; "" where none was proved to be one.
        turned: whether that projection's weight is stored as [input, output].
    """

    path: str
    output: str = ""
    transposed: bool = False
    mlp: str = ""
    down: str = ""
    turned: bool = False


@dataclass(frozen=True)
class Point:
    """One point.

    Attributes:
        words: what the vector there is.
        side: of a module: what enters it, what it gives, or the stream among what it is called with.
        path: of the module, among a layer's parts; "" where the layer has none.
        before_mlp: whether the layer's MLP lies behind it.
        given_by: the point that enters the linear map which gives what is here, in the layer itself, or for the stream in the one
            before; "" at the input of a map.
    """

    words: str
    side: Side
    path: Callable[[LayerParts], str]
    before_mlp: bool = True
    given_by: str = ""

    @property
    def has_map(self) -> bool:
        """Whether it is the input of a linear map, behind which an edit may write as well."""
        return self.side == "input"


POINTS: Mapping[str, Point] = {
    "z": Point("the input of the attention's output projection", "input", lambda parts: parts.output),
    "post": Point("the input of the MLP's down projection", "input", lambda parts: parts.down, before_mlp=False),
    "attn_out": Point("the output of the attention module", "output", lambda parts: parts.output, given_by="z"),
    "mlp_out": Point("the output of the MLP", "output", lambda parts: parts.mlp or parts.down, before_mlp=False, given_by="post"),
    "resid_pre": Point("the residual stream entering the layer", "stream", lambda parts: parts.path, given_by="post"),
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

    def handed(_: nn.Module, args: Any, kwargs: Any) -> Any:
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
