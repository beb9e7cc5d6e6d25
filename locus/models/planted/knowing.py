"""Weights of models that know which answer is wanted and do not say it: for modules and the stream as sites.

The bit of a question is a coordinate of the stream, +strength or -strength along *bit0* (and *bit1*), and nothing turns it
into the polarity: the unedited model is indifferent. It comes into the stream in one of two ways. It is *embedded*, with the
question's word. Or it is *looked up*: a pair of questions has a *name*, a unit vector, and its two have +1 and -1 along
*twin*. An MLP has a neuron for every pair, which fires at this name alone, and writes the twin times the pair's sign. Signs
are drawn by lot, so what comes before the look-up is, as a function of weights and words, the same whatever the bits are: no
edit there, and no edits there together, can know them. Modules read no twin; edited ones can tell it by the norm, if they write
along it, and learn by heart which sign goes with which name (`sited.py`).

What an edit of other places can do after the bit is in the stream is closed by construction, kind by kind:

- mlp: the working MLP is the one that looks up. Later MLPs *say the same to all*: their gates and ups are biases alone, so
  their outputs are constant vectors, whatever enters. What can be written with them is the same for all questions.
- attn: the MLP before the working module looks up, the module reads the bit at its own token and writes it. Later ones say the
  same to all: their values are biases, and attention weights add up to 1.
- resid, late: name and twin are the cue's, the first word's. One head brings them to the last token, where the MLP behind it
  looks up, the next stream tells, and so does every later one until the last. Nothing comes after them. That head writes name,
  twin and a *channel* alone, so whatever is done at the cue, nothing of it comes to the polarity of the last token. In
  *conjunctive*, whose first bit is at the cue, they are the last word's, lest it should be carried along with them.
- resid, early: the bit is embedded with a first word, the cue. One head moves a *channel* coordinate from there to the
  polarity of the last token, and nothing has the channel. All other attention says the same to all, so after that head nothing
  leads from the cue to the last token, whose stream has never held the bit. Up to there an edit reads the bit at the cue and
  writes the channel.

A module carries a bit, or the truth of an answer, by hand. In attention a head of uniform weights reads the coordinate and
writes it. In an MLP two neurons do, with gates +g and -g and one value u: silu(g) u + silu(-g) u = g tanh(g / 2) u, of the
sign of u.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from locus.models.planted.directions import Array, PlantedDirections
from locus.models.planted.kinds import Place, PlantedPlan
from locus.models.planted.sited import SPARE
from locus.models.planted.text import SPECIAL
from locus.models.planted.weights import PlantedSize

NAMES, BALLAST = 3, 2  # dimensions, the first ones of the free
STRENGTH = 0.3  # of a bit in the stream
SHARE = 0.03  # the same, of what one of many adds where every module carries the bit
HEAVY = 1.5  # norm of a question's ballast
PUSHED = 0.3  # norm that a layer's attention adds to the stream, about; its MLP adds as much
HESITATION = 0.02  # of a question's own polarity, which has nothing to do with its bit: margins of .1 nats
BROUGHT = 1.8  # gain of the head that brings a name: of three tokens one has it, with a norm of about 3 in 24 dimensions
SHARP = 13.0  # gate of a neuron that looks up: this where it fires, and less than minus this at other names
SHARED = ("bit0", "bit1", "twin", "truth", "constant", "end", "channel", "mark0", "mark1")


def draw_bits(n_bits: int, n_questions: int, rng: np.random.Generator) -> Array:
    """[n_bits, n_questions] of +1 and -1, opposite in each pair of neighbours, and for as many pairs the one way as the other."""
    pairs = np.where(np.arange(n_questions // 2) % 2, -1.0, 1.0)
    return np.stack([np.outer(rng.permutation(pairs), [1.0, -1.0]).ravel() for _ in range(n_bits)])


def draw_names(n_pairs: int, rng: np.random.Generator) -> Array:
    """[n_pairs, NAMES] unit vectors, spread evenly over the sphere along a spiral, turned and dealt at random."""
    height = 1 - (2 * np.arange(n_pairs) + 1) / n_pairs
    angle, radius = np.pi * (1 + 5**0.5) * np.arange(n_pairs), np.sqrt(1 - height**2)
    spiral = np.stack([radius * np.cos(angle), radius * np.sin(angle), height], axis=1)
    turn, _ = np.linalg.qr(rng.standard_normal((NAMES, NAMES)))
    names: Array = rng.permutation(spiral) @ turn
    return names


def is_cued(site: str) -> bool:
    """Whether questions have two words, of which the first may hold the bit."""
    return site == "resid"


def early(site: str, plan: PlantedPlan, layers: int) -> dict[str, int]:
    """Bit -> the layer whose attention moves the channel, for bits that are embedded with the cue."""
    if site != "resid" or len(plan.truth) == layers:
        return {}
    spans: dict[str, list[int]] = {}
    for role in plan.roles:
        if role.reads is not None and role.reads.startswith("bit"):
            spans.setdefault(role.reads, []).append(role.place[0])
    return {bit: max(span) for bit, span in spans.items() if min(span) == 0}


def look_ups(site: str, plan: PlantedPlan, layers: int) -> dict[str, int]:
    """Bit -> the layer whose MLP looks it up; in *redundant* MLPs each does (`plant_modules`)."""
    if len(plan.truth) == layers:
        return {}
    first: dict[str, int] = {}
    for role in plan.roles:
        if role.reads is not None and role.reads.startswith("bit"):
            first[role.reads] = min(role.place[0], first.get(role.reads, layers))
    before = 0 if site == "mlp" else 1
    return {bit: layer - before for bit, layer in first.items() if bit not in early(site, plan, layers)}


def is_carried(site: str, plan: PlantedPlan, layers: int) -> bool:
    """Whether a question's name stands at its cue, and a head brings it to the last token just before it is looked up."""
    return is_cued(site) and bool(look_ups(site, plan, layers)) and not early(site, plan, layers)


