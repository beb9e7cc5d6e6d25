"""What an audit holds in memory, reckoned from the model, the plan and the questions; nothing is run.

Counted is what grows with the model or with the questions. Python, torch and what it keeps between products are not.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from locus.edits.rank1 import Rank1Form
from locus.engine.linear import answers_of
from locus.engine.optimum import kept_of, numbers_of
from locus.engine.trie import TokenTrie
from locus.machine.workers import fitting
from locus.models.model import Model
from locus.plan.trials import MemoryBudget, Plan
from locus.sites.space import space_of


@dataclass(frozen=True)
class Memory:
    """Bytes that an audit holds.

    Attributes:
        weights: of the model, of all experts where tokens are sent to some.
        gradients: of the base model's linearisation, where edits are searched for by the whole loss.
        training: of activations, in as many banks as run at once.
        residuals: of the base model's residual streams; they lie on disk, not in memory, where there is a cache.
    """

    weights: int
    gradients: int
    training: int
    residuals: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.gradients + self.training + self.residuals

    def __str__(self) -> str:
        parts = [f"{_size(nbytes)} {what}" for what, nbytes in self._named().items() if nbytes]
        return f"{_size(self.total)}: {', '.join(parts)}"

    def _named(self) -> Mapping[str, int]:
        return {
            "of weights": self.weights,
            "of gradients": self.gradients,
            "for training": self.training,
            "of the base model's residual streams (on disk where there is a cache)": self.residuals,
        }


def memory_of(model: Model, plan: Plan, tries: Mapping[str, TokenTrie], budget: MemoryBudget, cores: int) -> Memory:
    """What the trials of a plan hold.

    Args:
        model: the model.
        plan: all trials.
        tries: of the questions and texts, by part.
        budget: what one forward may hold.
        cores: on which banks may run side by side.
    """
    layout, by_id = model.layout, {trial.id: trial for trial in plan.trials}
    banks = sorted(sum(budget.takes(by_id[trial], layout) for trial in bank) for bank in plan.banks)
    at_once = fitting(cores, banks[-1]) if model.device.type == "cpu" else 1
    searched = [trial for trial in plan.trials if trial.recipe is not None and trial.recipe.rounds]
    space = space_of([claim.location for claim in plan.claims], layout)
    gradients, training = 0, sum(banks[-at_once:])
    for form in {"free" if trial.form == "free" else "heads" for trial in searched}:
        written: Rank1Form = "free" if form == "free" else "heads"
        kept = kept_of(tries["train"], layout, written, point=space.kind.point)
        gradients += (
            2 * numbers_of(layout, written, space.kind.point) * sum(len(tries["train"].sequences[index].ids) for index in kept)
        )
        # A step of such a search runs answers row by row, in every layer, there and back.
        rows = max(part.tokens.numel() for part in answers_of(tries["train"], kept))
        one = replace(budget, tokens=rows).takes(replace(searched[0], location=space.everywhere), layout)
        training = max(training, at_once * one)
    nodes = sum(len(trie) for trie in tries.values()) if model.trees else 0
    return Memory(
        weights=weights_of(model),
        gradients=gradients,
        training=training,
        residuals=nodes * layout.n_layers * layout.d_model * model.dtype.itemsize,
    )


def weights_of(model: Model) -> int:
    """Bytes of a model's weights; what is tied counts once."""
    return sum(one.numel() * one.element_size() for one in {*model.hf.parameters(), *model.hf.buffers()})


def _size(nbytes: int) -> str:
    return f"{nbytes / 1e9:.2f} GB" if nbytes >= 1e8 else f"{nbytes / 1e6:.1f} MB"
