"""Every answer's log-prob to first order in what is at a point of the layers (or leaves the map behind it), at the edited model.

With o the vector at a point of a layer and a position, an edit adds <a, o> b to it, or several such terms. Let g(s, t) be the
gradient of answer s's log-prob with respect to the edited vector at token t of that answer's own text. Then, summed over its
tokens, for each term

    d log p(s) / d b = sum_t <a, o(t)> g(s, t)          d log p(s) / d a = sum_t <b, g(s, t)> o(t)

each restricted to what the edit may write and read. Answers to one question share their prompt going forward but not going back,
so each is run as a row of its own: one forward and one backward over the rows give the gradients of all of them at once.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from locus.edits.rank1 import Rank1, Rank1Form
from locus.engine.forward import _LogProbs
from locus.engine.trie import TokenTrie
from locus.models.layout import HEADS
from locus.models.model import Model
from locus.models.points import Change
from locus.sites.positions import ALL

ROW_TOKENS = 1024  # of all rows of one forward: its activations are held for the way back


@dataclass(frozen=True)
class Answers:
    """Some answers as rows of one forward, padded behind.

    Attributes:
        sequences: their indices among the sequences of the trie.
        tokens: [rows, T].
        lengths: of each row.
        row: of every scored token; likewise `place`, the position that predicts it, and `token`.
        masks: by name of some positions (`sites.positions`), [rows, T], whether a token is at one of them.
    """

    sequences: tuple[int, ...]
    tokens: Tensor
    lengths: Tensor
    row: Tensor
    place: Tensor
    token: Tensor
    masks: Mapping[str, Tensor]

    @property
    def real(self) -> Tensor:
        """[rows, T], false where a row is padded."""
        return torch.arange(self.tokens.shape[1])[None] < self.lengths[:, None]

    def acts(self, at: str) -> Tensor:
        """[rows, T], where an edit at some positions acts."""
        return self.real if at == ALL else self.masks[at]


def answers_of(trie: TokenTrie, sequences: Sequence[int], tokens: int = ROW_TOKENS) -> list[Answers]:
    """Answers in rows of like length, without their last tokens, which predict nothing that is scored."""
    order = sorted(sequences, key=lambda index: len(trie.sequences[index].ids))
    groups: list[list[int]] = [[]]
    for index in order:
        longest = len(trie.sequences[index].ids) - 1
        if groups[-1] and (len(groups[-1]) + 1) * longest > tokens:
            groups.append([])
        groups[-1].append(index)
    return [_laid_out(trie, group) for group in groups if group]


def _laid_out(trie: TokenTrie, group: Sequence[int]) -> Answers:
    texts = [trie.sequences[index] for index in group]
    lengths = torch.tensor([len(text.ids) - 1 for text in texts])
    tokens = torch.zeros(len(group), int(lengths.max()), dtype=torch.long)
    row: list[int] = []
    place: list[int] = []
    token: list[int] = []
    masks = {name: torch.zeros(tokens.shape, dtype=torch.bool) for name in trie.masks}
    for number, text in enumerate(texts):
        tokens[number, : len(text.ids) - 1] = torch.tensor(text.ids[:-1])
        for name, mask in trie.masks.items():
            masks[name][number, : len(text.ids) - 1] = torch.from_numpy(mask[trie.paths[group[number]][:-1]])
        row += [number] * (len(text.ids) - text.start)
        place += range(text.start - 1, len(text.ids) - 1)
        token += text.ids[text.start :]
    scored = [torch.tensor(part) for part in (row, place, token)]
    return Answers(tuple(group), tokens, lengths, scored[0], scored[1], scored[2], masks)


@dataclass(frozen=True)
class Gradients:
    """What one forward and backward gave for some answers, by layer.

    Attributes:
        answers: which.
        logprobs: [rows], summed over an answer's tokens, in nats.
        inputs: by layer, o [rows, T, width], unedited; 0 where a row is padded.
        gradients: by layer, g [rows, T, width], or [rows, T, d_model] with respect to what the map gives (free form).
    """

    answers: Answers
    logprobs: Tensor
    inputs: dict[int, Tensor]
    gradients: dict[int, Tensor]


def gradients_of(
    model: Model,
    answers: Answers,
    layers: Sequence[int],
    edit: Rank1 | None = None,
    form: Rank1Form = "heads",
    point: str = HEADS,
) -> Gradients:
    """Run some answers forward and back.

    Args:
        model: the frozen model.
        answers: the rows.
        layers: in which gradients are asked for, ascending.
        edit: under which the model is run; the base model by default.
        form: with respect to what is at the point (heads) or to what the map behind it gives (free); an edit's own, where there
            is one.
        point: of the layers; likewise.
    """
    acts = None if edit is None or edit.positions == ALL else answers.acts(edit.positions)
    with _Watched(model, layers, edit, form, point, acts) as watched, torch.enable_grad():
        hidden = _through(model, answers, layers[0]) if model.trees else model.read(answers.tokens, answers.real)
        normed = model.norm(hidden[answers.row.to(hidden.device), answers.place.to(hidden.device)])
        rows = torch.arange(len(answers.row), device=normed.device)
        scores: Tensor = _LogProbs.apply(normed, rows, answers.token.to(normed.device), model)  # type: ignore[no-untyped-call]
        grads = torch.autograd.grad(scores.sum(), [watched.edited[layer] for layer in layers])
    logprobs = torch.zeros(len(answers.sequences), device=scores.device).index_add(
        0, answers.row.to(scores.device), scores.detach()
    )
    entered = {layer: watched.inputs[layer].detach() for layer in layers}
    inputs = {layer: values * answers.real.to(values.device)[:, :, None] for layer, values in entered.items()}
    return Gradients(answers, logprobs, inputs, dict(zip(layers, grads, strict=True)))


def jacobian_of(edit: Rank1, parts: Iterable[Gradients], count: int) -> tuple[Tensor, Tensor]:
    """[answers, numbers] derivatives of the answers' log-probs by the flat numbers of an edit, and [answers] the log-probs.

    Args:
        edit: at which the gradients were taken.
        parts: gradients of some answers each; together of all.
        count: answers in all.
    """
    jacobian, logprobs = torch.zeros(count, edit.flat.numel()), torch.zeros(count, dtype=torch.float64)
    for part in parts:
        rows = list(part.answers.sequences)
        logprobs[rows] = part.logprobs.double().cpu()
        real = part.answers.acts(edit.positions)
        for layer in edit.layers:
            reads, writes = edit.places(layer)
            read, write = edit.jacobian(layer, part.inputs[layer], part.gradients[layer], real)
            jacobian[rows, reads.start : writes.stop] = torch.cat([read, write], dim=1).cpu()
    return jacobian, logprobs


def _through(model: Model, answers: Answers, first: int) -> Tensor:
    """The last layer's output; the way back begins at the first layer that is asked for."""
    count = answers.tokens.shape[1]
    sees = torch.ones(count, count, dtype=torch.bool).tril()[None]
    entry = model.calls(answers.tokens, torch.arange(count)[None], sees)
    hidden = entry.hidden
    with torch.no_grad():
        for layer in range(first):
            hidden = model.layer(layer, hidden, entry)
    for layer in range(first, model.layout.n_layers):
        hidden = model.layer(layer, hidden, entry)
    return hidden


