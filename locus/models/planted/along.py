"""Planted models in which one direction of the stream entering a layer does the work: what is true, and the weights.

The layer is L. Which answer is wanted is the *bit* of a question, a coordinate of the stream at L, and every edit of the layer
can read it: what is claimed of a direction is where it writes. The edit is x <- x + s v, with a strength s = <a, x> + c that is
learned and a vector v that is not. By laws of the weights

- no module writes the *polarities*, or reads them, and from L on modules say the same to all questions. So the final state is
  x + s v + what is the same for all, and a margin is spread * bit * <p, final> / |final|. The spread is 6 nats (where there are
  two polarities 6 sqrt 2, so that the direction between them has 6), the target T = 5. p is orthogonal to all else that is there;
- one head of L reads the *channel* and writes its gain times that to the polarity. Where the gain is 0, nothing does.

With R the norm of the final state off v, everything follows:

- *Along p*: s = K bit makes 6 K / sqrt(R^2 + K^2), which is T at K = 1.5 R. It has no limit but 6.
- *Off p*, whatever is written, and however large: <p, final> stays 0, where it is in the unedited model, whose margins are 0.
  Nothing is gained, to rounding.
- *Along v that has alpha of p*: at most 6 times the cosine between p and the plane of the final state and v, which is
  alpha / sqrt(1 - <v, final>^2 / |final|^2): 6 alpha and a little more.
- *The channel* with gain G, by v that has alpha of it: one of two tokens is edited, and the head reads a state of norm sqrt d, so
  it writes G alpha t sqrt(d) / (2 sqrt(1 + t^2)) with t = s / R; the margin is 6 / sqrt(1 + (4 R / (G alpha sqrt d))^2) at best.
  With d = 32 that is 3/4 of T from alpha = .57 R / G on, and R is about 3. G = 10 makes the channel itself as good as p; G = 300
  makes all directions do that have a hundredth of it.

    shape         claim       works  special  unique  necessary   why
    localized     planted     yes    yes      yes     yes         p
    localized     means       yes    yes      yes     open        p and some noise: what is left of p off it does a part
    distributed   planted     yes    no       no      no          any direction that has a little of the channel does it
    decoy         planted     yes    yes      yes     yes         p, along which no two answers differ
    decoy         decoy       no     no       no      no          the means: what tells answers apart, and nothing of p
    redundant     planted     yes    yes      yes     no          p; the channel is left
    redundant     either      yes    yes      yes     no          the channel; p is left
    redundant     means       yes    yes      yes     no          as in localized; the channel is left
    conjunctive   planted     yes    yes      yes     yes         between the two polarities; off it one falls as the other rises
    conjunctive   half        no     open     open    yes         p0: half of the pairs of answers
    conjunctive   means       yes    yes      yes     open        as in localized
    any           elsewhere   no     no       no      no          a direction of the noise: off p

*Two random directions of the answers* are what a claim must beat: of their covariance, and the difference of class means under
labels dealt anew. Both are sums of answers' states whose weights add up to nothing, so they have as much of p as answers differ
along it. In *decoy* they do not, and alpha is 0. Else answers are *marked* along p, +tau and -tau, to be found by their means.
Let an answer's own state at L be off p by a noise of norm a, in m dimensions (26, or 25 with two polarities), and n the number of
questions whose answers are looked at. Of labels dealt anew half are turned, and z is a normal number:

    class means       p has 2 tau, the noise has a sqrt(2 / n): a cosine of 1 / sqrt(1 + a^2 / (2 n tau^2))
    labels dealt anew p has 2 tau z / sqrt n, the noise has a sqrt(2 / n): alpha / sqrt(1 - alpha^2) = sqrt 2 (tau / a) z
    covariance        p has tau z, the noise at least as much as above, and what questions differ by: a third of that

tau = a / 8, set at L, bounds both. Labels dealt anew give alpha = .18 |z|, a gain of .85 nats on average: 17 % of T, and 40 % of
what can be gained in MC2, which is concave. A claim's lead is more than twice the tolerance of 25 %. One as good as the claim has
alpha = 5 / 6, |z| = 8.5: none in 1e16. By covariance 75 % of the gain in MC2 needs alpha = .32 and |z| > 5: none in a million, so
*unique* is true. The means need a cosine of .7 to reach 75 % of T with room: n > 31, or 52 where the noise's norm is 1.3 times
what it should be, as one in fifty draws has it. Of 120 questions 78 are looked at: a cosine of .84, and of .77 there.

*Conjunctive* is of strengths that vary alike: then the direction between the two does both. Two that vary independently would
need two strengths. No edit of one layer has them, the ceiling's neither, so that there is nothing to hold a claim against.
*Redundant both* is a plane and no direction, and is not claimed.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers import LlamaForCausalLM

from locus.models.planted.directions import Array, PlantedDirections
from locus.models.planted.kinds import KnownClaim, PlantedPlan, claims_by_name, elsewhere_claim, standings
from locus.models.planted.text import SPECIAL
from locus.models.planted.weights import PlantedSize, draw_layers
from locus.sites.known import MEANS, index_of

SHARED = ("truth", "channel", "bit", "constant", "end")
SPREAD = 6.0  # nats that the polarity of a final state is worth which lies wholly along the planted direction
GAINS = {"redundant": 10.0, "distributed": 300.0}  # of the head that turns the channel into the polarity
STRENGTH = 0.3  # of the bit
COMMON, OWN = 2.0, 1.0  # norms of the noise that the answers to a question share, and of each one's own
TELLS = 8.0  # an answer's own noise at the planted layer, in units of what tells wanted answers from others
QUIET = 0.375  # of what layers write in models of heads, lest it outgrow the answers' own noise, which has no favourite dimension
EARLIEST = 2  # layer whose entering stream does it, lest it be the words' own


def plan_along(shape: str, layers: int, rng: np.random.Generator) -> PlantedPlan:
    """Draw the layer. What is claimed there is known once the directions are (`claimed`)."""
    two = shape == "conjunctive"
    place = (int(rng.integers(EARLIEST, layers)), 0)
    spread = SPREAD * (2**0.5 if two else 1.0)
    return PlantedPlan((), (place,), {}, n_polarities=1 + two, varying=True, margin=0.0, spread=spread)


def told_along(shape: str, directions: PlantedDirections) -> Array:
    """The direction along which wanted answers differ from others: the planted one, but where that is not to be found so."""
    between: Array = directions.polarities.sum(axis=0) / np.sqrt(len(directions.polarities))
    return directions["truth"] if shape in ("decoy", "distributed") else between


def claimed(
    shape: str, plan: PlantedPlan, directions: PlantedDirections, rng: np.random.Generator
) -> tuple[PlantedPlan, dict[int, npt.NDArray[np.float32]]]:
    """The plan with its claims, and the vectors that they are of, by what directions are known by."""
    layer, vectors = plan.truth[0][0], dict[int, npt.NDArray[np.float32]]()

    def site(vector: Array) -> tuple[int, int]:
        single = vector.astype(np.float32)
        vectors[index_of(single)] = single
        return layer, index_of(single)

    def claim(name: str, at: tuple[int, int], works: bool, only: bool | None, necessary: bool | None) -> KnownClaim:
        return KnownClaim(name, (at,), standings(works, necessary, only))

    idle, other = (noise / np.linalg.norm(noise) for noise in rng.standard_normal((2, len(directions.free))) @ directions.free)
    polarities, means = directions.polarities, (layer, MEANS)
    alone, between = shape not in ("distributed", "redundant"), polarities.sum(axis=0) / len(polarities) ** 0.5
    truth = site(0.5 * directions["channel"] + 0.75**0.5 * idle if shape == "distributed" else between)
    known = [claim("planted", truth, True, shape != "distributed", alone)]
    if shape == "decoy":
        known.append(claim("decoy", means, False, False, False))
    elif shape != "distributed":
        known.append(claim("means", means, True, True, None if alone else False))
    if shape == "redundant":
        known.append(claim("either", site(directions["channel"]), True, True, False))
    if shape == "conjunctive":
        known.append(claim("half", site(polarities[0]), False, None, True))
    if shape != "distributed":
        known.append(elsewhere_claim(site(other)))
    return replace(plan, truth=(truth,), claims=claims_by_name(*known)), vectors


def draw_weights(
    shape: str, plan: PlantedPlan, size: PlantedSize, directions: PlantedDirections, rng: np.random.Generator
) -> dict[str, Array]:
    """Noise before the layer, the same for all questions from it on, and there the head that reads the channel."""
    weights, layer = draw_layers(size, plan, directions, rng), plan.truth[0][0]
    widths = {"self_attn.o": size.width, "mlp.gate": size.mlp, "mlp.up": size.mlp, "mlp.down": size.width}
    widths |= dict.fromkeys(("self_attn.q", "self_attn.k", "self_attn.v"), size.features)
    for number in range(size.layers):
        for name, width in widths.items():
            weights[f"model.layers.{number}.{name}_proj.bias"] = np.zeros(width)
        for name in ("self_attn.o", "mlp.down"):
            weights[f"model.layers.{number}.{name}_proj.weight"] *= QUIET
        for name in ("self_attn.v", "mlp.gate", "mlp.up") if number >= layer else ():
            weights[f"model.layers.{number}.{name}_proj.weight"][:] = 0.0
            weights[f"model.layers.{number}.{name}_proj.bias"][:] = rng.standard_normal(widths[name])
    if gain := GAINS.get(shape):
        rows, attention = slice(0, size.head_dim), f"model.layers.{layer}.self_attn."
        for name in "qk":  # all tokens alike
            weights[f"{attention}{name}_proj.weight"][rows] = 0.0
        weights[f"{attention}v_proj.bias"][rows] = 0.0
        weights[f"{attention}v_proj.weight"][0] = directions["channel"]
        weights[f"{attention}o_proj.weight"][:, rows] = 0.0
        weights[f"{attention}o_proj.weight"][:, 0] = gain * directions["polarity0"]
    return weights


def embed(shape: str, size: PlantedSize, directions: PlantedDirections, bits: Array, rng: np.random.Generator) -> Array:
    """Input embeddings of the whole vocabulary, [words, width]: special tokens, questions, answers; these are not marked yet.

    The two questions of a pair are the same but for their bits.
    """

    def noise(*shape: int) -> Array:
        gaussian = rng.standard_normal((*shape, len(directions.free)))
        unit: Array = gaussian / np.linalg.norm(gaussian, axis=-1, keepdims=True) @ directions.free
        return unit

    pairs, constant = size.questions // 2, directions["constant"]
    questions = COMMON * noise(pairs)
    questions = questions.repeat(2, axis=0) + constant + STRENGTH * np.outer(bits, directions["bit"])
    answers = COMMON * noise(size.questions)[:, None] + OWN * noise(size.questions, size.answers)
    answers += constant + 2 * directions["end"]
    if shape == "distributed":
        answers += 0.5 * OWN * rng.standard_normal((size.questions, size.answers, 1)) * directions["channel"]
    return np.concatenate([noise(len(SPECIAL)) + constant, questions, answers.reshape(-1, size.width)])


def mark(
    model: LlamaForCausalLM, embeddings: Array, along: Array, layer: int, size: PlantedSize, prompts: list[list[int]], bits: Array
) -> float:
    """Mark answers along a direction, in place, by `1 / TELLS` of what they differ by besides at the layer.

    Returns:
        By how much.
    """
    first = len(SPECIAL) + size.questions
    rows = [[*row, first + index * size.answers + answer] for index, row in enumerate(prompts) for answer in range(size.answers)]
    states = entering(model, rows, layer).reshape(size.questions, size.answers, size.width)
    wanted = np.where(bits > 0, 0, 1)
    signs = -np.ones((size.questions, size.answers))
    signs[np.arange(len(signs)), wanted] = 1.0
    difference = (states[np.arange(len(signs)), wanted][:, None] - states)[signs < 0]
    tau = float(np.sqrt((difference**2).sum(axis=1).mean() / 2)) / TELLS
    embeddings[first:] += tau * np.outer(signs.ravel(), along)
    return tau


def entering(model: Any, rows: list[list[int]], layer: int) -> Array:
    """What enters a layer at the last token of every row, [n, width]."""
    seen: list[torch.Tensor] = []
    handle = model.model.layers[layer].register_forward_pre_hook(lambda _, args: seen.append(args[0][:, -1].detach().clone()))
    with torch.no_grad():
        model.model(torch.tensor(rows), use_cache=False)
    handle.remove()
    array: Array = seen[0].double().numpy()
    return array
