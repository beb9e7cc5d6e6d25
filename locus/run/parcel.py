"""Objects as bytes and large arrays apart, so that workers of one machine share these where they lie.

A tensor is sent as its storage, once however many tensors look at it, with shape and strides: what is computed from it is then
the same to the last bit. Who unpacks it may get memory that cannot be written to, and nothing here is.
"""

import io
import pickle
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

Bytes = npt.NDArray[np.uint8]
LARGE = 1 << 12  # bytes from which on an array lies apart


@dataclass(frozen=True)
class Parcel:
    """A packed object.

    Attributes:
        content: all of it but the large arrays.
        arrays: these.
    """

    content: bytes
    arrays: list[Bytes]


@dataclass(frozen=True)
class _Storage:
    """The memory that tensors look at."""

    values: Bytes


class _Packer(pickle.Pickler):
    """Pickles with large arrays and the memory of tensors apart, and some objects left out."""

    def __init__(self, file: io.BytesIO, away: Mapping[int, str], arrays: list[Bytes]):
        super().__init__(file, protocol=5, buffer_callback=self._apart)
        self.away, self.arrays = away, arrays
        self.storages: dict[int, tuple[_Storage, Tensor]] = {}

    def _apart(self, buffer: pickle.PickleBuffer) -> bool:
        """Whether a buffer stays in the stream; one that does not is kept apart."""
        raw = buffer.raw()
        if raw.nbytes < LARGE:
            return True
        self.arrays.append(np.frombuffer(raw, dtype=np.uint8))
        return False

    def persistent_id(self, thing: Any) -> str | None:
        """The name of what is left out."""
        return self.away.get(id(thing))

    def reducer_override(self, thing: Any) -> Any:
        """Tensors as views of their memory; all else as ever."""
        if type(thing) is nn.Parameter and thing.layout == torch.strided:
            return _parameter, (thing.detach(), thing.requires_grad)
        if type(thing) is not Tensor or thing.layout != torch.strided or thing.is_quantized or thing.is_meta:
            return NotImplemented
        device, plain = thing.device.type, thing.detach().cpu()
        key = plain.untyped_storage().data_ptr() or -id(thing)
        if key not in self.storages:
            whole = torch.empty(0, dtype=torch.uint8).set_(plain.untyped_storage())
            self.storages[key] = _Storage(whole.numpy()), plain  # kept, so that no other gets its address
        beside = dict(vars(thing))
        view = (plain.storage_offset(), tuple(plain.shape), plain.stride())
        return _tensor, (self.storages[key][0], plain.dtype, view, device, beside)


def _tensor(storage: _Storage, dtype: torch.dtype, view: tuple[Any, ...], device: str, beside: dict[str, Any]) -> Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*not writable.*")
        memory = torch.from_numpy(storage.values).untyped_storage()
    tensor = torch.empty(0, dtype=dtype).set_(memory, *view)
    tensor = tensor if device == "cpu" else tensor.to(device)
    vars(tensor).update(beside)
    return tensor


def _parameter(values: Tensor, requires_grad: bool) -> nn.Parameter:
    return nn.Parameter(values, requires_grad=requires_grad)


class _Opener(pickle.Unpickler):
    """Puts what was left out in its place."""

    def __init__(self, parcel: Parcel, given: Mapping[str, Any]):
        super().__init__(io.BytesIO(parcel.content), buffers=parcel.arrays)
        self.given = given

    def persistent_load(self, name: Any) -> Any:
        """What stands here for that which was left out."""
        return self.given[name]


def pack(thing: Any, away: Mapping[int, str] | None = None) -> Parcel:
    """An object as a parcel.

    Args:
        thing: the object.
        away: by their `id`, names of objects in it that are left out; None may be one of them.
    """
    file, arrays = io.BytesIO(), list[Bytes]()
    _Packer(file, {one: name for one, name in (away or {}).items() if one != id(None)}, arrays).dump(thing)
    return Parcel(file.getvalue(), arrays)


def unpack(parcel: Parcel, given: Mapping[str, Any] | None = None) -> Any:
    """The object of a parcel that this program has packed.

    Args:
        parcel: the parcel.
        given: by their names, what stands for the objects that were left out.
    """
    return _Opener(parcel, given or {}).load()
