"""Train many rank-1 edits of a planted model at once, each exactly as it would be trained alone.

Edit k changes what enters the output projection of layer l: o <- o + <a_kl, o> b_kl, with b zero off the edit's mask
(and a too where it reads heads; the constant 1 in place of <a, o> where it reads nothing). AdamW is elementwise and
the losses are summed, so edits that run together do not meet.

A planted prompt is the beginning-of-text token and one word. The first is the same in all questions, so it is held
once an edit; the word attends to itself and to it, so its attention is one sigmoid; and edits that start in the same
layer share the head outputs of that layer, which no edit changes. That is all of a Llama forward that is left, and
writing it out makes this a second implementation, independent of the package's ordinary edits and of the model's own
code (a test compares it with both).

Source: Wang & Veitch 2025, equations 4.2 and 4.3; the loss is minimised, with target 1 / (2 tau) for h.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from locus.errors import UserError
from locus.models.planted.kinds import READS, Place


@dataclass(frozen=True)
class Training:
    """How edits are trained.

    Attributes:
        read: layer, heads or constant.
        target: of h, in nats: 1 / (2 tau).
        steps: full-batch AdamW steps without weight decay; the learning rate falls to zero along a cosine.
        learning_rate: at the start, of an edit of one site. An edit of n sites moves by n ** -0.25 of it: many
            sites that write the same direction add their steps, and would overshoot.
        seed: of the initial a; b starts at zero.
    """

    read: str = "layer"
    target: float = 5.0
    steps: int = 80
    learning_rate: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.read not in READS:
            raise UserError(f"a read mode among {', '.join(READS)}", repr(self.read), "Choose one of them.")


@dataclass(frozen=True)
class Questions:
    """Prompts of two tokens, each with its pairs of a true and a false answer of one token.

    Attributes:
        ids: [n, 2] token ids, the first column the same everywhere.
        contrasts: [n, pairs, width] unembedding of the true answer minus that of the false one.
    """

    ids: Tensor
    contrasts: Tensor

    def part(self, indices: tuple[int, ...]) -> "Questions":
        """Some of the questions."""
        return Questions(self.ids[list(indices)], self.contrasts[list(indices)])


@dataclass(frozen=True)
class Streams:
    """Residual streams: of the first token, [K, 1, width], and of the questions' words, [K, n, width]."""

    first: Tensor
    words: Tensor


