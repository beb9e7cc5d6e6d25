"""Question trees: all answers to all questions as one forest of tokens, each shared prefix held once.

Every token sequence (prompt + answer) is a path from a root. A prompt, a few-shot primer or the first words
that two answers share are one path until they part. Under causal attention the state of a token depends on
its ancestors alone, so a row that holds a set of nodes closed under ancestors, with a mask that lets each token
see exactly its ancestors and with the depth as position, gives every sequence the log-probs it would have alone.

A trie is also the address book of the layer-prefix cache: node i of the trie owns row i of each cached residual. Nodes are
numbered in an order that does not depend on which answer comes first, so that questions whose sides are exchanged are the same
trie, with the same base pass.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from locus.behaviours.items import Item
from locus.behaviours.prompts import PromptFormat, TokenSequence, encode
from locus.sites.positions import ALL, ANSWER, LAST, is_span

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class PackedRow:
    """A set of trie nodes closed under ancestors, laid out as one row of T tokens with no padding.

    Attributes:
        nodes: trie node of each position, ascending, so that parents precede children.
        tokens: token ids.
        positions: distance from the root, which is the position id.
        sees: [T, T], whether position i attends to position j.
        answer_mask: whether a position lies at or after its sequence's last prompt token.
        masks: by name of some positions (`sites.positions`), whether a position is one of them.
    """

    nodes: Ints
    tokens: Ints
    positions: Ints
    sees: Bools
    answer_mask: Bools
    masks: Mapping[str, Bools] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.nodes)


@dataclass(frozen=True)
class Targets:
    """What a row must be asked for: log-probs of tokens, summed into sequences.

    Attributes:
        predictors: row positions whose next-token distribution is needed, each once.
        predictor: for every scored token, an index into `predictors`.
        token: its id.
        sequence: an index into `sequences`.
        sequences: indices of the trie's sequences.
        lengths: scored tokens of each sequence.
    """

    predictors: Ints
    predictor: Ints
    token: Ints
    sequence: Ints
    sequences: Ints
    lengths: Ints


class TokenTrie:
    """A token trie over many sequences.

    Args:
        sequences: prompt + answer token ids, in the order in which results come back.
        owners: for every sequence, the question it belongs to; all by default in one.
        span: the name of the span whose last token every sequence marks; "" where none does.

    Attributes:
        masks: by name of some positions, whether a node is one of them.
        shared: tokens that all sequences begin with.
        order: the sequences in the order in which nodes are numbered: question by question, each question's by their tokens.
    """

    def __init__(self, sequences: Sequence[TokenSequence], owners: Sequence[int] | None = None, span: str = ""):
        self.sequences, self.span = tuple(sequences), span
        assert not span or all(sequence.mark is not None for sequence in self.sequences), "every sequence marks the span"
        self.owners = np.asarray(owners if owners is not None else [0] * len(self.sequences), dtype=np.int64)
        assert len(self.owners) == len(self.sequences), "every sequence needs an owner"
        named = [(owner, sequence.ids, sequence.start) for owner, sequence in zip(self.owners, self.sequences, strict=True)]
        self.order = np.array(sorted(range(len(named)), key=named.__getitem__), dtype=np.int64)
        # A node must not be prompt in one sequence and answer zone in another, nor end a span in one alone. Where sharing would
        # make it so (one question is the beginning of another), share within questions only, and if need be not at all.
        for root_of in (lambda index: -1, lambda index: -1 - int(self.owners[index]), lambda index: -1 - index):
            self._grow(root_of)
            if all(map(self._alike, self.sequences, self.paths)):
                break
        passed = np.bincount(np.concatenate(self.paths), minlength=len(self))
        self.shared = int((passed == len(self.sequences)).sum())
        self._of_owner: dict[int, list[int]] = {}
        for index, owner in enumerate(self.owners.tolist()):
            self._of_owner.setdefault(owner, []).append(index)

    def _grow(self, root_of: Callable[[int], int]) -> None:
        """Insert every sequence under its root, and note depth and answer zone of every node."""
        children: dict[tuple[int, int], int] = {}
        tokens: list[int] = []
        parents: list[int] = []
        depths: list[int] = []
        self.paths: list[Ints] = [np.empty(0, dtype=np.int64)] * len(self.sequences)
        for index in self.order.tolist():
            sequence = self.sequences[index]
            node, path = root_of(index), []
            for depth, token in enumerate(sequence.ids):
                child = children.get((node, token))
                if child is None:
                    child = children[node, token] = len(tokens)
                    tokens.append(token)
                    parents.append(max(node, -1) if depth else -1)
                    depths.append(depth)
                path.append(child)
                node = child
            self.paths[index] = np.array(path, dtype=np.int64)
        self.tokens = np.array(tokens, dtype=np.int64)
        self.parents = np.array(parents, dtype=np.int64)
        self.positions = np.array(depths, dtype=np.int64)
        self.answer_mask = np.zeros(len(tokens), dtype=np.bool_)
        last, marked = np.zeros_like(self.answer_mask), np.zeros_like(self.answer_mask)
        for sequence, path_of in zip(self.sequences, self.paths, strict=True):
            self.answer_mask[path_of[sequence.start - 1 :]] = True
            last[path_of[sequence.start - 1]] = True
            marked[path_of[[] if sequence.mark is None else [sequence.mark]]] = True
        self.masks = {ANSWER: self.answer_mask, LAST: last, **({self.span: marked} if self.span else {})}

    def _alike(self, sequence: TokenSequence, path: Ints) -> bool:
        """Whether what its nodes are marked as is so in this sequence."""
        marks = int(self.masks[self.span][path].sum()) if self.span else 1
        return marks == 1 and not self.answer_mask[path[: sequence.start - 1]].any()

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def n_plain(self) -> int:
        """Tokens that one padless row per sequence would need: what the trie saves is measured against this."""
        return sum(len(sequence.ids) for sequence in self.sequences)

    @property
    def sha256(self) -> str:
        """Hash of the nodes, the sequences and their owners: two tries with one hash have the same base pass."""
        digest = hashlib.sha256()
        ends = np.array([(self.paths[index][-1], self.sequences[index].start) for index in self.order.tolist()])
        for array in (self.tokens, self.parents, ends, self.owners[self.order]):
            digest.update(array.astype("<i8").tobytes())
        return digest.hexdigest()

    def sequences_of(self, owners: Sequence[int]) -> list[int]:
        """Indices of the sequences that belong to these questions, question by question."""
        return [index for owner in owners for index in self._of_owner[owner]]

    def row(self, sequences: Sequence[int], ends: bool = True) -> PackedRow:
        """Lay out the union of some sequences' paths as one row.

        Args:
            sequences: their indices.
            ends: with their last tokens, which predict nothing that is scored. Scoring does without; features are read there.
        """
        nodes = np.unique(np.concatenate([self.paths[index][: None if ends else -1] for index in sequences]))
        place = {node: position for position, node in enumerate(nodes.tolist())}
        sees = np.eye(len(nodes), dtype=np.bool_)
        for position, parent in enumerate(self.parents[nodes].tolist()):
            if parent >= 0:
                sees[position] |= sees[place[parent]]
        masks = {name: mask[nodes] for name, mask in self.masks.items()}
        return PackedRow(nodes, self.tokens[nodes], self.positions[nodes], sees, masks[ANSWER], masks)

    def targets(self, row: PackedRow, sequences: Sequence[int]) -> Targets:
        """Which next-token distributions of a row the given sequences need, each position once."""
        predictors, tokens, owner, lengths = [], [], [], []
        for slot, index in enumerate(sequences):
            sequence, path = self.sequences[index], self.paths[index]
            predictors.append(path[sequence.start - 1 : -1])
            tokens.append(np.array(sequence.ids[sequence.start :], dtype=np.int64))
            owner.append(np.full(len(path) - sequence.start, slot, dtype=np.int64))
            lengths.append(len(path) - sequence.start)
        places = np.searchsorted(row.nodes, np.concatenate(predictors))
        unique, inverse = np.unique(places, return_inverse=True)
        return Targets(
            predictors=unique,
            predictor=inverse.astype(np.int64),
            token=np.concatenate(tokens),
            sequence=np.concatenate(owner),
            sequences=np.asarray(sequences, dtype=np.int64),
            lengths=np.array(lengths, dtype=np.int64),
        )

    def ends(self, row: PackedRow, sequences: Sequence[int]) -> Ints:
        """Row position of each sequence's last token."""
        return np.searchsorted(row.nodes, np.array([self.paths[index][-1] for index in sequences])).astype(np.int64)

    def size(self, owners: Sequence[int]) -> int:
        """Nodes of the row that holds all sequences of these questions."""
        paths = [self.paths[index] for index in self.sequences_of(owners)]
        return len(np.unique(np.concatenate(paths)))

    def pack(self, owners: Sequence[int], budget: int) -> list[list[int]]:
        """Group questions, in order, into rows of at most `budget` tokens; a longer question gets a row of its own.

        Where all begin with a long primer, which every row repeats, the budget is at least four of it.
        """
        budget = max(budget, 4 * self.shared)
        rows: list[list[int]] = []
        row_nodes: set[int] = set()
        for owner in owners:
            nodes = {node for index in self._of_owner[owner] for node in self.paths[index].tolist()}
            if rows and len(row_nodes | nodes) <= budget:
                rows[-1].append(owner)
                row_nodes |= nodes
            else:
                rows.append([owner])
                row_nodes = nodes
        return rows


def build_trie(tokenizer: Any, text: PromptFormat, items: tuple[Item, ...] | list[Item], at: str = ALL) -> TokenTrie:
    """The trie of all answers of all items; sequences in item order, true answers first; owner = item index.

    Args:
        tokenizer: the model's.
        text: how questions are put.
        items: the questions.
        at: where edits act: a span is found where they are at the last token of one, which all questions mark.
    """
    sequences, owners, span = [], [], at if is_span(at) else ""
    for index, item in enumerate(items):
        for answer in item.answers:
            sequences.append(encode(tokenizer, text, item.question, answer, item.spans[span] if span else None))
            owners.append(index)
    return TokenTrie(sequences, owners, span)
