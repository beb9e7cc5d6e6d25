"""Where a model's weights are: a hub id, a local folder, a GGUF file, or Python packages (packaged.py).

Nothing here needs torch until a GGUF file has to be converted, so a wrong name is said at once. Weights are safetensors or GGUF,
never pickle.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache as remembered
from pathlib import Path
from typing import Any

from locus.errors import UserError, others
from locus.models.adapter import MERGED, adapter_folder
from locus.models.adapter import WEIGHTS as ADAPTER_WEIGHTS
from locus.models.checkpoint import INDEX, PICKLED, WEIGHTS, check_folder, indexed, read_config, shards
from locus.models.gguf import check_gguf
from locus.models.packaged import MODELS, packaged_file
from locus.registry import MEMORY

DEFAULT_MODEL = "smollm2-135m-instruct"
DEVICE = re.compile(r"auto|cpu|cuda(?::(\d{1,3}))?")  # what a setting may say; whether there is one, torch knows


def locate(name: str, adapter: str | None = None) -> tuple[str, bool]:
    """What to hand to transformers for a name, and whether the weights were once quantised.

    Args:
        name: a hub id, a model folder, a GGUF file, or a model that comes as packages.
        adapter: the setting, whose choice is checked where the weights are here.

    Raises:
        UserError: if a local path does not hold a whole model, or which of two it holds is not said.
    """
    if name.startswith(MEMORY):
        raise UserError("a model that can be opened", f"{name!r}, which lay in memory", "Save it, and give its folder.")
    path = packaged_file(name, home()) if name in MODELS else Path(name)
    if path.suffix == ".gguf":
        check_gguf(path)
        adapter_folder(None, adapter, name)
        return str(_converted(path)), True
    if _is_dir(path):
        _examined(path, adapter, name)
    elif path.suffix in PICKLED or name.startswith((".", "/", "~")):
        raise UserError(
            "a hub id, a model folder, or a GGUF file",
            f"{name!r}",
            "Check the path; pickled weight files are refused because they can run code.",
        )
    else:
        adapter_folder(None, None if adapter == MERGED else adapter, name)  # what lies beside it, only the hub can say
    return name, False


def _is_dir(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def _examined(folder: Path, adapter: str | None, name: str) -> None:
    """Hold a folder, and the choice of adapter, against all that can be seen without loading it."""
    check_folder(folder)
    adapter_folder(folder, adapter, name)


def fetched(name: str, revision: str | None, trust_remote_code: bool, adapter: str | None, weights: bool = True) -> str:
    """The folder of a hub model as it was downloaded, examined like any other folder before its weights are fetched.

    Args:
        name: the hub id.
        revision: the commit, branch or tag.
        trust_remote_code: whether its code is fetched, too.
        adapter: the setting.
        weights: whether to fetch the weights.

    Raises:
        UserError: if it cannot be had, or is not to be loaded.
    """
    from huggingface_hub import snapshot_download

    remedy = "Check the spelling and the network; for gated models log in to the hub."
    small = ["*.json", "*.jinja", "*.model", "*.txt", *(["*.py"] if trust_remote_code else [])]
    with others("a causal LM on the hub, in safetensors", name, remedy):
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=small))
    if not (folder / "config.json").exists():
        shards(folder)  # says what there is instead
    read_config(folder / "config.json")
    if adapter != MERGED:
        adapter_folder(folder, adapter, name)
    if not weights:
        return str(folder)
    patterns = [WEIGHTS, *(indexed(folder) if (folder / INDEX).exists() else [])]
    patterns += [ADAPTER_WEIGHTS] if adapter == MERGED else []
    with others("a causal LM on the hub, in safetensors", name, remedy):
        snapshot_download(name, revision=folder.name, allow_patterns=patterns)
    _examined(folder, adapter, name)
    return str(folder)


def on_hub(name: str) -> bool:
    """Whether a name can only be a hub id: nothing of that name lies here, and the package has no model of that name."""
    local = name.startswith((".", "/", "~")) or name.endswith(".gguf") or os.path.exists(name)
    return not local and name not in MODELS and not name.startswith(("planted:", MEMORY))


def home() -> Path:
    """The user's cache folder: $LOCUS_CACHE, or locus in the XDG cache home."""
    if "LOCUS_CACHE" in os.environ:
        return Path(os.environ["LOCUS_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache"))) / "locus"


