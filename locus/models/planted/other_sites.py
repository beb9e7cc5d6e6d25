"""Build a planted model for another kind of site than heads (`sited.py`), from its kind and seed, as `build` does for heads."""

from typing import Any

import numpy as np
import numpy.typing as npt
from transformers import LlamaForCausalLM

from locus.models.planted import along
from locus.models.planted.build import BOS, Planted, assign, empty_model, final_states, invalid, write_vocabulary
from locus.models.planted.directions import Array, PlantedDirections, draw_directions
from locus.models.planted.kinds import PlantedPlan
from locus.models.planted.knowing import SHARED, Knowing, draw_bits, entering_mlps, is_cued
from locus.models.planted.neurons import IDLE, plant_neuron, push
from locus.models.planted.sited import N_QUESTIONS, SITED, site_of, sited_plan, widths_of
from locus.models.planted.text import SPECIAL, make_dataset, make_tokenizer
from locus.models.planted.weights import PlantedSize, draw_embeddings, draw_layers


def build_sited(
    kind: str,
    seed: int,
    *,
    layers: int | None = None,
    n_questions: int = N_QUESTIONS,
    shuffled: bool = False,
    turned: tuple[int, ...] = (),
) -> Planted:
    """Draw a planted model of a kind of site.

    Args:
        kind: one of `sited.SITED`.
        seed: of everything; the shuffled-label twin of a seed has the same weights.
        layers: as many as audits need by default, 3 for neurons, 8 for directions and 21 for the others.
        n_questions: at least 10, and even.
        shuffled: whether to shuffle which answer is called true.
        turned: bits to turn in every question, and nothing else: what does not know them stays as it is.

    Raises:
        UserError: if the kind is unknown or a size is too small.
    """
    number = SITED.index(kind) if kind in SITED else len(SITED)
    places, shapes, labels = (np.random.default_rng(one) for one in np.random.SeedSequence([seed, 1000 + number]).spawn(3))
    site, shape = site_of(kind), kind.split("-")[-1]
    widths = widths_of(site, n_questions)
    widths["layers"] = layers or widths["layers"]
    plan = sited_plan(kind, widths["layers"], widths["mlp"], places)
    n_answers, cued = plan.n_polarities + 1, is_cued(site)
    vectors = dict[int, npt.NDArray[np.float32]]()
    size = PlantedSize(**widths, questions=n_questions, answers=n_answers)
    bits = draw_bits(plan.n_polarities, n_questions, places) if plan.varying else np.ones((plan.n_polarities, n_questions))
    if site == "direction":  # the one bit says both: strengths that vary apart would be two
        bits[:] = bits[0]
    bits[list(turned)] *= -1.0
    tokenizer = make_tokenizer(n_questions, n_answers, cued)
    if site == "direction":
        model, directions = _along(shape, size, plan, bits, shapes)
        plan, vectors = along.claimed(shape, plan, directions, shapes)
    elif site == "neuron":
        model, directions = _neurons(size, plan, shapes)
    else:
        model, directions = _knowing(site, size, plan, bits, shapes)
    name = f"planted-{kind}{'-shuffled' if shuffled else ''}-{seed}"
    dataset = make_dataset(name, bits[0], n_answers, shuffled, labels, cued, paired=plan.varying)
    claims = {name: invalid(claim) for name, claim in plan.claims.items()} if shuffled else plan.claims
    return Planted(kind, seed, shuffled, model, tokenizer, dataset, plan.truth, claims, plan, directions, vectors=vectors)


def prompts_of(size: PlantedSize, cued: bool) -> list[list[int]]:
    """Token ids of every question."""
    first, cues = len(SPECIAL), len(SPECIAL) + size.questions * (1 + size.answers)
    return [[BOS, *([cues + index] if cued else []), first + index] for index in range(size.questions)]


def signs_of(bits: Array, answers: int) -> Array:
    """[n_questions, n_answers, n_polarities], the sign of every polarity in the unembedding of a question's answers.

    Of two bits (u, v): the answers are (+, v), (-, v) and (u, -v). The wanted one, (u, v), is the first where u is +1, and
    else the second; it differs from one of the others along the first polarity by 2u, and from the other along the second by 2v.
    """
    n_polarities, n_questions = bits.shape
    signs = np.ones((n_questions, answers, n_polarities))
    signs[:, 1, 0] = -1.0
    if n_polarities == 2:
        u, v = bits
        signs[:, :2, 1], signs[:, 2] = v[:, None], np.stack([u, -v], axis=1)
    return signs


