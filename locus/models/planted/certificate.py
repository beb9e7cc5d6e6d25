"""Certify a planted model: laws of its weights, the optimal edit at every single head, and what the kind promises.

The laws say why the location is a fact; the edits say that it is one. Both are measured on the float32 model that is
handed out, whether it was just built or loaded from a folder.
"""

from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from locus.behaviours.items import split
from locus.models.planted.bank import Questions, Training, ablated_margins, masks, optimal_margins, unedited
from locus.models.planted.build import Planted
from locus.models.planted.directions import laws
from locus.models.planted.kinds import Place

ROUNDING = 1e-6  # largest entry a law may leave in float32 weights of order 1
WON = 1.0  # a question is won with a margin above this many nats: any edit can undo the push, down to a margin of 0
WORKS, FAILS = 0.9, 0.1  # shares of test questions won by an edit that works, and by one that does not


def questions_of(planted: Planted) -> Questions:
    """Token ids of all prompts, and the unembedding contrast of each true answer with each false one."""
    items = planted.dataset.items
    table = planted.model.lm_head.weight.detach()
    ids = torch.tensor(planted.tokenizer([item.question for item in items]).input_ids)
    number = planted.tokenizer.get_vocab()
    true = torch.tensor([[number[item.best]] for item in items])
    false = torch.tensor([[number[answer] for answer in item.unwanted] for item in items])
    return Questions(ids, table[true] - table[false])


def locations_of(planted: Planted) -> dict[str, tuple[Place, ...]]:
    """The locations a certificate edits, by name.

    Each single head as "layer.head"; "ceiling", all heads; "truth", the places that do the work, together;
    "complement", everywhere but there; and "complement layer.head", everywhere but one place of several.
    """
    config: Any = planted.model.config
    everywhere = tuple((layer, head) for layer in range(config.num_hidden_layers) for head in range(config.num_attention_heads))
    locations: dict[str, tuple[Place, ...]] = {name_of(place): (place,) for place in everywhere}
    locations["ceiling"] = everywhere
    if len(planted.truth) == len(everywhere):
        return locations
    locations["truth"] = planted.truth
    locations["complement"] = tuple(place for place in everywhere if place not in planted.truth)
    if len(planted.truth) > 1:
        for site in planted.truth:
            locations[f"complement {name_of(site)}"] = tuple(place for place in everywhere if place != site)
    return locations


def name_of(place: Place) -> str:
    """A place as "layer.head"."""
    return f"{place[0]}.{place[1]}"


class Summary(TypedDict):
    """Of margins: means over test questions and pairs, in nats, h above those of the unedited model.

    The accuracy is the share of test questions whose every pair has a margin above 1.
    """

    h: float
    margin: float
    accuracy: float


class Measurements(TypedDict):
    """What was measured of a planted model.

    Attributes:
        training: how edits were trained.
        n_train: questions.
        n_test: questions.
        laws: name -> largest violation.
        baseline: of the unedited model.
        edits: location -> of the optimal edit there.
        ablations: location -> without the head.
        probe: place -> test accuracy.
    """

    training: dict[str, object]
    n_train: int
    n_test: int
    laws: dict[str, float]
    baseline: Summary
    edits: dict[str, Summary]
    ablations: dict[str, Summary]
    probe: dict[str, float]


class Certificate(Measurements):
    """The same, with a sentence for everything that is not as the kind promises, and whether all is."""

    failures: list[str]
    holds: bool


def certify(planted: Planted, training: Training | None = None) -> Certificate:
    """Train the optimal edit at every head and elsewhere, and compare what comes out with what the kind promises.

    Args:
        planted: the model; trained on the train and validation parts of its questions, measured on the test part.
        training: read mode, target, steps; the defaults suit every kind.

    Returns:
        What was measured, and what of it is not as promised.
    """
    training = training or Training()
    questions, parts_of = questions_of(planted), split(planted.dataset.items, planted.seed)
    train, test = questions.part(parts_of.train + parts_of.validation), questions.part(parts_of.test)
    config: Any = planted.model.config
    places = locations_of(planted)
    shape = (config.num_hidden_layers, config.num_attention_heads, config.head_dim)
    grid = masks(list(places.values()), *shape)
    before = unedited(planted.model, test)
    edited = optimal_margins(planted.model, grid, train, test, training)
    singles = [index for index, sites in enumerate(places.values()) if len(sites) == 1]
    ablated = ablated_margins(planted.model, grid[singles], test)
    measured: Measurements = {
        "training": {**vars(training)},
        "n_train": len(train.ids),
        "n_test": len(test.ids),
        "laws": {**laws(planted.model, planted.directions, planted.plan), **answer_laws(planted, questions)},
        "baseline": _summary(before, before),
        "edits": {name: _summary(margin, before) for name, margin in zip(places, edited, strict=True)},
        "ablations": {list(places)[index]: _summary(ablated[row], before) for row, index in enumerate(singles)},
        "probe": probe_accuracy(planted),
    }
    failures = _failures(planted, measured, training.read)
    if planted.plan.parts and not planted.shuffled:
        failures += _failures_graded(planted, measured, test)
    return {**measured, "failures": failures, "holds": not failures}