def at_hand(name: str, adapter: str | None = None) -> str | None:
    """The folder of a model that can be looked at without loading anything: local, or converted before; None if there is none.

    Args:
        name: as of `locate`.
        adapter: as of `locate`.

    Raises:
        UserError: as `locate`.
    """
    gguf = packaged_file(name, home()) if name in MODELS else Path(name)
    if gguf.suffix == ".gguf":
        check_gguf(gguf)
        adapter_folder(None, adapter, name)
        folder = _home(gguf)[0]
        return str(folder) if (folder / "config.json").is_file() else None
    return locate(name, adapter)[0] if _is_dir(gguf) else None


def _home(gguf: Path) -> tuple[Path, str]:
    """Where what a GGUF file is converted to lies, and the hash of its content."""
    digest = hashlib.sha256()
    with gguf.open("rb") as stream:
        while chunk := stream.read(1 << 24):
            digest.update(chunk)
    # "whole": what earlier versions converted may lack tensors, and nothing there says so.
    return home() / "models" / f"{gguf.stem}-{digest.hexdigest()[:16]}-whole", digest.hexdigest()


def _converted(gguf: Path) -> Path:
    """A safetensors folder made once from a GGUF file, keyed by the file's content, complete or absent.

    Raises:
        UserError: if the file is cut, of an architecture or a packing that is unknown, or does not fill a model exactly.
    """
    final, digest = _home(gguf)
    if (final / "config.json").is_file():
        return final
    import torch
    from transformers import AutoTokenizer

    from locus.models.weights import fill

    partial = final.with_name(f".{final.name}.{os.getpid()}")
    with _parsed_once():
        source: Any = fill(str(gguf.parent), str(gguf), lambda key: None, gguf_file=gguf.name, dtype=torch.float32)
        _all_used(gguf, source)
        with others("a GGUF file with a tokenizer", str(gguf), "Fetch the file again, or use the model's safetensors folder."):
            tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name, trust_remote_code=False)
    # A model that came out of a GGUF refuses save_pretrained; one of the same configuration does not.
    if hasattr(source.config, "quantization_config"):
        del source.config.quantization_config
    fresh = type(source)(source.config)
    fresh.load_state_dict(source.state_dict())
    fresh.save_pretrained(partial)
    tokenizer.save_pretrained(partial)
    (partial / "origin.json").write_text(json.dumps({"gguf": gguf.name, "sha256": digest}))
    try:
        partial.rename(final)
    except OSError:  # another process was first; both made the same files
        shutil.rmtree(partial, ignore_errors=True)
    return final


def _all_used(gguf: Path, source: Any) -> None:
    """Refuse a GGUF file with tensors that went nowhere, which transformers passes over; see weights.py."""
    if getattr(getattr(source, "hf_quantizer", None), "supported", False):
        return  # this way of loading tells by itself what it could not place
    from gguf import GGUFReader
    from transformers import modeling_gguf_pytorch_utils as ways

    from locus.models.weights import Gaps, refuse

    with others("a whole GGUF file", str(gguf), "Fetch the file again."):
        reader = GGUFReader(gguf)
        family = str(reader.fields["general.architecture"].contents())
        processor: Any = ways.TENSOR_PROCESSORS.get(family, ways.TensorProcessor)
        placed = ways.get_gguf_hf_weights_map(source, processor(config=source.config.to_dict()))
    ones = {one.name for one in reader.tensors if one.name.startswith("rope_freqs.") and (one.data == 1).all()}
    refuse(Gaps(unexpected={one.name for one in reader.tensors} - set(placed) - ones), str(gguf))


@contextmanager
def _parsed_once() -> Iterator[None]:
    """Have a GGUF file parsed once, and its table of tensor names made once: transformers does either anew for every use."""
    import gguf

    originals = gguf.GGUFReader, gguf.get_tensor_name_map
    gguf.GGUFReader, gguf.get_tensor_name_map = remembered(originals[0]), remembered(originals[1])  # type: ignore[misc, assignment]
    try:
        yield
    finally:
        gguf.GGUFReader, gguf.get_tensor_name_map = originals  # type: ignore[misc]
