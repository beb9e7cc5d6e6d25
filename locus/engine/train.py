"""Find the optimal edit: objectives and the only training loop.

Every true x false pair of a question is trained from one question tree, and every edit of a bank from one forward; each
edit has its own target, learning rate and optimiser state, so its trajectory is the one it would have alone. The frozen
model is the reference, and b = 0 is exactly the frozen model: reference log-probs come from one base pass.

Sources: IPO, Azar et al. 2023, eq. 17; its use for optimal edits, Wang & Veitch 2025, section 4 (printed there as an
argmax; it is minimised). DPO, Rafailov et al. 2023. `reduce` says whether log-probs are summed over an answer's tokens,
as in the formulas, or averaged, as TRL has done since 0.7.11: for twelve-token answers the same tau is about twelve times
stronger averaged.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from locus.behaviours.items import Item
from locus.edits.base import Edit, Trainable
from locus.engine import cost
from locus.engine.bank import Bank
from locus.engine.forward import Batch, edited, prepare_row, sequence_logprobs
from locus.engine.training_set import Pairs, TrainingSet, all_pairs
from locus.engine.trie import TokenTrie
from locus.machine.threads import Each, thread_pool

Losses = npt.NDArray[np.float64]


@dataclass(frozen=True)
class TrainingRecipe:
    """How one edit is trained.

    Attributes:
        tau: IPO's regularisation; the target is 1 / (2 tau) nats. DPO's beta.
        lr: peak learning rate of AdamW.
        objective: ipo, dpo, or logit (the plain difference of log-probs, unbounded).
        reduce: sum or mean over an answer's tokens.
        epochs: passes over the training questions.
        batch: questions a step, or pairs a step.
        batching: questions (all pairs of a question at once) or pairs (the paper's random pairs).
        seed: of the order of questions.
        clip: largest gradient norm of one edit.
        weight_decay: AdamW's.
        search: adamw (a number of epochs, as in the paper), or newton (descent.py), to which batches and rates are nothing.
        rounds: the most gradients of the whole loss that a newton search takes; 0 for adamw.
    """

    tau: float = 0.1
    lr: float = 5e-4
    objective: Literal["ipo", "dpo", "logit"] = "ipo"
    reduce: Literal["sum", "mean"] = "sum"
    epochs: int = 2
    batch: int = 4
    batching: Literal["questions", "pairs"] = "questions"
    seed: int = 0
    clip: float = 1.0
    weight_decay: float = 0.0
    search: Literal["adamw", "newton"] = "adamw"
    rounds: int = 0

    @property
    def target(self) -> float:
        """IPO's target margin 1 / (2 tau), in nats (per token if reduce = mean)."""
        return 1 / (2 * self.tau)

    @property
    def shared(self) -> tuple[Any, ...]:
        """What all edits of one bank must have in common."""
        return (self.objective, self.reduce, self.epochs, self.batch, self.batching, self.seed, self.search, self.rounds)

    def to_json(self) -> dict[str, Any]:
        """As JSON; of a recipe by epochs what the first edition wrote, by which its trials are known."""
        fields = asdict(self)
        return fields if self.search == "newton" else {name: fields[name] for name in fields if name not in ("search", "rounds")}


@dataclass(frozen=True)
class Certificate:
    """How near to an optimum a search ended.

    Attributes:
        start: mean loss of all training pairs under the unedited model.
        loss: the same under the edit.
        promised: share of `start` by which the quadratic model at the end says that the next step would lower the loss.
        rounds: gradients of the whole loss that were taken.
        settled: whether the search ended by itself.
        reason: why not, or "".
        second: the loss after a second search, from the end of this one; None where there was none.
    """

    start: float
    loss: float
    promised: float
    rounds: int
    settled: bool
    reason: str
    second: float | None = None


@dataclass(frozen=True)
class Fit:
    """A trained edit and how its training went.

    Attributes:
        edit: with fixed terms.
        losses: [steps], mean loss over the pairs of each step.
        converged: whether it settled; `reason` says why not.
        diverged: whether it was stopped because the loss blew up.
        reason: a sentence, empty if converged.
        certificate: of a search by the whole loss.
    """

    edit: Edit
    losses: npt.NDArray[np.float64]
    converged: bool
    diverged: bool
    reason: str
    certificate: Certificate | None = None


def schedule(items: Sequence[Item], trie: TokenTrie, recipe: TrainingRecipe) -> list[list[Pairs]]:
    """For every epoch, the pairs of every step, in an order drawn from the recipe's seed."""
    generator = np.random.default_rng(recipe.seed)
    by_question = [all_pairs(items, trie, owner) for owner in range(len(items))]
    epochs = []
    for _ in range(recipe.epochs):
        if recipe.batching == "questions":
            order = generator.permutation(len(items))
            groups = [order[start : start + recipe.batch] for start in range(0, len(order), recipe.batch)]
            epochs.append([np.concatenate([by_question[owner] for owner in group]) for group in groups])
        else:
            pairs = np.concatenate(by_question)[generator.permutation(sum(map(len, by_question)))]
            epochs.append([pairs[start : start + recipe.batch] for start in range(0, len(pairs), recipe.batch)])
    return epochs


def chunks(pairs: Pairs, trie: TokenTrie, tokens: int, n_threads: int = 1) -> list[Pairs]:
    """Cut a step's pairs, question by question, so that each forward stays within the token budget, and all hands have work.

    What all questions begin with is run once in every part, so where it is long a step is not cut for more hands.
    """
    owner = trie.owners[pairs[:, 0]]
    order = list(dict.fromkeys(owner.tolist()))
    if n_threads > 1 and len(order) > 1 and trie.size(order) >= 4 * trie.shared:
        shares: list[list[int]] = [[] for _ in range(min(n_threads, len(order)))]
        for question in sorted(order, key=lambda question: -trie.size([question])):  # the largest first, each to who has least
            min(shares, key=lambda share: trie.size(share) if share else 0).append(question)
    else:
        shares = [order]
    # All hands together hold no more than one would.
    return [pairs[np.isin(owner, group)] for share in shares for group in trie.pack(share, tokens // len(shares))]


def pair_loss(h: Tensor, tau: Tensor, objective: str) -> Tensor:
    """Loss of every pair from h, the true minus the false log-ratio to the reference (nats).

    Args:
        h: [edits, pairs].
        tau: [edits].
        objective: ipo, dpo or logit.
    """
    if objective == "ipo":
        return (h - 1 / (2 * tau)[:, None]) ** 2
    if objective == "dpo":
        return -F.logsigmoid(tau[:, None] * h)
    return -h


def train(
    on: TrainingSet,
    edits: Sequence[Trainable],
    recipes: Sequence[TrainingRecipe],
    *,
    progress: Callable[[float], None] | None = None,
    tally: cost.Tally | None = None,
) -> list[Fit]:
    """Train a bank of edits together, each by its own recipe.

    Args:
        on: the questions, and the model.
        edits: freshly started edits; they are trained in place.
        recipes: one for each edit, alike in what a bank shares.
        progress: told the fraction done.
        tally: where each edit's forwards and backwards are counted.
    """
    assert len({recipe.shared for recipe in recipes}) == 1, "edits of one bank share objective, order and batches"
    bank = Bank(edits)
    run = _Run(on, bank, [recipes[index] for index in bank.order], tally)
    epochs = schedule(on.items, on.trie, recipes[0])
    total, usual = sum(map(len, epochs)), float(np.mean([len(step) for step in epochs[0]]))
    with bank.attach(on.model) as bank_state, thread_pool(on.model.n_threads) as run.each:
        for number, step in enumerate(step for epoch in epochs for step in epoch):
            run.step(bank_state, step, usual, 0.5 * (1 + math.cos(math.pi * number / total)))
            if progress is not None:
                progress((number + 1) / total)
    fits = run.finish()
    return [fits[place] for place in np.argsort(bank.order)]


def whole_gradients(
    on: TrainingSet, edits: Sequence[Trainable], recipes: Sequence[TrainingRecipe], tally: cost.Tally | None = None
) -> list[tuple[float, Tensor]]:
    """The mean loss of all training pairs and its gradient by the flat numbers, for every edit of a bank as it stands.

    The arguments are those of `train`; nothing is moved.
    """
    bank = Bank(edits)
    run = _Run(on, bank, [recipes[index] for index in bank.order], tally)
    pairs = on.pairs
    losses, gradients = np.zeros(len(bank)), [torch.zeros_like(edit.flat.data) for edit in run.trained]
    with bank.attach(on.model) as bank_state, thread_pool(on.model.n_threads) as each:
        prepared = map(run._prepared, chunks(pairs, on.trie, on.tokens, run.n_threads))
        for grads, sums, counted in each(partial(run._gradients, bank_state, float(len(pairs))), prepared):
            losses += sums
            run.tally.merge(counted)
            for gradient, grad in zip(gradients, grads, strict=True):
                if grad is not None:
                    gradient.add_(grad)
    return [(float(losses[place]) / len(pairs), gradients[place]) for place in np.argsort(bank.order)]


class _Run:
    """The moving parts of one bank's training, in bank order."""

    def __init__(self, on: TrainingSet, bank: Bank, recipes: list[TrainingRecipe], tally: cost.Tally | None):
        self.model, self.trie, self.bank, self.recipes = on.model, on.trie, bank, recipes
        self.residual_cache, self.tokens = on.residual_cache, on.tokens
        self.n_threads = on.model.n_threads
        self.each: Each = map
        lengths = np.array([len(sequence.ids) - sequence.start for sequence in on.trie.sequences], dtype=np.float64)
        self.divide = torch.from_numpy(lengths).float() if recipes[0].reduce == "mean" else torch.ones(len(lengths))
        self.reference = torch.from_numpy(on.reference).float()
        self.tau = torch.tensor([recipe.tau for recipe in recipes])
        self.trained = [edit for edit in bank.edits if isinstance(edit, Trainable)]
        assert len(self.trained) == len(bank), "only what is trainable is trained"
        for edit in self.trained:
            edit.flat.data = edit.flat.data.to(on.model.device)
        groups = [
            {"params": [edit.flat], "lr": recipe.lr, "weight_decay": recipe.weight_decay}
            for edit, recipe in zip(self.trained, recipes, strict=True)
        ]
        self.optimiser = torch.optim.AdamW(groups, fused=True)
        self.tally = cost.Tally(len(bank)) if tally is None else tally
        self.losses: list[npt.NDArray[np.float64]] = []
        self.stopped: dict[int, str] = {}
        self.sound = [edit.flat.detach().clone() for edit in self.trained]

    def step(self, bank_state: Any, pairs: Pairs, usual: float, decay: float) -> None:
        """One optimiser step: every pair weighs the same, however many a step holds or how it is cut."""
        self.optimiser.zero_grad(set_to_none=True)
        loss_sums = np.zeros(len(self.bank))
        prepared_chunks = [self._prepared(chunk) for chunk in chunks(pairs, self.trie, self.tokens, self.n_threads)]
        for grads, losses, tally in self.each(partial(self._gradients, bank_state, usual), prepared_chunks):
            for edit, grad in zip(self.trained, grads, strict=True):
                if grad is not None:
                    edit.flat.grad = grad if edit.flat.grad is None else edit.flat.grad.add_(grad)
            loss_sums += losses
            self.tally.merge(tally)
        self.losses.append(loss_sums / len(pairs))
        norms = self._norms()
        self._guard(norms.tolist())
        for index_of, (edit, recipe) in enumerate(zip(self.trained, self.recipes, strict=True)):
            self.optimiser.param_groups[index_of]["lr"] = recipe.lr * decay
            if index_of in self.stopped:
                edit.flat.grad = None
            elif edit.flat.grad is not None:
                edit.flat.grad.mul_((recipe.clip / (norms[index_of] + 1e-6)).clamp(max=1.0))
        self.optimiser.step()

    def _norms(self) -> Tensor:
        """[edits], the norm of each gradient; 0 where there is none."""
        nothing = torch.zeros((), device=self.model.device)
        grads = [edit.flat.grad for edit in self.trained]
        return torch.stack([nothing if grad is None else torch.linalg.vector_norm(grad) for grad in grads])

    def _prepared(self, chunk: Pairs) -> tuple[Pairs, Batch]:
        """Some pairs, by their places among the sequences of a row, and that row."""
        used = np.unique(chunk)
        row = self.trie.row(used.tolist(), ends=False)
        return np.searchsorted(used, chunk), prepare_row(self.model, row, self.trie.targets(row, used.tolist()))

    def _gradients(
        self, bank_state: Any, usual: float, chunk: tuple[Pairs, Batch]
    ) -> tuple[Sequence[Tensor | None], Losses, cost.Tally]:
        """Gradients of each edit from some of a step's pairs, the sums of their losses, and what it took."""
        place, prepared = chunk
        tally = cost.Tally(len(self.bank))
        hidden = edited(self.model, prepared, self.bank, bank_state, self.residual_cache, partial(tally.add, "train"))
        logprobs = sequence_logprobs(self.model, hidden, prepared.targets)
        index = torch.from_numpy(prepared.targets.sequences)
        gain = (logprobs - self.reference[index].to(logprobs.device)) / self.divide[index].to(logprobs.device)
        h = gain[:, place[:, 0]] - gain[:, place[:, 1]]
        loss = pair_loss(h, self.tau.to(h.device), self.recipes[0].objective)
        grads = torch.autograd.grad(loss.sum() / usual, [edit.flat for edit in self.trained], allow_unused=True)
        scored = len(prepared.targets.predictors)
        for edit, start, trained in zip(self.bank.order, self.bank.starts, self.trained, strict=True):
            tally.add("train", [edit], cost.Work(scored=scored))
            back = cost.back(self.model, prepared.row, start, scored, trained.point)
            tally.add("gradient", [edit], back)
        return grads, loss.detach().sum(dim=1).double().cpu().numpy(), tally

    def _guard(self, norms: list[float]) -> None:
        """Stop an edit whose loss or gradient is no number, or stays far above where it began; it keeps its last sound state."""
        first, recent = self.losses[0], np.array(self.losses[-8:])
        for index, edit in enumerate(self.trained):
            if index in self.stopped:
                continue
            ipo = self.recipes[index].objective == "ipo"
            if not (np.isfinite(recent[-1, index]) and math.isfinite(norms[index])):
                self.stopped[index] = f"the loss or its gradient was not a number at step {len(self.losses)}"
                edit.flat.data.copy_(self.sound[index])
            elif len(recent) == 8 and ipo and recent[:, index].min() > 10 * first[index]:
                self.stopped[index] = f"the loss was above ten times its start for 8 steps up to step {len(self.losses)}"
            else:
                self.sound[index] = edit.flat.detach().clone()

    def finish(self) -> list[Fit]:
        """Freeze every edit and say whether it settled."""
        losses = np.array(self.losses)
        fits = []
        for index, (edit, recipe) in enumerate(zip(self.trained, self.recipes, strict=True)):
            diverged = index in self.stopped
            reason = self.stopped.get(index) or unsettled(losses[:, index])
            about = {"recipe": recipe.to_json(), "converged": not reason, "diverged": diverged}
            fits.append(Fit(edit.frozen(about), losses[:, index], not reason, diverged, reason))
        return fits


def unsettled(losses: npt.NDArray[np.float64]) -> str:
    """Why a loss curve has not settled, or "" if it has.

    Settled: the last quarter of the steps is no worse than the one before (within 5 % of the start), and brought less than
    a quarter of all that was gained. Steps see different questions, so a difference counts only beyond two standard errors.
    """
    if len(losses) < 8:
        return f"only {len(losses)} steps: too few to tell whether the loss settled"
    quarter = len(losses) // 4
    before, after = losses[-2 * quarter : -quarter], losses[-quarter:]
    noise = 2 * math.sqrt(before.var(ddof=1) / quarter + after.var(ddof=1) / quarter)
    start, third, last = losses[0], before.mean(), after.mean()
    gained = start - last
    if last > start + noise:
        return "the loss ended above where it began: the learning rate is too high"
    if last > third + 0.05 * abs(start) + noise:
        return "the loss rose in the last quarter of the steps"
    if gained > 0 and third - last > 0.25 * gained + noise:
        return "the last quarter of the steps still brought over a quarter of the gain: train longer or at a higher rate"
    return ""
