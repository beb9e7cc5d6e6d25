"""Build a planted model from its kind and seed: draw places and weights, set the natural push, write the vocabulary.

The same kind, sizes and seed give bit-equal weights: everything is drawn from one generator, worked out in float64
and rounded to float32 once, at the end.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from locus.behaviours.items import Dataset
from locus.errors import UserError
from locus.models.planted.directions import Array, PlantedDirections, draw_directions
from locus.models.planted.graded import graded_plan, percent_of
from locus.models.planted.kinds import KINDS, MARGIN, SPREAD, KnownClaim, Place, PlantedPlan, plan
from locus.models.planted.sited import site_of
from locus.models.planted.text import SPECIAL, make_dataset, make_tokenizer
from locus.models.planted.weights import PlantedSize, draw_embeddings, draw_layers, plant_role
from locus.records.base import JsonObject
from locus.sites.site import Location, Site

OWN_LOGIT = 12.0  # mean logit of a question's own answers, to which the polarity adds
END_LOGIT = 20.0  # mean logit of the end-of-text token after an answer
__all__ = ["MARGIN", "SPREAD", "Planted", "build"]
BOS, EOS = SPECIAL.index("<s>"), SPECIAL.index("</s>")


@dataclass(frozen=True)
class Planted:
    """A model whose true location is known by construction.

    Attributes:
        kind: one of `kinds.KINDS`, graded-PERCENT, or one of `sited.SITED`.
        seed: what everything was drawn from.
        shuffled: whether the labels of true and false were shuffled, so that no edit can generalise.
        model: float32, evaluation mode.
        tokenizer: one token a word; prompts are "{question}" and texts "{question} {answer}".
        dataset: its questions; the unedited model prefers the false answer to every one, unless labels are shuffled.
        truth: the places that do the work: layer, and head or neuron of it, or 0.
        claims: what is known of claims, by name; "planted" always exists.
        plan: the roles of its heads.
        directions: the named directions of its residual stream.
        certificate: what `certify` measured; empty until then.
        vectors: of a model of directions, what its claims' places stand for: unit vectors, [width], by the number of the place.
    """

    kind: str
    seed: int
    shuffled: bool
    model: LlamaForCausalLM
    tokenizer: PreTrainedTokenizerFast
    dataset: Dataset
    truth: tuple[Place, ...]
    claims: dict[str, KnownClaim]
    plan: PlantedPlan
    directions: PlantedDirections
    certificate: JsonObject = field(default_factory=dict)
    vectors: dict[int, npt.NDArray[np.float32]] = field(default_factory=dict)

    @property
    def expected(self) -> dict[str, str]:
        """Question (works, special, unique, necessary) -> standing of the claim "planted"."""
        return self.claims["planted"].expected

    @property
    def site(self) -> str:
        """The kind of its places."""
        return site_of(self.kind)

    @property
    def everywhere(self) -> bool:
        """Whether every site does a share of the work."""
        return self.kind.endswith("distributed")

    @property
    def where(self) -> Location:
        """The places that do the work, which print as their kind writes them: mlp.7."""
        return self.located(self.truth)

    def located(self, places: Iterable[Place]) -> Location:
        """Places of the model's kind of site, such as those of a claim."""
        return Location.of(Site(self.site, *place) for place in places)


