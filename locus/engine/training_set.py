"""What edits are trained on: questions as trees of tokens, pairs of answers, and what the frozen model says."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from locus.behaviours.items import Item
from locus.engine.activations import TOKENS
from locus.engine.forward import ResidualCache
from locus.engine.trie import TokenTrie
from locus.models.model import Model

Pairs = npt.NDArray[np.int64]
LEAST_TARGET = {"sum": 5.0, "mean": 1.0}  # nats, of an answer and of a token: the paper's, of tau = 0.1 and 0.5


@dataclass(frozen=True)
class TrainingSet:
    """What edits are trained on.

    Attributes:
        model: the frozen model.
        trie: of the training items.
        items: the training items; owner i of the trie is item i.
        reference: [sequences], the frozen model's answer log-probs (nats).
        residual_cache: base residuals, if held.
        tokens: token budget of one forward; a longer step is accumulated over several.
    """

    model: Model
    trie: TokenTrie
    items: Sequence[Item]
    reference: npt.NDArray[np.float64]
    residual_cache: ResidualCache | None = None
    tokens: int = TOKENS

    @property
    def pairs(self) -> Pairs:
        """[pairs, 2], all pairs of all questions."""
        return np.concatenate([all_pairs(self.items, self.trie, owner) for owner in range(len(self.items))])

    def typical_tau(self, reduce: Literal["sum", "mean"]) -> float:
        """The tau of IPO whose target 1 / (2 tau) is how far apart the unedited model holds the sides of a typical question.

        An edit that reaches it turns such a question round, whichever side the model is on: a target that is neither reached
        already nor out of reach, and never under the paper's. It is the root mean square over questions of their mean margin
        (nats; per token if reduce = mean), with two significant digits, so that another machine's rounding gives the same.
        """
        gains = self.reference / [len(one.ids) - one.start if reduce == "mean" else 1 for one in self.trie.sequences]
        every = (all_pairs(self.items, self.trie, owner) for owner in range(len(self.items)))
        margins = np.array([np.mean(gains[pairs[:, 0]] - gains[pairs[:, 1]]) for pairs in every])
        return 1 / (2 * max(LEAST_TARGET[reduce], float(f"{np.sqrt(np.mean(margins**2)):.2g}")))


def all_pairs(items: Sequence[Item], trie: TokenTrie, owner: int) -> Pairs:
    """[pairs, 2] sequence indices (true, false) of one question; true answers come first in a trie's question."""
    sequences = trie.sequences_of([owner])
    cut = len(items[owner].wanted)
    return np.array([(t, f) for t in sequences[:cut] for f in sequences[cut:]], dtype=np.int64)
