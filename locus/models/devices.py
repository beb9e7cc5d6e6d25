"""Over which devices a model is to be spread: the setting `device_map`, as transformers has it, and what is wrong with one.

A way to spread is a word, and accelerate does the sharing out; or a table says for modules where they lie, by their names in the
model. Nothing here needs torch until there is a model to look at.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from locus import registry
from locus.boundary import incoming
from locus.errors import UserError
from locus.machine.torchrun import begun

WAYS = ("auto", "balanced", "balanced_low_0", "sequential")
PLACE = re.compile(r"cpu|disk|cuda(?::(\d{1,3}))?")
ALONE = "Begin it so: torchrun --nproc-per-node N -m locus audit ... --set tp_plan=auto; or use --set device_map=auto."
EXPECTED = f"a device_map: {', '.join(WAYS)}, a table of modules and devices, or a JSON file of one"
MOST = 10_000  # entries of a table

DeviceMap = str | dict[str, str]


def as_map(value: Any) -> DeviceMap | None:
    """A device_map as it is kept: a way to spread by its name, or a table from modules to cpu, disk, cuda or cuda:N.

    Args:
        value: such a word or table, in which a whole number N is cuda:N; or the path of a JSON file with a table.

    Raises:
        UserError: if it is none of these.
    """
    if value is None or value in WAYS:
        return value  # type: ignore[no-any-return]
    if isinstance(value, str | Path) and str(value).endswith(".json"):
        value = incoming.read_json(Path(value), EXPECTED)
    if not isinstance(value, Mapping) or not 0 < len(value) <= MOST:
        raise UserError(EXPECTED, repr(value)[:80], "Use --set device_map=auto.")
    table = {name: f"cuda:{place}" if type(place) is int else str(place) for name, place in value.items()}
    if wrong := [place for name, place in table.items() if not isinstance(name, str) or not PLACE.fullmatch(place)]:
        raise UserError("devices cpu, disk, cuda or cuda:N in a device_map", repr(wrong[0])[:80], "Mend the table.")
    return table


def check_alone(
    name: str, device: str = "auto", adapter: str | None = None, twin: int | None = None, beside: str = "device_map"
) -> None:
    """Refuse what a model that is spread over devices, or cut into slices, cannot be besides.

    Args:
        name: of the model.
        device: the setting beside the map.
        adapter: likewise.
        twin: likewise.
        beside: the setting by which it is spread.

    Raises:
        UserError: with the first.
    """
    if device != "auto":
        raise UserError(f"either a device or a {beside}", f"device = {device!r} beside a {beside}", "Leave one of them out.")
    if registry.known("models", name) or name.startswith(registry.MEMORY):
        raise UserError(f"a {beside} for a model in files", f"one for {name!r}", "Leave it out, or save the model to a folder.")
    if adapter not in (None, "none"):
        received, remedy = (
            f"adapter = {adapter!r} beside a {beside}",
            "Merge the adapter, and save the merged model.",
        )
        raise UserError("a model without an adapter where it is spread over devices", received, remedy)
    if twin is not None:
        received, remedy = f"twin = {twin} beside a {beside}", "Audit the twin of a model that fits one device."
        raise UserError("a model whose weights are not redrawn where it is spread over devices", received, remedy)


def computes_on(table: Mapping[str, str]) -> str:
    """The kind of device that computes under a table: a GPU where it names one, which also runs what lies elsewhere."""
    return next((place for place in table.values() if place.startswith("cuda")), "cpu")


def check_here(chosen: DeviceMap) -> None:
    """Refuse a map with devices that are not here, and a process that is one of several.

    Raises:
        UserError: naming the device.
    """
    import torch

    count = torch.cuda.device_count()
    places = set() if isinstance(chosen, str) else set(chosen.values())
    for place in sorted(places - {"cpu", "disk"}):
        found = PLACE.fullmatch(place)
        if found is None or int(found[1] or 0) >= count:
            raise UserError(f"devices of this machine, which has {count} GPUs", place, "Mend the device_map, or use auto.")


def check_sliced(name: str, device: str = "auto", adapter: str | None = None, spread: DeviceMap | None = None) -> None:
    """Refuse what a model of which several processes hold slices cannot be besides, and one that a process holds by itself.

    Args:
        name: of the model.
        device: the setting beside tp_plan.
        adapter: likewise.
        spread: likewise, the device_map.

    Raises:
        UserError: with the first.
    """
    from locus.machine import ranks

    if ranks.count() == 1:
        raise UserError("processes that hold a slice each, which an audit alone begins", "one by itself", ALONE)
    if spread is not None:
        raise both()
    check_alone(name, device, adapter, beside="tp_plan")


def both() -> UserError:
    """What is wrong with a model that is to be spread and cut."""
    return UserError("either a device_map or a tp_plan", "both", "Leave one of them out: transformers forbids both.")


def check_one(tp_plan: str | None) -> None:
    """Refuse several audits, one after the other, of a model of which several processes hold slices.

    Raises:
        UserError: naming the setting.
    """
    if tp_plan is not None:
        raise UserError("one audit at a time with a tp_plan", "several", "Begin each by torchrun, in a folder of its own.")


def several_processes(tp_plan: str | None = None) -> UserError | None:
    """What is wrong where torchrun began several processes and they were not told to share the model, or the other way round."""
    _, count = begun()
    if count == 1 and tp_plan is not None:
        return UserError("several processes for tp_plan, a slice of the model each", "one", ALONE)
    if count == 1 or tp_plan is not None:
        return None
    return UserError(
        "one process, or an audit with a tp_plan, of which each process holds a slice",
        f"one of the {count} that torchrun began, without a tp_plan",
        "Give --set tp_plan=auto; or run it without torchrun: --set device_map=auto for a large model, or --part K/N for several "
        "machines.",
    )


def check_modules(empty: Any, chosen: DeviceMap, name: str) -> None:
    """Refuse a table that does not fit a model: modules that it has not or that are left out, layers that are cut through.

    Args:
        empty: the model without weights.
        chosen: the map; ways to spread fit any model.
        name: what the user calls the model.

    Raises:
        UserError: naming some of the modules.
    """
    if isinstance(chosen, str):
        return
    known = {path: type(module).__name__ for path, module in empty.named_modules()}
    tensors = [*dict(empty.named_parameters()), *dict(empty.named_buffers())]
    remedy = f"Its layers and the modules around them are, in order: {', '.join(_parts(empty))[:400]}."
    if strange := [one for one in chosen if one not in known]:
        raise UserError(f"modules of {name!r} in the device_map", ", ".join(map(repr, strange[:4])), remedy)
    if bare := [one for one in tensors if not any(_within(one, path) for path in chosen)]:
        raise UserError(f"a device for every module of {name!r}", f"none for {', '.join(bare[:4])}", remedy)
    whole = set(getattr(empty, "_no_split_modules", None) or ())
    layers = [path for path, kind in known.items() if kind in whole]
    if cut := [one for one in chosen for layer in layers if one != layer and _within(one, layer)]:
        raise UserError("layers that are whole on one device", f"{cut[0]!r} by itself", remedy)


def _within(path: str, outer: str) -> bool:
    return not outer or path == outer or path.startswith(f"{outer}.")


def _parts(empty: Any) -> list[str]:
    """The modules of a model down to its layers, as a table would name them."""
    whole = set(getattr(empty, "_no_split_modules", None) or ())
    above = {path.rsplit(".", 1)[0] for path, module in empty.named_modules() if type(module).__name__ in whole}
    above |= {outer for path in above for outer in _outer(path)}
    return [path for path, _ in empty.named_modules() if path and path not in above and path.rpartition(".")[0] in above | {""}]


def _outer(path: str) -> list[str]:
    """All that a path lies in."""
    names = path.split(".")
    return [".".join(names[:count]) for count in range(len(names))]