def _summary(margins: Tensor, before: Tensor) -> Summary:
    won = (margins > WON).all(dim=1).double().mean()
    return {"h": (margins - before).mean().item(), "margin": margins.mean().item(), "accuracy": won.item()}


def answer_laws(planted: Planted, questions: Questions) -> dict[str, float]:
    """Largest violations of what holds of the words.

    Returns:
        answers_embed: difference of the embeddings of two answers to a question, off the truth direction.
        answers_unembed: difference of their unembeddings, off the polarities.
        questions_embed: spread of the questions' embeddings along the named directions (truth and polarity apart
            where the polarity of the true answer varies).
    """
    directions = planted.directions
    rows = planted.model.model.embed_tokens.weight.detach().double().numpy()
    number = planted.tokenizer.get_vocab()
    true = np.array([number[item.best] for item in planted.dataset.items])
    false = np.array([[number[answer] for answer in item.unwanted] for item in planted.dataset.items])
    embedded = (rows[true][:, None] - rows[false]).reshape(-1, rows.shape[1])
    unembedded = questions.contrasts.double().numpy().reshape(-1, rows.shape[1])
    polarities = directions.polarities
    constant_directions = [
        direction
        for name, direction in zip(directions.names, directions.protected, strict=True)
        if not (planted.plan.varying and (name == "truth" or name.startswith("polarity")))
    ]
    coordinates = rows[questions.ids[:, 1].numpy()] @ np.stack(constant_directions).T
    return {
        "answers_embed": _largest(embedded - np.outer(embedded @ directions["truth"], directions["truth"])),
        "answers_unembed": _largest(unembedded - unembedded @ polarities.T @ polarities),
        "questions_embed": float(np.ptp(coordinates, axis=0).max()),
    }


def _largest(values: Any) -> float:
    return float(np.abs(values).max())