class Layer:
    """The arithmetic of one Llama layer for two-token prompts.

    Args:
        block: the model's own layer, whose weights are used as they are.
        rotary: cosine and sine of position 1, [head_dim] each; position 0 is not turned.
    """

    def __init__(self, block: Any, rotary: tuple[Tensor, Tensor]):
        attention, mlp = block.self_attn, block.mlp
        self.size = int(attention.head_dim)
        projections = (attention.q_proj, attention.k_proj, attention.v_proj)
        self.qkv = torch.cat([projection.weight.detach() for projection in projections]).T
        self.out = attention.o_proj.weight.detach().T
        self.gate_up = torch.cat([mlp.gate_proj.weight.detach(), mlp.up_proj.weight.detach()]).T
        self.down = mlp.down_proj.weight.detach().T
        self.before, self.between = block.input_layernorm, block.post_attention_layernorm
        self.cosine, self.sine = rotary

    def heads(self, streams: Streams) -> Streams:
        """Concatenated head outputs, [K, 1, features] and [K, n, features]."""
        query, key, value = self._split(rms_norm(self.before, streams.words))
        _, first_key, first_value = self._split(rms_norm(self.before, streams.first))
        # Query and key of the same position turn together; of the first token only its relative turn is left.
        half = torch.cat([first_key[..., self.size // 2 :], -first_key[..., : self.size // 2]], dim=-1)
        turned = first_key * self.cosine + half * self.sine
        preference = (query * (key - turned)).sum(-1, keepdim=True) / self.size**0.5
        words = torch.lerp(first_value.expand_as(value), value, preference.sigmoid().expand_as(value))
        return Streams(first_value.flatten(-2), words.flatten(-2))

    def _split(self, normed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        projected = normed @ self.qkv
        query, key, value = projected.view(*projected.shape[:-1], 3, -1, self.size).unbind(-3)
        return query, key, value

    def finish(self, stream: Tensor, outputs: Tensor) -> Tensor:
        """Add the attention block's output and the MLP's to a stream."""
        stream = stream + outputs @ self.out
        gate, up = (rms_norm(self.between, stream) @ self.gate_up).chunk(2, dim=-1)
        finished: Tensor = stream + (functional.silu(gate) * up) @ self.down
        return finished


def rms_norm(norm: Any, stream: Tensor) -> Tensor:
    """Divide by the root mean square; gains are 1 by construction, which `directions.laws` checks."""
    scale: Tensor = torch.rsqrt(stream.square().mean(-1, keepdim=True) + norm.variance_epsilon)
    return stream * scale


class Runner:
    """A planted model's forward on its prompts, from any layer on, for many edits at once."""

    def __init__(self, model: Any):
        inner = model.model
        self.embed, self.norm = inner.embed_tokens.weight.detach(), inner.norm
        cosine, sine = inner.rotary_emb(self.embed[:1], position_ids=torch.tensor([[0, 1]]))
        self.layers = [Layer(block, (cosine[0, 1], sine[0, 1])) for block in inner.layers]

    def entering(self, ids: Tensor, start: int) -> Streams:
        """What enters layer `start` of the unedited model, K = 1."""
        assert ids.shape[1] == 2, f"prompts have two tokens, not {ids.shape[1]}"
        assert bool((ids[:, 0] == ids[0, 0]).all()), "prompts share their first token"
        streams = Streams(self.embed[ids[:1, :1]], self.embed[ids[:, 1]][None])
        for layer in self.layers[:start]:
            outputs = layer.heads(streams)
            streams = Streams(layer.finish(streams.first, outputs.first), layer.finish(streams.words, outputs.words))
        return streams

    def states(self, streams: Streams, outputs: Streams, edits: "Edits") -> Tensor:
        """Final normed states of the words, [K, n, width], after edits.

        Args:
            streams: what enters layer `edits.start`, K = 1.
            outputs: that layer's unedited head outputs, K = 1.
            edits: applied at every position.
        """
        last = len(self.layers) - 1
        for index in range(edits.start, len(self.layers)):
            layer = self.layers[index]
            if index > edits.start:
                outputs = layer.heads(streams)
            words = layer.finish(streams.words, edits.apply(index, outputs.words))
            if index == last:
                return rms_norm(self.norm, words)
            streams = Streams(layer.finish(streams.first, edits.apply(index, outputs.first)), words)
        raise AssertionError("an edit must start in one of the layers")


@dataclass(frozen=True)
class Edits:
    """K rank-1 edits of the layers from `start` on.

    Attributes:
        start: the first layer that any of them changes.
        mask: [K, layers - start, features], 1 where b may differ from zero.
        a: of the same shape; what is read.
        b: of the same shape; what is written.
        read: layer, heads or constant.
    """

    start: int
    mask: Tensor
    a: Tensor
    b: Tensor
    read: str

    def apply(self, layer: int, outputs: Tensor) -> Tensor:
        """Edited head outputs, [K, n, features], from [K or 1, n, features]."""
        index = layer - self.start
        mask = self.mask[:, index]
        write = (self.b[:, index] * mask)[:, None]
        if self.read == "constant":
            return outputs + write
        weights_in = self.a[:, index] * mask if self.read == "heads" else self.a[:, index]
        return outputs + (outputs @ weights_in[:, :, None]) * write


def masks(locations: Sequence[tuple[Place, ...]], layers: int, heads: int, head_dim: int) -> Tensor:
    """[K, layers, heads * head_dim], 1 where a location lets an edit write."""
    grid = torch.zeros(len(locations), layers, heads)
    for index, places in enumerate(locations):
        for layer, head in places:
            grid[index, layer, head] = 1.0
    return grid.repeat_interleave(head_dim, dim=2)


def initial(mask: Tensor, start: int, training: Training) -> Edits:
    """Identity edits: a random, the same for all of them; b zero.

    Args:
        mask: [K, layers, features], zero before `start`.
        start: the first layer edited.
        training: the seed and the read mode.
    """
    assert not mask[:, :start].any(), f"an edit before layer {start}"
    generator = torch.Generator().manual_seed(training.seed)
    # Drawn for all layers and cut afterwards: an edit starts the same whatever it is trained beside.
    a = torch.randn(mask.shape[1:], generator=generator)[start:] / mask.shape[2] ** 0.5
    remaining = mask[:, start:]
    return Edits(start, remaining, a.expand_as(remaining), torch.zeros_like(remaining), training.read)


def margins_after(runner: Runner, edits: Edits, questions: Questions) -> Tensor:
    """Margins in nats after each edit, [K, n, pairs]."""
    with torch.no_grad():
        streams = runner.entering(questions.ids, edits.start)
        states = runner.states(streams, runner.layers[edits.start].heads(streams), edits)
    return torch.einsum("knw,npw->knp", states, questions.contrasts)


Losses = npt.NDArray[np.float64]
Watch = Callable[[Tensor, Tensor], None]


def fit_edits(
    runner: Runner,
    edits: Edits,
    questions: Questions,
    before: Tensor,
    training: Training,
    watch: Callable[[Tensor], None] = lambda losses: None,
) -> Edits:
    """Minimise the mean of (h - target)^2 over questions and pairs for each edit.

    Args:
        runner: the model.
        edits: where to start.
        questions: the training questions.
        before: [n, pairs] margins of the unedited model.
        training: target, steps and learning rate.
        watch: shown the [K] losses of every step.

    Returns:
        The trained edits.
    """
    # AdamW's steps do not depend on the scale of the gradient, so a factor on what it moves is a rate of its own.
    head_dim = runner.layers[0].size
    pace = (edits.mask.sum(dim=(1, 2)) / head_dim)[:, None, None] ** -0.25
    moved_a = torch.zeros_like(edits.mask, requires_grad=training.read != "constant")
    moved_b = torch.zeros_like(edits.mask, requires_grad=True)

    def moved() -> Edits:
        return replace(edits, a=edits.a + pace * moved_a, b=edits.b + pace * moved_b)

    parameters = [moved_b] if training.read == "constant" else [moved_a, moved_b]
    optimiser = torch.optim.AdamW(parameters, lr=training.learning_rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, training.steps)
    streams = runner.entering(questions.ids, edits.start)
    outputs = runner.layers[edits.start].heads(streams)
    for _ in range(training.steps):
        optimiser.zero_grad()
        states = runner.states(streams, outputs, moved())
        gain = torch.einsum("knw,npw->knp", states, questions.contrasts) - before
        losses = ((gain - training.target) ** 2).mean(dim=(1, 2))
        losses.sum().backward()  # type: ignore[no-untyped-call]
        watch(losses.detach())
        optimiser.step()
        schedule.step()
    with torch.no_grad():
        return moved()


def unedited(model: Any, questions: Questions) -> Tensor:
    """Margins in nats of the unedited model, [n, pairs], by its own forward."""
    with torch.no_grad():
        states = model.model(questions.ids, use_cache=False).last_hidden_state[:, -1]
    return torch.einsum("nw,npw->np", states, questions.contrasts)


def optimal_margins(
    model: Any, mask: Tensor, train: Questions, test: Questions, training: Training, watch: Watch = lambda rows, losses: None
) -> Tensor:
    """Train an edit for every row of `mask` and give its margins in nats on the test questions, [K, n, pairs].

    `watch` is shown the rows that train together and their losses, step by step.
    """
    starts = mask.any(dim=2).int().argmax(dim=1)
    before, runner = unedited(model, train), Runner(model)
    result = torch.empty(len(mask), *test.contrasts.shape[:2])
    for start in sorted(set(starts.tolist())):
        same_start = (starts == start).nonzero().flatten()
        edits = fit_edits(runner, initial(mask[same_start], start, training), train, before, training, partial(watch, same_start))
        result[same_start] = margins_after(runner, edits, test)
    return result


def trained(model: Any, mask: Tensor, train: Questions, test: Questions, training: Training) -> tuple[Tensor, Losses]:
    """The same, with the [steps, K] losses on the way."""
    losses = np.zeros((training.steps, len(mask)))
    step = np.zeros(len(mask), dtype=np.int64)

    def watch(rows: Tensor, step_losses: Tensor) -> None:
        losses[step[rows.numpy()], rows.numpy()] = step_losses.numpy()
        step[rows.numpy()] += 1

    return optimal_margins(model, mask, train, test, training, watch), losses


def ablated_margins(model: Any, mask: Tensor, questions: Questions) -> Tensor:
    """Margins in nats with the masked features set to zero, [K, n, pairs]; b = -o there, which is no rank-1 edit."""
    runner, results = Runner(model), []
    for keep in 1.0 - mask:
        edits = _Ablation(keep)
        with torch.no_grad():
            streams = runner.entering(questions.ids, 0)
            states = runner.states(streams, runner.layers[0].heads(streams), edits)
        results.append(torch.einsum("knw,npw->knp", states, questions.contrasts)[0])
    return torch.stack(results)


class _Ablation(Edits):
    """Keep what a mask [layers, features] lets through; `mask`, `a` and `b` are unused."""

    def __init__(self, keep: Tensor):
        super().__init__(0, keep[None], keep[None], keep[None], "layer")

    def apply(self, layer: int, outputs: Tensor) -> Tensor:
        return outputs * self.mask[0, layer]