def build(
    kind: str,
    seed: int,
    *,
    width: int = 64,
    layers: int = 4,
    heads: int = 8,
    n_questions: int = 160,
    shuffled: bool = False,
) -> Planted:
    """Draw a planted model.

    Args:
        kind: one of `kinds.KINDS`, or graded-PERCENT.
        seed: of everything; the shuffled-label twin of a seed has the same weights.
        width: of the residual stream, at least 16; a head has width // heads features, and at least 4.
        layers: at least 2.
        heads: query heads a layer, at least 2.
        n_questions: at least 10; many more than edits can memorise is better.
        shuffled: whether to shuffle which answer is called true.

    Raises:
        UserError: if the kind is unknown or a size is too small.
    """
    if width < 16 or n_questions < 10:
        raise UserError(
            "a width of at least 16 and at least 10 questions", f"{width} and {n_questions}", "Ask for a larger model."
        )
    # One child of the seed for each thing that is drawn, so that asking for shuffled labels moves nothing else.
    places, shapes, labels = (np.random.default_rng(child) for child in _seeds(kind, seed))
    percent = percent_of(kind)
    plan_ = plan(kind, layers, heads, places) if percent is None else graded_plan(percent, layers, heads, places)
    n_answers = 2 if plan_.parts else plan_.n_polarities + 1
    head_dim = max(4, width // heads // 2 * 2)
    size = PlantedSize(width, layers, heads, head_dim, width, n_questions, n_answers)
    bits = np.ones(n_questions)
    if plan_.varying:
        bits[places.permutation(n_questions)[: n_questions // 2]] = -1.0
    if width < plan_.n_polarities + 16:
        raise UserError(f"a width of at least {plan_.n_polarities + 16} for {kind}", str(width), "Ask for a larger model.")
    directions = draw_directions(width, plan_.n_polarities, shapes)
    model = _draw_model(size, plan_, directions, bits, _differences(plan_, size, places), shapes)
    name = f"planted-{kind}{'-shuffled' if shuffled else ''}-{seed}"
    dataset = make_dataset(name, bits, n_answers, shuffled, labels)
    claims = {name: invalid(claim) for name, claim in plan_.claims.items()} if shuffled else plan_.claims
    tokenizer = make_tokenizer(n_questions, n_answers)
    return Planted(kind, seed, shuffled, model, tokenizer, dataset, plan_.truth, claims, plan_, directions)


def _seeds(kind: str, seed: int) -> list[np.random.SeedSequence]:
    percent = percent_of(kind)
    named = [KINDS.index(kind) if kind in KINDS else len(KINDS)]
    return np.random.SeedSequence([seed, *named, *([] if percent is None else [percent])]).spawn(3)


def _differences(plan_: PlantedPlan, size: PlantedSize, rng: np.random.Generator) -> Array:
    """[n_questions, n_answers, n_polarities], the sign of every polarity in the unembedding of a question's answers.

    Adding g (p0 + p1) to "upper" and turning the sign of one for each other answer makes every pair differ by 2g along one
    polarity. A question of a part has two answers, which differ by 2g along the polarity of its part.
    """
    if not plan_.parts:
        signs = np.ones((size.answers, plan_.n_polarities))
        signs[np.arange(1, size.answers), np.arange(size.answers - 1)] = -1.0
        return np.broadcast_to(signs, (size.questions, *signs.shape))
    signs = np.zeros((size.questions, size.answers, plan_.n_polarities))
    cuts = np.round(np.cumsum(plan_.parts) * size.questions).astype(int)
    for polarity, questions in enumerate(np.split(rng.permutation(size.questions), cuts[:-1])):
        signs[questions, 0, polarity], signs[questions, 1, polarity] = 1.0, -1.0
    return signs


def invalid(claim: KnownClaim) -> KnownClaim:
    """With shuffled labels even an edit everywhere learns nothing that holds on new questions."""
    return replace(claim, expected=dict.fromkeys(("works", "special", "unique", "necessary"), "invalid"))


def _draw_model(
    size: PlantedSize, plan_: PlantedPlan, directions: PlantedDirections, bits: Array, signs: Array, rng: np.random.Generator
) -> LlamaForCausalLM:
    weights = draw_layers(size, plan_, directions, rng)
    carriers = [plant_role(weights, role, size, directions, rng)[0] for role in plan_.roles]
    questions, answers = draw_embeddings(size, plan_, directions, bits, rng)
    vocabulary = len(SPECIAL) + size.questions * (1 + size.answers)
    unnamed = rng.standard_normal((len(SPECIAL), len(directions.free))) @ directions.free
    embeddings = np.concatenate([unnamed + directions["constant"], questions, answers.reshape(-1, size.width)])
    weights["model.embed_tokens.weight"] = embeddings
    weights["lm_head.weight"] = np.zeros((vocabulary, size.width))
    model = empty_model(size, vocabulary)
    _settle(model, weights, size, plan_, directions, bits, carriers)
    write_vocabulary(model, weights, size, directions, plan_.spread * signs, _prompts(size))
    assign(model, weights)
    single: Any = model
    finished: LlamaForCausalLM = single.float().eval()
    return finished


def empty_model(size: PlantedSize, vocabulary: int, biased: bool = False) -> LlamaForCausalLM:
    """A model of a size in float64, with biases or without; its weights are still to be assigned."""
    config: Any = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=size.width,
        intermediate_size=size.mlp,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.heads,
        head_dim=size.head_dim,
        max_position_embeddings=64,
        tie_word_embeddings=False,
        attention_bias=biased,
        mlp_bias=biased,
        pad_token_id=SPECIAL.index("<pad>"),
        bos_token_id=BOS,
        eos_token_id=EOS,
        dtype="float32",
    )
    with torch.random.fork_rng(devices=[]):  # its initial weights are thrown away and must not move the caller's draws
        model: Any = LlamaForCausalLM(config)
    double: LlamaForCausalLM = model.double().eval()
    return double


def assign(model: LlamaForCausalLM, weights: dict[str, Array]) -> None:
    """Give a model all its weights."""
    state = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in weights.items()}
    model.load_state_dict(state, strict=True)


def final_states(model: LlamaForCausalLM, rows: list[list[int]]) -> Array:
    """What the vocabulary head sees at the last token of each row, [n_rows, width]."""
    with torch.no_grad():
        states = model.model(torch.tensor(rows), use_cache=False).last_hidden_state[:, -1]
    array: Array = states.numpy()
    return array


def _prompts(size: PlantedSize) -> list[list[int]]:
    return [[BOS, len(SPECIAL) + index] for index in range(size.questions)]


def _settle(
    model: LlamaForCausalLM,
    weights: dict[str, Array],
    size: PlantedSize,
    plan_: PlantedPlan,
    directions: PlantedDirections,
    bits: Array,
    carriers: list[Array],
) -> None:
    """Set the residual path's own polarity and the heads' natural push so that mean margins come out as planned."""

    polarities = directions.polarities

    def margins() -> Array:
        """Mean margin in nats of "upper" against each other answer, signed towards the true one, [n_polarities]."""
        assign(model, weights)
        states = final_states(model, _prompts(size))
        mean: Array = (bits[:, None] * states @ polarities.T).mean(axis=0) * plan_.spread / np.sqrt(size.width)
        return mean

    questions = weights["model.embed_tokens.weight"][len(SPECIAL) : len(SPECIAL) + size.questions]
    if plan_.direct:
        original, coordinate = questions.copy(), 0.1 * np.sign(plan_.direct)
        for _ in range(6):
            questions[:] = original + coordinate * np.outer(bits, directions["polarity0"])
            coordinate *= plan_.direct / margins()[0]
    pushing = [(role, carrier) for role, carrier in zip(plan_.roles, carriers, strict=True) if role.share]
    if not pushing:
        return
    before, strength = margins(), np.full(plan_.n_polarities, 0.1)
    outputs = {layer: weights[f"model.layers.{layer}.self_attn.o_proj.weight"] for layer in range(size.layers)}
    blank = {layer: output.copy() for layer, output in outputs.items()}
    for _ in range(3 if plan_.parts else 6):  # a small push moves margins in proportion
        for layer, output in outputs.items():
            output[:] = blank[layer]
        for role, carrier in pushing:
            assert role.writes, f"{role.place} pushes but can write no polarity"
            start = role.place[1] * size.head_dim
            for polarity in role.writes:
                pushed = role.share * strength[polarity] * np.outer(polarities[polarity], carrier)
                outputs[role.place[0]][:, start : start + size.head_dim] += pushed
        strength *= (plan_.margin - before) / (margins() - before)


def write_vocabulary(
    model: LlamaForCausalLM,
    weights: dict[str, Array],
    size: PlantedSize,
    directions: PlantedDirections,
    spreads: Array,
    prompts: list[list[int]],
) -> None:
    """Unembeddings: a question's answers share a free direction and differ by the polarities alone.

    The shared direction is where the unedited model's own final state points, less what all questions have in
    common: of unit vectors a state is closest to its own, so the model's likeliest words are that question's answers.
    """
    assign(model, weights)
    states = final_states(model, prompts) @ directions.free.T
    average = states.mean(axis=0)
    average /= np.linalg.norm(average)
    own = states - np.outer(states @ average, average)
    lengths = np.linalg.norm(own, axis=1)
    shared = own / lengths[:, None] @ directions.free * OWN_LOGIT / lengths.mean()
    polar = 0.5 / np.sqrt(size.width) * spreads @ directions.polarities
    table = weights["lm_head.weight"]
    first = len(SPECIAL) + size.questions
    table[first : first + size.questions * size.answers] = (shared[:, None] + polar).reshape(-1, size.width)
    with_answers = [[*row, first + index * size.answers] for index, row in enumerate(prompts)]
    table[EOS] = END_LOGIT / (final_states(model, with_answers) @ directions["end"]).mean() * directions["end"]