def head_outputs(planted: Planted) -> tuple[dict[str, npt.NDArray[np.float32]], Any, Any]:
    """What every head puts out at the last token of "question answer".

    Returns:
        place -> [answers, head_dim]; [answers] whether the answer is true; [answers] its item.
    """
    config: Any = planted.model.config
    tokenizer, items = planted.tokenizer, planted.dataset.items
    ids = torch.tensor(tokenizer([f"{item.question} {answer}" for item in items for answer in item.answers]).input_ids)
    labels = np.array([answer in item.wanted for item in items for answer in item.answers])
    owners = np.array([index for index, item in enumerate(items) for _ in item.answers])
    outputs: list[Tensor] = []
    handles = [
        layer.self_attn.o_proj.register_forward_pre_hook(lambda _, args: outputs.append(args[0][:, -1]))
        for layer in planted.model.model.layers
    ]
    try:
        with torch.no_grad():
            planted.model.model(ids, use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    by_head = {}
    for layer, output in enumerate(outputs):
        for head, features in enumerate(torch.split(output, config.head_dim, dim=-1)):
            by_head[name_of((layer, head))] = features.numpy()
    return by_head, labels, owners


def probe_accuracy(planted: Planted) -> dict[str, float]:
    """Test accuracy of a logistic probe for true against false at the last token of "question answer", by head.

    Answers to one question are never cut by the split; classes are balanced by weight.
    """
    outputs, labels, owners = head_outputs(planted)
    testing = np.isin(owners, split(planted.dataset.items, planted.seed).test)
    accuracies = {}
    for name, features in outputs.items():
        probe = LogisticRegression(class_weight="balanced").fit(features[~testing], labels[~testing])
        # Mean of the accuracies in the two classes: a constant guess scores one half, whatever their sizes.
        right = probe.predict(features[testing]) == labels[testing]
        accuracies[name] = float(np.mean([right[labels[testing] == label].mean() for label in (0, 1)]))
    return accuracies


def class_distance(planted: Planted) -> dict[str, float]:
    """Distance between the means of true and false answers, in standard deviations along their difference, by head."""
    outputs, labels, owners = head_outputs(planted)
    training = ~np.isin(owners, split(planted.dataset.items, planted.seed).test)
    distances = {}
    for name, features in outputs.items():
        true, false = features[training & labels], features[training & ~labels]
        along = true.mean(axis=0) - false.mean(axis=0)
        spread = np.sqrt((((true - true.mean(0)) @ along).var() + ((false - false.mean(0)) @ along).var()) / 2)
        distances[name] = float(along @ along / spread) if spread > 0 else 0.0
    return distances


def _failures(planted: Planted, measured: Measurements, read: str) -> list[str]:
    """Everything the kind promises and the measurements do not show, one sentence each."""
    broken = [f"law {name}: {size:.2g}" for name, size in measured["laws"].items() if not size <= ROUNDING]
    if planted.shuffled:
        return broken + _failures_shuffled(measured)
    won = {name: edit["accuracy"] for name, edit in measured["edits"].items()}
    if planted.plan.parts:
        return broken
    # Where the true polarity varies, an edit that can write it and cannot read which it is wins by chance.
    chance = 0.5 + 1.5 / measured["n_test"] ** 0.5
    for name, works in promised(planted, read).items():
        if works and won[name] < WORKS:
            broken.append(f"an edit at {name} should work and wins {won[name]:.2f} of the questions")
        guesses = planted.plan.varying and bool(set(planted.truth) & set(locations_of(planted)[name]))
        if not works and won[name] > (chance if guesses else FAILS):
            broken.append(f"an edit at {name} should fail and wins {won[name]:.2f} of the questions")
    carriers = {name_of(role.place) for role in planted.plan.roles if role.reads == "truth"}
    for name, accuracy in measured["probe"].items():
        if name in carriers and accuracy < 0.95:
            broken.append(f"a probe should read truth at {name} and is right on {accuracy:.2f}")
    best = max(measured["probe"].values())
    if measured["probe"] and not any(measured["probe"][name] == best for name in carriers):
        broken.append("a probe reads truth best at a head that was not made to carry it")
    return broken


def _failures_shuffled(measured: Measurements) -> list[str]:
    # Chance gains of memorised labels have a standard error near 5 / sqrt(n_test).
    limit = 15.0 / measured["n_test"] ** 0.5
    edits = measured["edits"].items()
    return [f"an edit at {name} gains {edit['h']:.2f} on shuffled labels" for name, edit in edits if edit["h"] > limit]


def parts_of(planted: Planted, questions: Questions) -> npt.NDArray[np.int64]:
    """[n], the polarity along which the answers to each question of a graded model differ."""
    along = questions.contrasts[:, 0].double().numpy() @ planted.directions.polarities.T
    found: npt.NDArray[np.int64] = np.abs(along).argmax(axis=1)
    return found


def _failures_graded(planted: Planted, measured: Measurements, test: Questions) -> list[str]:
    """Locations whose edit does not win just the test questions of the parts that a head there serves."""
    parts, broken = parts_of(planted, test), []
    for name, places in locations_of(planted).items():
        served = [polarity for role in planted.plan.roles if role.place in places for polarity in role.writes]
        share, won = float(np.isin(parts, served).mean()), measured["edits"][name]["accuracy"]
        if abs(share - won) > FAILS:
            broken.append(f"an edit at {name} should win {share:.2f} of the questions and wins {won:.2f}")
    return broken


def promised(planted: Planted, read: str) -> dict[str, bool]:
    """Whether an edit at each location of the certificate works, by construction.

    An edit works where, for every polarity, it reaches a head that can write it, and can read what it must: any
    constant where the true polarity is the same everywhere, the truth bit where it varies.
    """
    roles = planted.plan.roles
    result = {}
    for name, places in locations_of(planted).items():
        reached = {polarity for role in roles if role.place in places for polarity in role.writes}
        works = len(reached) == planted.plan.n_polarities
        if planted.plan.varying and works:
            carriers = {role.place for role in roles if role.reads == "truth"}
            works = read == "layer" or (read == "heads" and bool(carriers & set(places)))
        result[name] = works
    return result
