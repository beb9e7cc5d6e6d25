"""MiniLM as a cross-encoder in which nothing is read twice.

    question        sees itself
    reference       sees itself and the question
    answer          sees itself, the question and the references that it is held against
      -> its first token and the mean over its tokens -> log-odds of truth and of information

Every text starts at position 0, and a vector that is learned tells what part it has (question, true reference, false reference,
answer); so references have no order. Since nothing sees the answer, what leads to it is computed once for all answers to a
question: one row in training, and keys and values that are kept when it judges. An answer is then read by itself, so what is
judged with it changes no bit.

Source: Wang et al. 2020, arXiv 2002.10957 (MiniLM); Izacard & Grave 2021, arXiv 2007.01282 (passages read apart, fused later);
Juravsky et al. 2024, arXiv 2402.05099 (what is shared, computed once).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import nn
from torch.nn import functional

from locus.judges.base import References
from locus.judges.encoder import CLS, SEP, UNKNOWN

QUESTION, TRUE, FALSE, ANSWER = range(4)
TOKENS = 48  # of a text; more are cut
LISTED = 16  # references of a side; more are left out
TARGETS = 2
Pairs = list[tuple[torch.Tensor, torch.Tensor]]  # keys and values of each layer, [heads, tokens, width of a head]


@dataclass(frozen=True)
class Sizes:
    """Of the encoder."""

    vocabulary: int = 30522
    width: int = 384
    layers: int = 6
    heads: int = 12
    inner: int = 1536
    positions: int = 512
    dropout: float = 0.1


class Layer(nn.Module):
    """One layer of BERT: attention, then an MLP, each with its norm after the sum."""

    def __init__(self, sizes: Sizes):
        super().__init__()
        self.heads, self.dropout = sizes.heads, sizes.dropout
        self.inputs = nn.Linear(sizes.width, 3 * sizes.width)
        self.output = nn.Linear(sizes.width, sizes.width)
        self.norm = nn.LayerNorm(sizes.width, eps=1e-12)
        self.inner = nn.Linear(sizes.width, sizes.inner)
        self.outer = nn.Linear(sizes.inner, sizes.width)
        self.norm_outer = nn.LayerNorm(sizes.width, eps=1e-12)

    def forward(
        self, x: torch.Tensor, seen: torch.Tensor | None, past: tuple[torch.Tensor, torch.Tensor] | None
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
        """States of tokens after the layer, and their keys and values.

        Args:
            x: [tokens, width].
            seen: [tokens, tokens], what each sees; all of it where None.
            past: keys and values that all of them see besides.
        """
        n, width = x.shape
        query, key, value = self.inputs(x).view(n, 3, self.heads, width // self.heads).permute(1, 2, 0, 3)
        keys, values = key, value
        if past is not None:
            keys, values = torch.cat([past[0], key], 1), torch.cat([past[1], value], 1)
        mixed = functional.scaled_dot_product_attention(query[None], keys[None], values[None], attn_mask=seen)[0]
        mixed = self.output(mixed.transpose(0, 1).reshape(n, width))
        x = self.norm(x + functional.dropout(mixed, self.dropout, self.training))
        wide = self.outer(functional.gelu(self.inner(x)))
        return self.norm_outer(x + functional.dropout(wide, self.dropout, self.training)), (key, value)


class CrossEncoder(nn.Module):
    """The whole model.

    Args:
        sizes: of the encoder.
    """

    def __init__(self, sizes: Sizes | None = None):
        super().__init__()
        self.sizes = sizes = sizes or Sizes()
        self.words = nn.Embedding(sizes.vocabulary, sizes.width)
        self.places = nn.Embedding(sizes.positions, sizes.width)
        self.parts = nn.Embedding(4, sizes.width)
        self.norm = nn.LayerNorm(sizes.width, eps=1e-12)
        self.layers = nn.ModuleList(Layer(sizes) for _ in range(sizes.layers))
        self.head = nn.Linear(2 * sizes.width, TARGETS)
        nn.init.zeros_(self.parts.weight)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def embed(self, ids: torch.Tensor, places: torch.Tensor, parts: torch.Tensor) -> torch.Tensor:
        """[tokens, width], before the first layer."""
        x = self.norm(self.words(ids) + self.places(places) + self.parts(parts))
        return functional.dropout(x, self.sizes.dropout, self.training)

    def states(self, x: torch.Tensor, seen: torch.Tensor | None = None, past: Pairs | None = None) -> tuple[torch.Tensor, Pairs]:
        """States after the last layer, [tokens, width], and keys and values of every layer."""
        kept: Pairs = []
        for number, layer in enumerate(self.layers):
            x, pair = layer(x, seen, None if past is None else past[number])
            kept.append(pair)
        return x, kept

    def log_odds(self, states: torch.Tensor, answer: torch.Tensor) -> torch.Tensor:
        """Log-odds of truth and of information, [answers, 2].

        Args:
            states: [tokens, width] of answers' tokens.
            answer: [tokens], which answer each belongs to, from 0, in order.
        """
        n = int(answer[-1]) + 1
        first = torch.ones_like(answer, dtype=torch.bool)
        first[1:] = answer[1:] != answer[:-1]
        sums = torch.zeros(n, states.shape[1]).index_add(0, answer, states)
        means = sums / torch.bincount(answer, minlength=n)[:, None]
        result: torch.Tensor = self.head(torch.cat([states[first], means], dim=1))
        return result


@dataclass(frozen=True)
class Encoded:
    """Texts as tokens.

    Attributes:
        ids, places, parts: of each token, its number, its position in its text, and the part that its text has.
        text: which text it belongs to.
    """

    ids: torch.Tensor
    places: torch.Tensor
    parts: torch.Tensor
    text: torch.Tensor


class Texts:
    """Encodes texts, each once.

    Args:
        tokenizer: of the base model.
    """

    def __init__(self, tokenizer: Tokenizer):
        self.tokenizer = tokenizer
        self.known: dict[str, tuple[int, ...]] = {}

    def ids(self, text: str) -> tuple[int, ...]:
        """Tokens of a text, cut, between the marks of its beginning and end."""
        if text not in self.known:
            ids = self.tokenizer.encode(text, add_special_tokens=False).ids[:TOKENS]
            self.known[text] = (CLS, *(ids or [UNKNOWN]), SEP)
        return self.known[text]

    def encode(self, texts: Sequence[tuple[str, int]]) -> Encoded:
        """Texts with the parts that they have, one after another."""
        rows = [(self.ids(text), part) for text, part in texts]
        columns = [
            [token for ids, _ in rows for token in ids],
            [place for ids, _ in rows for place in range(len(ids))],
            [part for ids, part in rows for _ in ids],
            [number for number, (ids, _) in enumerate(rows) for _ in ids],
        ]
        return Encoded(*(torch.tensor(column) for column in columns))


def sides(references: References) -> list[tuple[str, int]]:
    """References with the side that each is of."""
    return [(text, part) for part, texts in ((TRUE, references.true), (FALSE, references.false)) for text in texts[:LISTED]]


def visible(encoded: Encoded, shown: torch.Tensor) -> torch.Tensor:
    """What each token sees of a row that holds a question, its references and answers, [tokens, tokens].

    Args:
        encoded: the row.
        shown: [texts, texts], which references each answer is held against; nothing else of it is read.
    """
    part, text = encoded.parts, encoded.text
    own = text[:, None] == text[None, :]
    asked = (part != QUESTION)[:, None] & (part == QUESTION)[None, :]
    reference = (part == TRUE) | (part == FALSE)
    held = (part == ANSWER)[:, None] & reference[None, :] & shown[text][:, text]
    return own | asked | held


def base(folder: Path) -> CrossEncoder:
    """The model before it has learned anything: MiniLM's weights, and zeros where there were none."""
    old = load_file(str(folder / "model.safetensors"))
    model = CrossEncoder()
    new = {
        "words.weight": old["embeddings.word_embeddings.weight"],
        "places.weight": old["embeddings.position_embeddings.weight"],
        "parts.weight": old["embeddings.token_type_embeddings.weight"][:1].repeat(4, 1),
        "norm.weight": old["embeddings.LayerNorm.weight"],
        "norm.bias": old["embeddings.LayerNorm.bias"],
    }
    for number in range(model.sizes.layers):
        of, to = f"encoder.layer.{number}.", f"layers.{number}."
        for kind in ("weight", "bias"):
            parts = [old[f"{of}attention.self.{name}.{kind}"] for name in ("query", "key", "value")]
            new[f"{to}inputs.{kind}"] = torch.cat(parts)
            for name, source in (
                ("output", "attention.output.dense"),
                ("norm", "attention.output.LayerNorm"),
                ("inner", "intermediate.dense"),
                ("outer", "output.dense"),
                ("norm_outer", "output.LayerNorm"),
            ):
                new[f"{to}{name}.{kind}"] = old[f"{of}{source}.{kind}"]
    model.load_state_dict(new, strict=False)
    return model


class Reader:
    """Judges with a trained model, question by question.

    Args:
        model: trained.
        tokenizer: of the base model.
    """

    def __init__(self, model: CrossEncoder, tokenizer: Tokenizer):
        self.model, self.texts = model.train(mode=False), Texts(tokenizer)

    @torch.inference_mode()
    def log_odds(self, question: str, references: References, answers: Sequence[str]) -> NDArray[np.float64]:
        """Log-odds of truth and information of answers to one question, [answers, 2]; each is read by itself."""
        led = self.texts.encode([(question, QUESTION), *sides(references)])
        seen = visible(led, torch.zeros(1, 1, dtype=torch.bool).expand(int(led.text[-1]) + 1, int(led.text[-1]) + 1))
        _, past = self.model.states(self.model.embed(led.ids, led.places, led.parts), seen)
        rows = []
        for answer in answers:
            one = self.texts.encode([(answer, ANSWER)])
            states, _ = self.model.states(self.model.embed(one.ids, one.places, one.parts), None, past)
            rows.append(self.model.log_odds(states, one.text)[0].double().numpy())
        return np.array(rows).reshape(len(answers), TARGETS)