class _Watched:
    """Edits a model inside a `with` block, all rows alike, and keeps what enters and what is edited, within the graph."""

    def __init__(
        self, model: Model, layers: Sequence[int], edit: Rank1 | None, form: Rank1Form, point: str, acts: Tensor | None = None
    ):
        self.model, self.layers, self.edit = model, layers, edit
        self.point = point if edit is None else edit.point
        self.free = (form if edit is None else edit.form) == "free"
        self.acts = acts
        self.inputs: dict[int, Tensor] = {}
        self.edited: dict[int, Tensor] = {}

    def __enter__(self) -> "_Watched":
        self.handles = []
        for layer in self.layers:
            self.handles.append(self.model.attach(self.point, layer, self._at(layer)))
            if self.free:
                self.handles.append(self.model.attach_behind(self.point, layer, self._behind(layer)))
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self.handles:
            handle.remove()

    def _at(self, layer: int) -> Change:
        terms = self.edit.terms(layer) if self.edit is not None else None

        def change(o: Tensor) -> Tensor:
            inputs = o if o.requires_grad or self.free else o.detach().requires_grad_(True)
            self.inputs[layer] = inputs
            edited = inputs
            if terms is not None and terms.shift is not None:
                edited = edited + self._there(terms.shift.detach().expand_as(inputs))
            if terms is not None and terms.write is not None and terms.read is not None:
                edited = edited + self._there(inputs @ terms.read.detach().T) @ terms.write.detach()
            if not self.free:
                self.edited[layer] = edited
            return edited

        return change

    def _there(self, added: Tensor) -> Tensor:
        """What is added, [rows, T, numbers], where the edit acts."""
        return added if self.acts is None else added * self.acts.to(added.device)[:, :, None]

    def _behind(self, layer: int) -> Change:
        terms = self.edit.terms(layer) if self.edit is not None else None

        def change(output: Tensor) -> Tensor:
            output = output if output.requires_grad else output.detach().requires_grad_(True)
            if terms is not None and terms.out is not None and terms.read is not None:
                output = output + self._there(self.inputs[layer] @ terms.read.detach().T) @ terms.out.detach()
            self.edited[layer] = output
            return output

        return change