def _knowing(
    site: str, size: PlantedSize, plan: PlantedPlan, bits: Array, rng: np.random.Generator
) -> tuple[LlamaForCausalLM, PlantedDirections]:
    directions = draw_directions(size.width, plan.n_polarities, rng, SHARED)
    knowing, prompts = Knowing(site, plan, size, directions, rng), prompts_of(size, is_cued(site))
    weights = knowing.weights
    weights["model.embed_tokens.weight"] = knowing.embed(bits)
    vocabulary = len(weights["model.embed_tokens.weight"])
    weights["lm_head.weight"] = np.zeros((vocabulary, size.width))
    model = empty_model(size, vocabulary, biased=True)
    for layer, bit in knowing.looked_up():
        one = bits[int(bit.removeprefix("bit"))]
        knowing.plant_look_up(layer)
        assign(model, weights)
        knowing.look_up(layer, bit, entering_mlps(model, prompts, layer), one)
    spreads = plan.spread * signs_of(bits, size.answers)
    return _finished(model, weights, size, directions, spreads, prompts), directions


def _along(
    shape: str, size: PlantedSize, plan: PlantedPlan, bits: Array, rng: np.random.Generator
) -> tuple[LlamaForCausalLM, PlantedDirections]:
    directions, prompts = draw_directions(size.width, plan.n_polarities, rng, along.SHARED), prompts_of(size, False)
    weights = along.draw_weights(shape, plan, size, directions, rng)
    embeddings = along.embed(shape, size, directions, bits[0], rng)
    weights["model.embed_tokens.weight"], weights["lm_head.weight"] = embeddings, np.zeros_like(embeddings)
    model = empty_model(size, len(embeddings), biased=True)
    assign(model, weights)
    along.mark(model, embeddings, along.told_along(shape, directions), plan.truth[0][0], size, prompts, bits[0])
    assign(model, weights)
    return _finished(model, weights, size, directions, plan.spread * signs_of(bits, size.answers), prompts), directions


def _neurons(size: PlantedSize, plan: PlantedPlan, rng: np.random.Generator) -> tuple[LlamaForCausalLM, PlantedDirections]:
    directions = draw_directions(size.width, plan.n_polarities, rng)
    weights = draw_layers(size, plan, directions, rng)
    for role in plan.roles:
        plant_neuron(weights, role, size, directions)
    questions, answers = draw_embeddings(size, plan, directions, np.ones(size.questions), rng)
    vocabulary, prompts = len(SPECIAL) + size.questions * (1 + size.answers), prompts_of(size, False)
    unnamed = rng.standard_normal((len(SPECIAL), len(directions.free))) @ directions.free + directions["constant"]
    weights["model.embed_tokens.weight"] = np.concatenate([unnamed, questions, answers.reshape(-1, size.width)])
    weights["lm_head.weight"] = np.zeros((vocabulary, size.width))
    model = empty_model(size, vocabulary)
    pushing, strength = [role for role in plan.roles if role.share], np.full(plan.n_polarities, 0.01)
    idle = {role.place: 0.0 if len(plan.roles) < size.layers * size.mlp else IDLE * (-1) ** role.place[1] for role in plan.roles}
    for _ in range(6):  # a small push moves margins in proportion
        for role in pushing:
            push(weights, role, directions, role.share * strength[role.writes[0]], idle[role.place])
        assign(model, weights)
        polar: Array = final_states(model, prompts) @ directions.polarities.T
        strength *= plan.margin / (polar.mean(axis=0) * plan.spread / np.sqrt(size.width))
    spreads = plan.spread * signs_of(np.ones((plan.n_polarities, size.questions)), size.answers)
    return _finished(model, weights, size, directions, spreads, prompts), directions


def _finished(
    model: LlamaForCausalLM,
    weights: dict[str, Array],
    size: PlantedSize,
    directions: PlantedDirections,
    spreads: Array,
    prompts: list[list[int]],
) -> LlamaForCausalLM:
    write_vocabulary(model, weights, size, directions, spreads, prompts)
    assign(model, weights)
    single: Any = model
    finished: LlamaForCausalLM = single.float().eval()
    return finished
