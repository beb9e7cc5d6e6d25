"""Draw the weights of a planted model: noise wherever noise can do no harm, and the planted heads by hand.

Units: the residual stream's RMS norm has unit gains, so a coordinate c of a stream of norm |x| enters a layer as
c * sqrt(width) / |x|. Gains below are chosen for entering coordinates of order 1.
"""

from dataclasses import dataclass

import numpy as np

from locus.models.planted.directions import Array, PlantedDirections
from locus.models.planted.kinds import PlantedPlan, Role

# Coordinates of embeddings before the first norm.
NOISE = 2.0  # norm of the free part, different for each question and each question's answers
PUSHED = 0.8  # norm that all heads of a layer together add to the stream, about; the MLP adds as much
ATTENTION = 3.0  # score by which a planted head prefers its key to no key, in the first layer


@dataclass(frozen=True)
class PlantedSize:
    """Widths: residual stream, layers, query heads, one head, MLP, questions, answers to a question."""

    width: int
    layers: int
    heads: int
    head_dim: int
    mlp: int
    questions: int
    answers: int

    @property
    def features(self) -> int:
        """Width of the input of an output projection."""
        return self.heads * self.head_dim


def draw_layers(
    size: PlantedSize, plan: PlantedPlan, directions: PlantedDirections, rng: np.random.Generator
) -> dict[str, Array]:
    """Weights of every layer by their name in the model; natural pushes are left at zero (see `push`).

    Returns:
        state-dict names -> float64 arrays. `heads` of the plan's roles are overwritten by hand.
    """
    weights: dict[str, Array] = {"model.norm.weight": np.ones(size.width)}
    readable, free = directions.readable, directions.free
    for layer in range(size.layers):
        prefix = f"model.layers.{layer}."
        for norm in ("input_layernorm", "post_attention_layernorm"):
            weights[f"{prefix}{norm}.weight"] = np.ones(size.width)

        def reader(rows: int) -> Array:
            projection: Array = rng.standard_normal((rows, len(readable))) @ readable / np.sqrt(size.width)
            return projection

        def writer(columns: int) -> Array:
            scale = PUSHED / np.sqrt(columns * len(free))
            projection: Array = scale * free.T @ rng.standard_normal((len(free), columns))
            return projection

        for name in "qkv":
            weights[f"{prefix}self_attn.{name}_proj.weight"] = reader(size.features)
        weights[f"{prefix}self_attn.o_proj.weight"] = writer(size.features)
        weights[f"{prefix}mlp.gate_proj.weight"] = reader(size.mlp)
        weights[f"{prefix}mlp.up_proj.weight"] = reader(size.mlp)
        # silu(gate) * up of two unit normals has RMS 0.6, which this undoes.
        weights[f"{prefix}mlp.down_proj.weight"] = writer(size.mlp) / 0.6
    return weights


def plant_role(
    weights: dict[str, Array], role: Role, size: PlantedSize, directions: PlantedDirections, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Overwrite one head with its role, in place.

    Within the head, `carrier` holds the bit it reads and `lever` is always zero in the unedited model; noise lives in
    what is left. The output matrix sends the lever to the polarity, where the role can write one, and the carrier
    nowhere: `push` adds the head's natural push.

    Returns:
        carrier, lever: orthonormal, [head_dim] each.
    """
    layer, head = role.place
    rows = slice(head * size.head_dim, (head + 1) * size.head_dim)
    prefix = f"model.layers.{layer}.self_attn."
    frame, _ = np.linalg.qr(rng.standard_normal((size.head_dim, 2)))
    carrier, lever = frame[:, 0], frame[:, 1]
    spared = np.eye(size.head_dim) - np.outer(carrier, carrier) - np.outer(lever, lever)

    # The pair of rotary coordinates that turns slowest, so that attention depends on content and not on position.
    slow = np.zeros(size.head_dim)
    slow[size.head_dim // 2 - 1] = 1.0
    gain = np.sqrt(ATTENTION * np.sqrt(size.head_dim) * 8.0 / size.width)  # a question's squared norm is about 8
    weights[f"{prefix}q_proj.weight"][rows] = gain * np.outer(slow, directions["constant"])
    weights[f"{prefix}k_proj.weight"][rows] = gain * np.outer(slow, directions["key"])
    value = spared @ weights[f"{prefix}v_proj.weight"][rows]
    if role.reads is not None:
        value -= np.outer(value @ directions[role.reads], directions[role.reads])
        value += 3.0 / np.sqrt(size.width) * np.outer(carrier, directions[role.reads])
    weights[f"{prefix}v_proj.weight"][rows] = value
    output = weights[f"{prefix}o_proj.weight"]
    output[:, rows] = output[:, rows] @ (np.eye(size.head_dim) - np.outer(carrier, carrier))
    polarities = directions.polarities
    for polarity in role.writes:
        output[:, rows] += np.outer(polarities[polarity], lever)
    return carrier, lever


def draw_embeddings(
    size: PlantedSize, plan: PlantedPlan, directions: PlantedDirections, bits: Array, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Input embeddings, the residual path's own polarity left at zero.

    A question's answers share one embedding but for truth, so that nothing but truth can tell them apart.

    Args:
        size: widths and counts.
        plan: whether the polarity of the true answer varies by question.
        directions: where the named coordinates lie.
        bits: [n_questions] of +1 and -1, the polarity of the true answer.
        rng: for the free part.

    Returns:
        questions [n_questions, width], answers [n_questions, n_answers, width]; the true answer comes first where
        the bit is +1, and second where it is -1.
    """
    shape = (size.questions, len(directions.free))

    def noise() -> Array:
        gaussian = rng.standard_normal(shape)
        unit: Array = NOISE * gaussian / np.linalg.norm(gaussian, axis=1, keepdims=True) @ directions.free
        return unit

    common = directions["constant"] - directions["belief"]
    truth_signs = bits if plan.varying else -np.ones(size.questions)
    questions = noise() + common + directions["key"] + np.outer(truth_signs, directions["truth"])
    answers = (noise() + common + 2 * directions["key"] + 2 * directions["end"])[:, None].repeat(size.answers, axis=1)
    marks = -np.ones((size.questions, size.answers))
    marks[np.arange(size.questions), np.where(bits > 0, 0, 1)] = 1.0
    return questions, answers + marks[..., None] * directions["truth"]
