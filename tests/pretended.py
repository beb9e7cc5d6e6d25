"""A GPU that is none: tensors that say they lie on `cuda:0`, keep their numbers on the CPU, and refuse what a GPU refuses.

What runs here runs the lines that a GPU would: a tensor that was left on the CPU, or one that is read by numpy before it was
copied back, is an error as it is there. Speed, kernels and rounding are the CPU's.
"""

from types import SimpleNamespace

import torch
from accelerate.hooks import ModelHook, add_hook_to_module
from accelerate.utils import send_to_device
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

GPU = torch.device("cuda:0")
ACROSS = {"_to_copy", "copy_", "index", "index_put_"}  # take tensors of both; the last two an index on the CPU
NO_NUMBERS = {"mm", "bmm", "addmm", "baddbmm", "index_select", "gather", "index_add", "index_copy", "index_add_", "index_copy_"}


class Held(torch.Tensor):
    """A tensor on the pretended GPU. To C++, which has no device guard for CUDA here, it lies on `meta`."""

    @staticmethod
    def __new__(cls, inner):
        made = {"strides": inner.stride(), "storage_offset": inner.storage_offset(), "dtype": inner.dtype, "device": "meta"}
        return torch.Tensor._make_wrapper_subclass(cls, inner.size(), **made)

    def __init__(self, inner):
        self.inner = inner

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        return run(function, args, kwargs or {})

    @property
    def device(self):
        return GPU

    @property
    def data(self):
        return self.detach()

    @data.setter
    def data(self, value):
        self.inner = value.inner

    def tolist(self):
        return self.inner.tolist()

    def numpy(self):
        raise TypeError("can't convert cuda:0 device type tensor to numpy")

    def __getitem__(self, index):
        return super().__getitem__(_as_tensors(index))

    def __setitem__(self, index, value):
        super().__setitem__(_as_tensors(index), value)


def _as_tensors(index):
    """An index whose lists are tensors: torch would make them on `meta`, where they have no numbers."""
    if isinstance(index, tuple):
        return tuple(map(_as_tensors, index))
    return torch.tensor(index) if isinstance(index, list) else index


def run(function, args, kwargs):
    """An operation on the CPU, if a GPU would do it."""
    name = function._schema.name.partition("::")[2]
    if name == "_fused_sdp_choice":
        return 0  # attention by plain products
    tensors = [one for one in tree_leaves((args, kwargs)) if isinstance(one, torch.Tensor)]
    here = [one for one in tensors if not isinstance(one, Held)]
    mixed = 0 < len(here) < len(tensors)
    if mixed and name not in ACROSS and (name in NO_NUMBERS or any(one.ndim for one in here)):
        raise RuntimeError(f"{function} of tensors on two devices")
    if mixed and name in ("index", "index_put_") and not isinstance(args[0], Held):
        raise RuntimeError(f"{function} of a tensor on the CPU by one on the GPU")
    device = kwargs.get("device")
    if device is not None:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    output = function(*tree_map(_inner, args), **tree_map(_inner, kwargs))
    if function._schema.is_mutable and name.endswith("_"):
        return args[0] if function._schema.returns else None
    held = len(here) < len(tensors) if device is None else torch.device(device).type != "cpu"
    return tree_map(lambda one: Held(one) if isinstance(one, torch.Tensor) else one, output) if held else output


def _inner(one):
    return one.inner if isinstance(one, Held) else one


class Pretending(TorchDispatchMode):
    """Whatever is made on `cuda:0` is made on the pretended GPU while a `with` block lasts."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        return run(function, args, kwargs or {})


def prepare(monkeypatch):
    """Have torch's own calls of CUDA answer as one GPU's would."""
    for name in ("_lazy_init", "synchronize", "empty_cache", "reset_peak_memory_stats"):
        monkeypatch.setattr(torch.cuda, name, lambda: None)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 1 << 30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(name="none", total_memory=80 << 30))


def moved(module):
    """A module whose parameters and buffers lie on the pretended GPU."""
    for part in module.modules():
        for name, one in part.named_parameters(recurse=False):
            part.register_parameter(name, torch.nn.Parameter(Held(one.data), requires_grad=False))
        for name, one in part.named_buffers(recurse=False):
            setattr(part, name, Held(one))
    return module


class Brings(ModelHook):
    """What accelerate does around a module that lies on another device: brings what enters there, and at the top back."""

    def __init__(self, place, back):
        self.execution_device, self.back = place, back

    def pre_forward(self, module, *args, **kwargs):
        skipped = {"skip_keys": "past_key_values"}
        return send_to_device(args, self.execution_device), send_to_device(kwargs, self.execution_device, **skipped)

    def post_forward(self, module, output):
        return send_to_device(output, self.execution_device, skip_keys="past_key_values") if self.back else output


def spread(module, places):
    """A module whose parts, by path, lie on the pretended GPU or on the CPU; what enters comes to the CPU, and what leaves."""
    for path, place in {"": torch.device("cpu"), **places}.items():
        part = module.get_submodule(path)
        add_hook_to_module(moved(part) if place == GPU else part, Brings(place, back=not path))
    module.hf_device_map = places
    return module
