"""What lies in a model's folder, looked at before anything is loaded from it.

Whoever wrote the folder may have cut it short, filled it with pointers to files that were never fetched, or made it to harm: a
pipe that never ends, a table of 10^12 rows, an index that names files elsewhere, a checkpoint format that is unpickled. Whatever
passes here is regular, readable, whole as far as headers tell, and as large as its configuration says. That the tensors are those
of the architecture only shows once they are loaded (weights.py). Nothing here needs torch.
"""

import os
import re
import stat
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from locus.boundary import incoming
from locus.errors import UserError, raise_all
from locus.records.base import JsonObject

PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
# Distributed checkpoints, which loaders take instead of model.safetensors, and whose table of contents torch unpickles.
DISTRIBUTED = re.compile(r"shard-.*\.safetensors|.*\.distcp|\.metadata")
TEMPLATES = ("additional_chat_templates", "chat_templates")  # folders that transformers looks into
READ_WHOLE = (".json", ".jinja", ".txt", ".model", ".py")
SIDE_BYTES = 32 << 20
MOST_BYTES = dict.fromkeys(("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "merges.txt"), 256 << 20)
POINTER = b"version https://git-lfs"
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
WHOLE = "a model folder with config.json and model.safetensors, as save_pretrained writes it"
SAVE = "Save the model as safetensors: model.save_pretrained(FOLDER)."
CONFIG = "a config.json that a model can be made from"
# What a configuration calls its sizes, by any family's names, and by those of GGUF.
SIZES: dict[str, tuple[str, ...]] = {
    "layers": ("num_hidden_layers", "n_layer", "block_count"),
    "heads": ("num_attention_heads", "n_head", "attention.head_count"),
    "key-value heads": ("num_key_value_heads", "attention.head_count_kv"),
    "head width": ("head_dim", "attention.key_length"),
    "width": ("hidden_size", "n_embd", "embedding_length"),
    "inner width": ("intermediate_size", "n_inner", "feed_forward_length"),
    "vocabulary": ("vocab_size",),
    "learned positions": ("n_positions",),
    "context": ("max_position_embeddings", "context_length"),
}
POSITIVE = ("rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon", "rope_theta", "rotary_emb_base")
# What a configuration asks of the code that runs it. Transformers fetches any other name from the hub, as code, if it can.
RUN_BY = re.compile(r"_?(attn|experts)_implementation(_internal|_autoset)?|use_kernels|_?kernels?_config")
OURS = (None, "eager", "sdpa")
OVERRULED = ("flash_attention_2", "flash_attention_3", "flex_attention")  # by what is asked for where the model is loaded
WEIGHTS_A_BYTE = 8  # no format keeps a weight in less than a bit


def check_folder(folder: Path) -> JsonObject:
    """Look at a model's folder without loading anything.

    Returns:
        Its configuration.

    Raises:
        UserError: naming everything that is wrong, each with its file.
    """
    names = _names(folder)
    _each(plain, [folder / name for name in names])
    for beside in TEMPLATES:
        if (folder / beside).is_dir():
            _each(plain, [folder / beside / name for name in _names(folder / beside)])
    if odd := [name for name in names if DISTRIBUTED.fullmatch(name)]:
        raise UserError(WHOLE, f"{str(folder)!r} with {odd[0]}, part of a distributed checkpoint", SAVE)
    files = shards(folder)
    _each(headers, files)
    config = read_config(folder / "config.json")
    weigh(config, sum(file.stat().st_size for file in files), str(folder / "config.json"))
    return config


def _each(check: Callable[[Path], Any], paths: Iterable[Path]) -> None:
    errors = []
    for path in paths:
        try:
            check(path)
        except UserError as error:
            errors.append(error)
    raise_all(errors)


def _names(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError as error:
        raise UserError(
            "a model folder that can be read", f"{str(folder)!r} ({error.strerror})", "Check its permissions."
        ) from error


def plain(path: Path) -> None:
    """Refuse what is neither a folder nor a regular file with content that can be read; links are followed.

    Raises:
        UserError: naming it.
    """
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            return
        if not stat.S_ISREG(mode):
            raise UserError("regular files in a model folder", f"{str(path)!r}, which is none", "Take it out of the folder.")
        most = MOST_BYTES.get(path.name, SIDE_BYTES)
        if path.suffix in READ_WHOLE and path.stat().st_size > most:
            received = f"{str(path)!r} of {path.stat().st_size:,} bytes; {most:,} at most are read"
            raise UserError("files of a bearable size beside a model's weights", received, "Fetch or save the model again.")
        with path.open("rb") as stream:
            start = stream.read(len(POINTER))
    except OSError as error:
        raise UserError(
            "files that can be read in a model folder", f"{str(path)!r} ({error.strerror})", "Restore it, or its permissions."
        ) from error
    if start == POINTER:
        raise UserError("the file itself", f"{str(path)!r}, a git-lfs pointer to it", "Fetch the content: git lfs pull.")


def shards(folder: Path) -> list[Path]:
    """The files of a folder's weights: model.safetensors, or those that its index names.

    Raises:
        UserError: if there are none, some are missing, or the index names something outside the folder.
    """
    names = set(_names(folder))
    if "config.json" not in names or not names & {WEIGHTS, INDEX}:
        raise _no_model(folder, names)
    if WEIGHTS in names:
        return [folder / WEIGHTS]
    files = indexed(folder)
    if gone := [file for file in files if file not in names]:
        raise UserError("all shards that the index names", f"{str(folder)!r} without {few(gone)}", "Fetch the missing files.")
    return [folder / file for file in files]


def indexed(folder: Path) -> list[str]:
    """The files that a folder's index of shards names.

    Raises:
        UserError: if it is no index, or names something outside the folder.
    """
    expected, path = "an index of shards", folder / INDEX
    table = incoming.read_json(path, expected)
    table = table.get("weight_map") if isinstance(table, dict) else None
    if not isinstance(table, dict) or not table or not all(isinstance(file, str) for file in table.values()):
        raise UserError(expected, f"{str(path)!r} without a weight_map of tensors and files", "Restore the file.")
    files = sorted(set(table.values()))
    if outside := [file for file in files if Path(file).name != file or not file.endswith(".safetensors")]:
        raise UserError(
            expected, f"{str(path)!r}, which names {outside[0]!r}", "Shards are safetensors files beside their index."
        )
    return files


def _no_model(folder: Path, names: set[str]) -> UserError:
    """What is said of a folder without weights."""
    if "adapter_config.json" in names and "config.json" not in names:
        return UserError(
            WHOLE, f"{str(folder)!r}, an adapter alone", f"Use --model BASE --adapter {folder}, with its base model."
        )
    pickled = [name for name in names if name.endswith(PICKLED)]
    lacking = " and ".join(file for file in ("config.json", WEIGHTS) if file not in names)
    received = f"{str(folder)!r} without {lacking}" + (f", with {few(pickled)} (pickled)" if pickled else "")
    remedy = f"Pickled weights can run code and are refused. {SAVE}" if pickled else "Point to what save_pretrained wrote."
    return UserError(WHOLE, received, remedy)


def headers(path: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors in a safetensors file; the format's own reader sees that header and size belong together.

    Raises:
        UserError: if they do not.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="numpy") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise UserError("whole weights as safetensors", f"{str(path)!r} ({reason})", "Fetch or save the file again.") from error


def few(names: Iterable[str], most: int = 4) -> str:
    """A few of many names, and how many more there are."""
    listed = sorted(names)
    return ", ".join(listed[:most]) + (f" and {len(listed) - most} more" if len(listed) > most else "")


def read_config(path: Path) -> JsonObject:
    """A model's configuration, with the sizes that a model can have.

    Raises:
        UserError: naming what is wrong with it.
    """
    config = incoming.read_json(path, CONFIG)
    if not isinstance(config, dict) or not isinstance(config.get("model_type"), str):
        raise UserError(CONFIG, f"{str(path)!r}, which is no object with a model_type", "Restore the file.")
    _own_attention(config, str(path))
    about = config["text_config"] if isinstance(config.get("text_config"), dict) else config
    raise_all(wrong_sizes(about, str(path)))
    if packed := about.get("quantization_config") or config.get("quantization_config"):
        method = packed.get("quant_method") if isinstance(packed, dict) else packed
        raise UserError(
            "weights as plain numbers",
            f"{str(path)!r} with a quantization_config ({method or 'of no method'})",
            "Take the model as it was before it was quantised, or a GGUF file, which is unpacked here; or open it with the "
            "package that reads it, and give locus.wrap the model, or what its dequantize(dtype=torch.float32) gives.",
        )
    if config.get("transformers_weights") not in (None, WEIGHTS, INDEX):
        raise UserError(CONFIG, f"{str(path)!r}, whose transformers_weights names another file", "Name it model.safetensors.")
    return config


def _own_attention(config: JsonObject, name: str) -> None:
    """Refuse a configuration, or a part of one, that names other code to run the model with than locus ever uses."""
    parts: list[Any] = [config]
    while parts:
        part = parts.pop()
        if isinstance(part, dict):
            for key, value in part.items():
                overruled = part is config and key == "attn_implementation" and value in OVERRULED
                if RUN_BY.fullmatch(key) and not (value is False or value in OURS or overruled or "autoset" in key):
                    raise UserError(
                        "a configuration that leaves it to locus how attention is computed",
                        f"{name!r} with {key} = {str(value)[:80]!r}, which may be code to be fetched from the hub",
                        "Take that line out of it: locus computes attention with torch alone.",
                    )
        parts += part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()


def size(config: JsonObject, what: str) -> int | None:
    """One of the sizes of a configuration; None where it does not say."""
    number = next((config[name] for name in SIZES[what] if config.get(name) is not None), None)
    return number if isinstance(number, int) else None


def wrong_sizes(config: JsonObject, name: str) -> list[UserError]:
    """What is wrong with the sizes that a configuration gives: no whole numbers above 0, or heads that do not divide.

    Args:
        config: a configuration.
        name: of its file, for the errors.
    """
    wrong = [
        f"{key} = {str(config[key])[:40]}"
        for keys in SIZES.values()
        for key in keys
        if (value := config.get(key)) is not None and not (isinstance(value, int) and value is not True and value >= 1)
    ]
    wrong += [
        f"{key} = {str(config[key])[:40]}"
        for key in POSITIVE
        if (value := config.get(key)) is not None and not (isinstance(value, int | float) and value is not True and value > 0)
    ]
    if not wrong:
        heads, groups, width = size(config, "heads"), size(config, "key-value heads"), size(config, "width")
        if heads and width and not size(config, "head width") and width % heads:
            wrong.append(f"{heads} heads of a width of {width}")
        if heads and groups and heads % groups:
            wrong.append(f"{heads} heads on {groups} key-value heads")
    return [UserError(CONFIG, f"{name!r} with {one}", "Restore the file, or point to another model.") for one in wrong]


def weigh(config: JsonObject, nbytes: int, name: str) -> None:
    """Refuse a configuration of a model far larger than its weights: to make room for it would take all memory.

    Args:
        config: sizes that `wrong_sizes` found nothing wrong with.
        nbytes: of all weights.
        name: of the file, for the error.

    Raises:
        UserError: if the matrices that it implies do not fit into so many bytes at one bit a weight.
    """
    about = text_config if isinstance(text_config := config.get("text_config"), dict) else config
    width, heads = size(about, "width") or 1, size(about, "heads") or 1
    head = size(about, "head width") or width // heads or 1
    layer = width * (heads * head + (size(about, "inner width") or 0))
    implied = (size(about, "layers") or 1) * layer + (
        (size(about, "vocabulary") or 1) + (size(about, "learned positions") or 0)
    ) * width
    if implied > WEIGHTS_A_BYTE * nbytes:
        raise UserError(
            "weights as many as the configuration says",
            f"{name!r}, which speaks of {implied:,} numbers or more, beside weights of {nbytes:,} bytes",
            "Restore the configuration that belongs to these weights.",
        )


def no_twin(name: str) -> UserError:
    """Why a model has no twin: the spectra of quantised weights are not the model's own.

    Args:
        name: of the model.
    """
    return UserError(
        "weights in full precision, whose spectra are their own, for a twin",
        f"{name!r}, whose weights are quantised",
        "Give the model's safetensors folder or hub id, or leave the twin out.",
    )
