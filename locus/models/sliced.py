"""A model of whose layers every process holds a slice, as transformers cuts them (`tp_plan`): whole wherever an edit acts.

Transformers cuts the maps that make heads and neurons by their outputs, and those behind them (an attention's output projection,
an MLP's down projection) by their inputs, and adds up what these give. So between the two a process sees its own heads and
neurons alone. Here what enters a map that is cut by its inputs is joined for whoever reads or changes it, an edit or a probe, and
cut again before the map: all processes then have the same vectors, edits and gradients, and nothing else in the package need
know. Joined and cut again, a vector is the same to the last bit; where nobody looks, it is not joined at all.
"""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from locus.errors import UserError, others
from locus.machine import ranks
from locus.models.layout import setting

if TYPE_CHECKING:
    from transformers.distributed.configuration_utils import DistributedConfig

TESTED = "5.23"  # of transformers: the versions in which all of this was seen to hold
BY_INPUTS, BY_OUTPUTS, WHOLE = "rowwise", "colwise", "replicate"
STYLES = {BY_INPUTS, BY_OUTPUTS, WHOLE, "replicated_with_grad_allreduce"}  # the last of what is whole, and frozen here


def is_sliced(module: nn.Module) -> bool:
    """Whether some weights of a module are slices."""
    return any(hasattr(one, "device_mesh") for one in module.parameters())


def processes(module: nn.Module) -> int:
    """How many processes hold a slice of a module each; 1 where it is whole."""
    return ranks.count() if is_sliced(module) else 1


def whole(tensor: Tensor) -> Tensor:
    """A tensor of a model's, put together where processes hold slices of it: all of them must ask for it."""
    return getattr(tensor, "full_tensor", lambda: tensor)()


def distributed(empty: Any) -> "DistributedConfig":
    """What `from_pretrained` is told so that each process gets its slice of the layers; what turns tokens into vectors, and
    vectors into logits, every process has whole, since the engine computes with it.

    Args:
        empty: the model without weights.
    """
    from transformers.distributed.configuration_utils import DistributedConfig

    kept = {path: WHOLE for path in empty.tp_plan if path in _around(empty)}
    return DistributedConfig(tp_size=ranks.count(), tp_plan=kept or "auto")


def check_version() -> None:
    """Refuse versions of transformers in which this was not tested.

    Raises:
        UserError: naming the version.
    """
    from transformers import __version__

    if not f"{__version__}.".startswith(f"{TESTED}."):
        remedy = f"Install transformers {TESTED}, or use --set device_map=auto without torchrun."
        raise UserError(f"transformers {TESTED}, with which tp_plan was tested", __version__, remedy)


def check(empty: Any, name: str) -> None:
    """Refuse a model that cannot be cut into equal slices, one for every process.

    Args:
        empty: the model without weights.
        name: what the user calls it.

    Raises:
        UserError: if transformers has no plan for it, or one with more than maps that are cut by inputs or outputs; or if heads
            or features cannot be dealt out equally.
    """
    count, plan, instead = ranks.count(), dict(empty.tp_plan or {}), "Use --set device_map=auto without torchrun."
    if BY_INPUTS not in plan.values():
        raise UserError("an architecture for which transformers has a tp_plan", f"{name!r} ({type(empty).__name__})", instead)
    strange = {path: style for path, style in plan.items() if style not in STYLES and path not in _around(empty)}
    if strange:
        path, style = next(iter(strange.items()))
        wanted = "a tp_plan that cuts linear maps by their inputs or outputs alone"
        raise UserError(wanted, f"that of {name!r}, with {style!r} for {path}", instead)
    config = empty.config.get_text_config()
    sizes: dict[str, object] = {"query heads": setting(config, "num_attention_heads", "n_head")}
    sizes["key-value heads"] = setting(config, "num_key_value_heads") or sizes["query heads"]
    for path, module in empty.named_modules():
        style = _style(path, plan)
        if style in (BY_INPUTS, BY_OUTPUTS):
            sizes[f"features of {path}"] = getattr(module, "in_features" if style == BY_INPUTS else "out_features", None)
    for what, size in sizes.items():
        if not isinstance(size, int) or size % count:
            wanted = f"{what} that {count} processes can share out equally"
            raise UserError(wanted, f"{size} in {name!r}", "Begin as many processes as divide it (torchrun --nproc-per-node).")


def _around(hf: Any) -> set[str]:
    """Paths of the embeddings and the vocabulary head."""
    ends = [hf.get_input_embeddings(), hf.get_output_embeddings()]
    return {path for path, module in hf.named_modules() if any(module is one for one in ends)}


def _style(path: str, plan: Mapping[str, str]) -> str | None:
    """How a plan has a module cut: its rules name every layer by a star."""
    return plan.get(re.sub(r"\.\d+(?=\.|$)", ".*", path))


def empty(reader: Any, config: Any, name: str, trust_remote_code: bool) -> Any:
    """A model without weights, to look at.

    Args:
        reader: the class of transformers that opens it.
        config: its configuration.
        name: what the user calls it.
        trust_remote_code: run code that comes with it.

    Raises:
        UserError: if it cannot be made.
    """
    remedy = "Use --set device_map=auto without torchrun."
    with others("a model that can be cut into slices", name, remedy), torch.device("meta"):
        return reader.from_config(config, trust_remote_code=trust_remote_code)


def prepare(hf: Any) -> None:
    """Join what enters each map that is cut by its inputs, where somebody reads or changes it, and cut it again."""
    for path, module in hf.named_modules():
        if _style(path, hf.tp_plan) == BY_INPUTS:
            _Between(module)


class _Between:
    """Stands before a map that is cut by its inputs: first of all that is hooked to it, and last before it runs."""

    def __init__(self, module: nn.Module):
        self.run = module.forward
        self.width: int = module.in_features  # type: ignore[assignment] # of the whole map
        module.register_forward_pre_hook(self._before)
        module.forward = self._forward

    def _before(self, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        alone = len(module._forward_pre_hooks) == 1
        return None if alone or args[0].shape[-1] == self.width else (_Joined.apply(args[0]), *args[1:])  # type: ignore[no-untyped-call]

    def _forward(self, inputs: Tensor, *args: Any, **kwargs: Any) -> Any:
        own = _Cut.apply(inputs) if inputs.shape[-1] == self.width else inputs  # type: ignore[no-untyped-call]
        return self.run(own, *args, **kwargs)


class _Joined(torch.autograd.Function):
    """The slices of all processes beside one another; on the way back, a process's own slice of the gradient."""

    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:
        return ranks.beside(own)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return ranks.mine(grads[0])


class _Cut(torch.autograd.Function):
    """A process's own slice; on the way back, the gradients of all slices beside one another."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor) -> Tensor:
        return ranks.mine(inputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return ranks.beside(grads[0])
