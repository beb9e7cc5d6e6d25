"""A model whose weights lie on several devices, in memory and on disk, as accelerate spreads it.

Accelerate puts a hook around every module's forward: it brings what enters to the module's device and, where the weights lie
elsewhere (`offload`), fetches them for the call. So a module says where it computes and what its weights are, but may hold none.
The engine's own arithmetic needs the vocabulary head, and norms of its own: these small parts are fetched once and stay. What is
fetched for a forward with gradients would be held for the way back, all layers of it; here it is fetched again instead.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from locus.models.sliced import is_sliced, processes, whole


def is_spread(hf: nn.Module) -> bool:
    """Whether accelerate's hooks are in a model."""
    return any(hasattr(module, "_hf_hook") for module in hf.modules())


def one_at_a_time(hf: nn.Module) -> str:
    """Why a process can run no more than one forward of a model at a time; "" where it can."""
    if is_spread(hf):
        return "its weights lie on several devices, and are fetched"
    return f"each of {processes(hf)} processes holds a slice of its weights, and they must keep in step" if is_sliced(hf) else ""


def place_of(module: nn.Module) -> torch.device:
    """Where a module computes, which may not be where its weights lie."""
    for part in module.modules():
        place = getattr(getattr(part, "_hf_hook", None), "execution_device", None)
        if place is not None:
            return torch.device("cuda", place) if isinstance(place, int) else torch.device(place)
    return next(module.parameters()).device


def fetching(module: nn.Module) -> Any:
    """The hook that fetches a module's own weights for every call; None where they stay."""
    hook = getattr(module, "_hf_hook", None)
    several = getattr(hook, "hooks", (hook,))
    return next((one for one in several if getattr(one, "offload", False)), None)


def value(module: nn.Module, name: str) -> Tensor | None:
    """A tensor of a module by its own name, fetched to where the module computes if it lies elsewhere, or in other processes."""
    held: Tensor | None = getattr(module, name, None)
    if held is None or held.device.type != "meta":
        return None if held is None else whole(held)
    fetched: Tensor = fetching(module).weights_map[name]
    return fetched.to(place_of(module), held.dtype)


def tensors(hf: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """What a model's state dict holds, by name in alphabetical order, one tensor at a time."""
    for key, held in sorted(hf.state_dict().items()):
        outer, _, name = key.rpartition(".")
        if held.device.type == "meta":
            fetched = value(hf.get_submodule(outer), name)
            assert fetched is not None, "a tensor of the state dict"
            held = fetched
        yield key, whole(held)


def room(hf: nn.Module, device: torch.device) -> int:
    """Bytes of a model's GPU; of several, what the weights there leave of the fullest.

    Args:
        hf: the model.
        device: where it is, or where tokens enter it.
    """
    total = {place: torch.cuda.get_device_properties(place).total_memory for place in _gpus(hf) | {device}}
    if is_spread(hf):
        for held in hf.parameters():
            if held.device in total:
                total[held.device] -= held.numel() * held.element_size()
    return min(total.values())


def _gpus(hf: nn.Module) -> set[torch.device]:
    """The GPUs that a model is spread over."""
    return {place for module in hf.modules() if hasattr(module, "_hf_hook") and (place := place_of(module)).type == "cuda"}


def hold(module: nn.Module) -> None:
    """Keep a module's own weights where it computes from now on."""
    hook = fetching(module)
    if hook is None:
        return
    for name, _ in [*module.named_parameters(recurse=False)]:
        fetched = value(module, name)
        assert fetched is not None, "a parameter"
        module.register_parameter(name, nn.Parameter(fetched, requires_grad=False))
    hook.offload = False


def prepare(hf: nn.Module) -> None:
    """Keep what is small where it computes, and have all else that is fetched let go until the way back."""
    for module in hf.modules():
        own = [*module.parameters(recurse=False)]
        if own and all(one.ndim < 2 for one in own):
            hold(module)
        elif fetching(module) is not None:
            _Fetched(module)


class _Fetched:
    """While a module runs with gradients, notes of its weights which they are, in place of the weights themselves."""

    def __init__(self, module: nn.Module):
        self.names = [name for name, _ in module.named_parameters(recurse=False)]
        self.entered: list[Any] = []
        module.register_forward_pre_hook(self._before)
        module.register_forward_hook(self._after, always_call=True)

    def _before(self, module: nn.Module, _: Any) -> None:
        noted = torch.autograd.graph.saved_tensors_hooks(lambda tensor: self._note(module, tensor), _fetch)
        noted.__enter__()
        self.entered.append(noted)

    def _after(self, *_: Any) -> None:
        self.entered.pop().__exit__()

    def _note(self, module: nn.Module, tensor: Tensor) -> Any:
        """A weight as its name and how it is looked at; anything else as it is."""
        for name in self.names:
            held: Tensor = getattr(module, name)
            if held.device.type != "meta" and held.untyped_storage().data_ptr() == tensor.untyped_storage().data_ptr():
                return module, name, tensor.size(), tensor.stride(), tensor.storage_offset() - held.storage_offset()
        return tensor


def _fetch(noted: Any) -> Tensor:
    """What was noted."""
    if isinstance(noted, Tensor):
        return noted
    module, name, size, stride, offset = noted
    fetched = value(module, name)
    assert fetched is not None, "a weight"
    return fetched.as_strided(size, stride, offset)