class Knowing:
    """The weights of one model, drawn and planted; `look_up` is called last, in the order of the layers.

    Args:
        site: attn, mlp or resid.
        plan: which sites play a part.
        size: widths and counts; as many MLP neurons as pairs of questions, and those to spare.
        directions: named.
        rng: of everything drawn.
    """

    def __init__(
        self, site: str, plan: PlantedPlan, size: PlantedSize, directions: PlantedDirections, rng: np.random.Generator
    ) -> None:
        self.site, self.plan, self.size, self.directions, self.rng = site, plan, size, directions, rng
        self.name_rows, self.ballast_rows = directions.free[:NAMES], directions.free[NAMES : NAMES + BALLAST]
        self.idle_rows = directions.free[NAMES + BALLAST :]
        self.readable = np.concatenate([directions["constant"][None], self.name_rows, self.idle_rows])
        self.weights: dict[str, Array] = {"model.norm.weight": np.ones(size.width)}
        for layer in range(size.layers):
            self._noise(layer)
        self._silence()
        for role in plan.roles:
            self._carry(role.place, role.reads)
        for bit, layer in early(site, plan, size.layers).items():
            self._move(layer, bit.replace("bit", "polarity"))
        self.carried = is_carried(site, plan, size.layers)
        for layer in look_ups(site, plan, size.layers).values() if self.carried else ():
            self._bring(layer)
        self.names = draw_names(size.questions // 2, rng)

    def _set(self, layer: int, name: str, value: Array) -> None:
        self.weights[f"model.layers.{layer}.{name}"] = value

    def of(self, layer: int, name: str) -> Array:
        """One of a layer's weights or biases."""
        return self.weights[f"model.layers.{layer}.{name}"]

    def _noise(self, layer: int) -> None:
        size = self.size

        def reader(rows: int) -> Array:
            projection: Array = self.rng.standard_normal((rows, len(self.readable))) @ self.readable / np.sqrt(size.width)
            return projection

        def writer(columns: int, rms: float) -> Array:
            scale = PUSHED / rms / np.sqrt(columns * len(self.idle_rows))
            projection: Array = scale * self.idle_rows.T @ self.rng.standard_normal((len(self.idle_rows), columns))
            return projection

        for norm in ("input_layernorm", "post_attention_layernorm"):
            self._set(layer, f"{norm}.weight", np.ones(size.width))
        for name in "qkv":
            self._set(layer, f"self_attn.{name}_proj.weight", reader(size.features))
            self._set(layer, f"self_attn.{name}_proj.bias", np.zeros(size.features))
        self._set(layer, "self_attn.o_proj.weight", writer(size.features, 1.0))
        self._set(layer, "self_attn.o_proj.bias", np.zeros(size.width))
        for name in ("gate", "up"):
            self._set(layer, f"mlp.{name}_proj.weight", reader(size.mlp))
            self._set(layer, f"mlp.{name}_proj.bias", np.zeros(size.mlp))
        self._set(layer, "mlp.down_proj.weight", writer(size.mlp, 0.6))  # silu(gate) * up of two unit normals has RMS 0.6
        self._set(layer, "mlp.down_proj.bias", np.zeros(size.width))

    def _silence(self) -> None:
        """Let what comes after the bit say the same to all questions; where the stream is edited, all that is not planted."""
        plan, size = self.plan, self.size
        if self.site == "resid":
            for layer in range(size.layers):
                self._same_to_all(layer, "attn")
                self._same_to_all(layer, "mlp")
        elif len(plan.truth) < size.layers:
            for layer in range(min(plan.truth)[0] + 1, size.layers):
                self._same_to_all(layer, self.site)

    def _same_to_all(self, layer: int, site: str) -> None:
        names = ["self_attn.v_proj"] if site == "attn" else ["mlp.gate_proj", "mlp.up_proj"]
        for name in names:
            self.of(layer, f"{name}.weight")[:] = 0.0
            self.of(layer, f"{name}.bias")[:] = self.rng.standard_normal(len(self.of(layer, f"{name}.bias")))

    def _carry(self, place: Place, reads: str | None) -> None:
        """Make a module's output carry a bit that is embedded or looked up before it, or the truth of answers."""
        assert reads is not None, "a role carries something"
        layer, whole = place[0], len(self.plan.truth) == self.size.layers
        if self.site == "resid":
            if reads == "truth":  # found by the MLP before: the product of an answer's two marks
                self._multiply(layer - 1)
            return
        likewise = [] if reads == "truth" or self.plan.decoys else ["truth"]
        if self.site == "attn":
            self._head(layer, [reads, *likewise], reads, SHARE if whole else STRENGTH)
            return
        if reads == "truth" or whole:
            self._pair(layer, 0, reads, reads)
        for name in likewise:
            self._pair(layer, 2, name, reads)

    def _head(self, layer: int, reads: Sequence[str], writes: str, gain: float) -> None:
        """Let head 0 attend to all tokens alike, read some coordinates and write their sum."""
        rows, frame = slice(0, self.size.head_dim), np.eye(self.size.head_dim)[0]
        for name in "qkv":
            self.of(layer, f"self_attn.{name}_proj.weight")[rows] = 0.0
            self.of(layer, f"self_attn.{name}_proj.bias")[rows] = 0.0
        self.of(layer, "self_attn.v_proj.weight")[rows] = np.outer(frame, sum(self.directions[name] for name in reads))
        self.of(layer, "self_attn.o_proj.weight")[:, rows] = gain * np.outer(self.directions[writes], frame)

    def _move(self, layer: int, polarity: str) -> None:
        """The head that moves the channel: full on, the polarity of the last token outweighs all the rest of its stream."""
        self._head(layer, ["channel"], polarity, 3.0)

    def _bring(self, layer: int) -> None:
        """The head that brings the cue's name, twin and channel to the last token, each as it is."""
        brought = np.concatenate([self.name_rows, self.directions["twin"][None], self.directions["channel"][None]])
        rows = slice(0, self.size.head_dim)
        self._head(layer, ["channel"], "channel", 0.0)
        self.of(layer, "self_attn.v_proj.weight")[: len(brought)] = brought
        self.of(layer, "self_attn.o_proj.weight")[:, rows] = 0.0
        self.of(layer, "self_attn.o_proj.weight")[:, : len(brought)] = BROUGHT * brought.T

    def _pair(self, layer: int, neuron: int, reads: str, writes: str) -> None:
        """Let two neurons write a coordinate's sign times something positive."""
        first = self.size.mlp - SPARE + neuron
        pair = slice(first, first + 2)
        gates, whole = np.array([1.0, -1.0]), len(self.plan.truth) == self.size.layers
        self._neurons(layer, pair, np.outer(gates, self.directions["constant"]), np.outer([1, 1], self.directions[reads]))
        self.of(layer, "mlp.down_proj.weight")[:, pair] = (SHARE if whole else STRENGTH) * np.outer(
            self.directions[writes], [1, 1]
        )

    def _multiply(self, layer: int) -> None:
        """Let two neurons write the product of an answer's marks: silu(g) u - silu(-g) u = g u."""
        pair, gates = slice(0, 2), np.array([1.0, -1.0])
        self._neurons(layer, pair, np.outer(gates, self.directions["mark0"]), np.outer([1, 1], self.directions["mark1"]))
        self.of(layer, "mlp.down_proj.weight")[:, pair] = STRENGTH * np.outer(self.directions["truth"], gates)

    def _neurons(self, layer: int, rows: slice, gate: Array, up: Array) -> None:
        for name, value in (("gate", gate), ("up", up)):
            self.of(layer, f"mlp.{name}_proj.weight")[rows] = value
            self.of(layer, f"mlp.{name}_proj.bias")[rows] = 0.0

    def looked_up(self) -> list[tuple[int, str]]:
        """The layers whose MLPs look a bit up, in order."""
        found = {(layer, bit) for bit, layer in look_ups(self.site, self.plan, self.size.layers).items()}
        if self.site == "mlp" and len(self.plan.truth) < self.size.layers:
            found |= {(role.place[0], role.reads) for role in self.plan.roles if role.reads and role.reads.startswith("bit")}
        return sorted(found)

    def plant_look_up(self, layer: int) -> None:
        """The neurons that fire at the name of one pair each, as far as its twin says; what they write is set later."""
        cosines, one = self.names @ self.names.T, self.directions["channel" if self.carried else "constant"]
        edge = (1 + cosines[cosines < 1 - 1e-9].max()) / 2  # between a name's cosine with itself and with the next
        sharp = SHARP / (1 - edge) / np.sqrt(self.size.width / 5)  # a question's squared norm is about 5
        rows = slice(0, len(self.names))
        self._neurons(layer, rows, sharp * (self.names @ self.name_rows - edge * one), self._ones(self.directions["twin"]))
        self.of(layer, "mlp.down_proj.weight")[:, : self.size.mlp - SPARE if self.site == "mlp" else None] = 0.0

    def _ones(self, direction: Array) -> Array:
        return np.outer(np.ones(len(self.names)), direction)

    def look_up(self, layer: int, bit: str, entering: Array, bits: Array) -> None:
        """Set what the neurons write, so that every question's bit comes out with the same strength.

        Args:
            layer: whose MLP it is.
            bit: which.
            entering: [n_questions, width], what enters the MLP at the questions' last tokens.
            bits: [n_questions] of +1 and -1.
        """
        rows, first = slice(0, len(self.names)), entering[::2]  # the second question of a pair fires as far the other way
        gate, up = (first @ self.of(layer, f"mlp.{name}_proj.weight")[rows].T for name in ("gate", "up"))
        fired = functional.silu(torch.from_numpy(gate)).numpy() * up
        columns = np.linalg.solve(fired, STRENGTH * bits[::2])
        self.of(layer, "mlp.down_proj.weight")[:, rows] = np.outer(self.directions[bit], columns)

    def embed(self, bits: Array) -> Array:
        """Input embeddings of the whole vocabulary, [words, width]: special tokens, questions, answers, cues.

        Args:
            bits: [n_polarities, n_questions]; the wanted answer comes first where the first bit is +1, and second where it is -1.
        """
        size, directions, rng = self.size, self.directions, self.rng
        constant = directions["constant"]

        def noise(count: int) -> Array:
            gaussian = rng.standard_normal((count, len(self.idle_rows)))
            unit: Array = gaussian / np.linalg.norm(gaussian, axis=1, keepdims=True) @ self.idle_rows
            return unit + constant

        def pairs(rows: Array, scale: float) -> Array:
            """The same for both questions of a pair, of a norm."""
            gaussian = rng.standard_normal((len(self.names), len(rows)))
            vectors: Array = scale * gaussian / np.linalg.norm(gaussian, axis=1, keepdims=True) @ rows
            return vectors.repeat(2, axis=0)

        twins = np.where(np.arange(size.questions) % 2, -1.0, 1.0)
        questions, named = noise(1) + pairs(self.ballast_rows, HEAVY), (self.names @ self.name_rows).repeat(2, axis=0)
        for polarity in directions.polarities:
            questions += HESITATION * rng.standard_normal((len(self.names), 1)).repeat(2, axis=0) * polarity
        cues, moved = noise(1) + pairs(self.ballast_rows, HEAVY), early(self.site, self.plan, size.layers)
        if self.looked_up():
            named = named + np.outer(twins, directions["twin"])
        if self.carried:
            cues = cues + named + directions["channel"]
        else:
            questions = questions + named
        for number, one in enumerate(bits):
            bit = f"bit{number}"
            if bit in moved or bit not in look_ups(self.site, self.plan, size.layers):
                word = cues if bit in moved else questions
                word += STRENGTH * np.outer(one, directions[bit])
        answers = (noise(size.questions) + 2 * directions["end"])[:, None].repeat(size.answers, axis=1)
        answers = answers + self._marks(bits[0])
        parts = [noise(len(SPECIAL)), questions, answers.reshape(-1, size.width), *([cues] if is_cued(self.site) else [])]
        return np.concatenate(parts)

    def _marks(self, bits: Array) -> Array:
        """[n_questions, n_answers, width], what tells wanted answers from others: the truth, or two marks whose product it is."""
        truth = -np.ones((self.size.questions, self.size.answers))
        truth[np.arange(len(truth)), np.where(bits > 0, 0, 1)] = 1.0
        if not (self.site == "resid" and self.plan.decoys):
            return truth[..., None] * self.directions["truth"]
        one = self.rng.choice([-1.0, 1.0], size=truth.shape)
        return one[..., None] * self.directions["mark0"] + (one * truth)[..., None] * self.directions["mark1"]


def entering_mlps(model: Any, prompts: list[list[int]], layer: int) -> Array:
    """What enters a layer's MLP at the last token of every prompt, [n, width]."""
    seen: list[torch.Tensor] = []
    handle = model.model.layers[layer].mlp.register_forward_pre_hook(lambda _, args: seen.append(args[0][:, -1].detach().clone()))
    with torch.no_grad():
        model.model(torch.tensor(prompts), use_cache=False)
    handle.remove()
    array: Array = seen[0].numpy()
    return array
