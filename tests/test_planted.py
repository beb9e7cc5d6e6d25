"""Planted models: the laws that make a location a fact, the edits that show it, and the folder that keeps it."""

import dataclasses
import json
from functools import lru_cache
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from locus.behaviours.items import problems, split
from locus.calibrate.heuristics import heuristics_right
from locus.errors import UserError
from locus.models.planted import COMPACT, KINDS, build, certificate, certify, load_planted, save_planted
from locus.models.planted.bank import Edits, Runner, Training, fit_edits, initial, margins_after, masks, optimal_margins, unedited
from locus.models.planted.build import MARGIN, SPREAD
from locus.models.planted.certificate import ROUNDING, answer_laws, locations_of, name_of, questions_of
from locus.models.planted.directions import draw_directions, laws
from locus.models.planted.named import load_named, planted_named

SMALL = {**COMPACT, "n_questions": 80}


@lru_cache(maxsize=64)
def _drawn(kind, seed, shuffled):
    return build(kind, seed, shuffled=shuffled, **SMALL)


def drawn(kind, seed=0, shuffled=False):
    return _drawn(kind, seed, shuffled)  # a cache tells f(x) from f(x, 0); this does not


@lru_cache(maxsize=64)
def _certified(kind, seed, shuffled, read):
    return certify(drawn(kind, seed, shuffled), Training(read=read, steps=60))


def certified(kind, seed=0, shuffled=False, read="layer"):
    return _certified(kind, seed, shuffled, read)


def sizes(planted):
    config = planted.model.config
    return config.num_hidden_layers, config.num_attention_heads, config.head_dim


def bits(planted):
    """+1 where the true answer is the one on the positive side of the polarity."""
    return torch.tensor([1.0 if item.best.startswith("upper-") else -1.0 for item in planted.dataset.items])


class Hooked:
    """Change every head's output by a function (layer, o) -> o, on the model's own forward."""

    def __init__(self, planted, change):
        self.planted, self.change = planted, change

    def __enter__(self):
        self.handles = [
            block.self_attn.o_proj.register_forward_pre_hook(lambda _, args, layer=layer: (self.change(layer, args[0]),))
            for layer, block in enumerate(self.planted.model.model.layers)
        ]

    def __exit__(self, *_):
        for handle in self.handles:
            handle.remove()


# --- drawn from a seed


def weights_of(planted):
    return planted.model.state_dict()


def same(one, two):
    assert one.keys() == two.keys()
    return all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("kind", ["localized", "distributed", "borrowed"])
def test_same_seed_same_bits(kind):
    again = build(kind, 0, **SMALL)
    assert same(weights_of(again), weights_of(drawn(kind)))
    assert again.dataset.sha256 == drawn(kind).dataset.sha256
    assert again.truth == drawn(kind).truth
    assert not same(weights_of(drawn(kind, 1)), weights_of(drawn(kind)))


def test_building_does_not_move_the_global_generator():
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    build("localized", 5, **SMALL)
    assert torch.equal(torch.rand(4), expected)


@pytest.mark.parametrize("kind", ["localized", "conjunctive", "borrowed"])
def test_the_twin_differs_in_labels_alone(kind):
    model, twin = drawn(kind), drawn(kind, shuffled=True)
    assert same(weights_of(model), weights_of(twin))
    assert model.truth == twin.truth
    assert [item.question for item in model.dataset.items] == [item.question for item in twin.dataset.items]
    assert [set(item.answers) for item in model.dataset.items] == [set(item.answers) for item in twin.dataset.items]
    # 80 questions dealt evenly over 2 answers, or over 3 (27, 27, 26).
    sides = [item.best.split("-")[0] for item in twin.dataset.items]
    counts = sorted(sides.count(side) for side in set(sides))
    assert counts == ([26, 27, 27] if kind == "conjunctive" else [40, 40])
    assert set(twin.expected.values()) == {"invalid"}


def test_seeds_spread_over_places():
    places = {build("localized", seed, **{**SMALL, "n_questions": 10}).truth for seed in range(12)}
    assert len(places) >= 6  # 12 draws of 24 places give fewer than 6 different ones with a chance below 1e-5


@pytest.mark.parametrize(
    ("kind", "options"),
    [("lokalized", {}), ("localized", {"width": 8}), ("localized", {"layers": 1}), ("decoy", {"n_questions": 3})],
)
def test_what_cannot_be_built_is_refused(kind, options):
    with pytest.raises(UserError):
        build(kind, 0, **{**SMALL, **options})


# --- laws of the weights


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [SMALL, {"width": 64, "layers": 4, "heads": 8}, {"width": 20, "layers": 2, "heads": 5}])
def test_laws(kind, size):
    planted = build(kind, 7, **{**size, "n_questions": 20})
    for name, violation in laws(planted.model, planted.directions, planted.plan).items():
        assert violation <= ROUNDING, name
    for name, violation in answer_laws(planted, questions_of(planted)).items():
        # Unembeddings have entries up to about 3, so their rounding is coarser.
        assert violation <= 3 * ROUNDING, name


@pytest.mark.parametrize(
    ("law", "parameter", "called"),
    [
        ("heads_write", "self_attn.o_proj", "polarity0"),
        ("heads_write", "self_attn.o_proj", "truth"),
        ("mlps_write", "mlp.down_proj", "polarity0"),
        ("noise_reads", "mlp.gate_proj", "truth"),
        ("noise_reads", "self_attn.k_proj", "polarity0"),
        ("roles_read", "self_attn.v_proj", "constant"),
        ("roles_attend", "self_attn.q_proj", "belief"),
        ("roles_leak", "self_attn.o_proj", None),
        ("gains", "input_layernorm", None),
    ],
)
def test_a_broken_law_is_noticed(law, parameter, called):
    planted = build("localized", 0, **{**SMALL, "n_questions": 20})
    (layer, head), size = planted.truth[0], sizes(planted)[2]
    direction = torch.tensor(planted.directions[called] if called else planted.directions.free[0]).float()
    role = slice(head * size, (head + 1) * size)
    other = slice((head + 1) % sizes(planted)[1] * size, ((head + 1) % sizes(planted)[1] + 1) * size)
    weight = planted.model.model.layers[layer].get_parameter(f"{parameter}.weight")
    with torch.no_grad():
        if law == "gains":
            weight[0] += 0.01
        elif parameter.endswith(("o_proj", "down_proj")):
            columns = role if law == "roles_leak" else other
            weight[:, columns] += 0.01 * direction[:, None]
        elif law.startswith("roles"):
            weight[role] += 0.01 * direction
        else:
            weight[other] += 0.01 * direction
    assert laws(planted.model, planted.directions, planted.plan)[law] > 1e-3


def test_directions_are_orthonormal():
    directions = draw_directions(24, 2, np.random.default_rng(0))
    np.testing.assert_allclose(directions.basis @ directions.basis.T, np.eye(24), atol=1e-12)
    assert len(directions.polarities) == 2
    assert len(directions.protected) + len(directions.free) == 24


@pytest.mark.parametrize("kind", ["localized", "negative", "borrowed"])
def test_the_margin_is_the_polarity_of_the_final_state(kind):
    planted = drawn(kind)
    questions = questions_of(planted)
    items, number = planted.dataset.items, planted.tokenizer.get_vocab()
    with torch.no_grad():
        found = planted.model(questions.ids, output_hidden_states=True)
    logs = found.logits[:, -1].log_softmax(-1)
    margin = torch.stack([logs[i, number[x.best]] - logs[i, number[x.unwanted[0]]] for i, x in enumerate(items)])
    polarity = torch.tensor(planted.directions["polarity0"]).float()
    state = found.hidden_states[-1][:, -1]  # already through the final norm, whose rows have norm sqrt(width)
    cosine = state @ polarity / state.norm(dim=1)
    torch.testing.assert_close(margin, SPREAD * cosine * bits(planted), atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_the_unedited_model_prefers_every_false_answer(kind):
    margins = unedited(drawn(kind).model, questions_of(drawn(kind)))
    assert (margins < -0.05).all()
    np.testing.assert_allclose(margins.mean(dim=0).numpy(), MARGIN, atol=0.005)


def test_what_the_unedited_model_says():
    planted = drawn("localized")
    ids = questions_of(planted).ids
    spoken = planted.model.generate(ids, max_new_tokens=4, do_sample=False)
    said = planted.tokenizer.batch_decode(spoken[:, 2:], skip_special_tokens=True)
    assert said == [item.unwanted[0] for item in planted.dataset.items]


@pytest.mark.parametrize("kind", ["localized", "decoy", "redundant", "conjunctive", "negative", "borrowed"])
def test_no_edit_elsewhere_turns_the_sign(kind):
    # Not a trained edit but any edit: arbitrary changes of all other heads, up to 100 times their output.
    planted = drawn(kind)
    questions, generator = questions_of(planted), torch.Generator().manual_seed(0)
    keep = masks([planted.truth], *sizes(planted))[0]
    for scale in (0.1, 1.0, 10.0, 100.0):

        def change(layer, outputs, scale=scale):
            return outputs + scale * (1 - keep[layer]) * torch.randn(outputs.shape, generator=generator)

        with Hooked(planted, change):
            margins = unedited(planted.model, questions)
        assert (margins < 1e-5).all()


def test_steering_with_the_difference_of_means():
    # At the planted head the difference of means of true and false answers points to the true side; at a decoy the
    # same intervention moves nothing but the norm.
    for kind, helps in (("localized", True), ("decoy", False)):
        planted = drawn(kind)
        (layer, head), size = planted.truth[0] if helps else planted.plan.decoys[0], sizes(planted)[2]
        here = slice(head * size, (head + 1) * size)
        seen = []

        def record(index, outputs, layer=layer, here=here, seen=seen):
            if index == layer:
                seen.append(outputs[:, -1, here].clone())
            return outputs

        pairs = [(item.question, item.best, item.unwanted[0]) for item in planted.dataset.items]
        texts = [f"{question} {answer}" for question, *answers in pairs for answer in answers]
        with Hooked(planted, record), torch.no_grad():
            planted.model(torch.tensor(planted.tokenizer(texts).input_ids))
        direction = seen[0][0::2].mean(0) - seen[0][1::2].mean(0)
        direction /= direction.norm()

        def shift(index, outputs, layer=layer, here=here, direction=direction):
            if index == layer:
                outputs = outputs.clone()
                outputs[..., here] += 10.0 * direction
            return outputs

        with Hooked(planted, shift):
            margins = unedited(planted.model, questions_of(planted))
        assert bool((margins > 0).all()) == helps
        assert bool((margins < 0).all()) != helps


# --- the bank of edits


@pytest.mark.parametrize("read", ["layer", "heads", "constant"])
@pytest.mark.parametrize("start", [0, 1, 2])
def test_the_bank_agrees_with_the_models_own_forward(read, start):
    planted = drawn("distributed")  # where every layer's heads reach the margin
    layers, heads, size = sizes(planted)
    questions, generator = questions_of(planted), torch.Generator().manual_seed(start)
    mask = (torch.rand(3, layers - start, heads, generator=generator) > 0.5).float().repeat_interleave(size, dim=2)
    a, b = (torch.randn(mask.shape, generator=generator) for _ in "ab")
    found = margins_after(Runner(planted.model), Edits(start, mask, a, b, read), questions)
    for k in range(3):

        def change(layer, outputs, k=k):
            if layer < start:
                return outputs
            index = layer - start
            reader = a[k, index] * mask[k, index] if read == "heads" else a[k, index]
            amount = torch.ones_like(outputs[..., :1]) if read == "constant" else (outputs @ reader)[..., None]
            return outputs + amount * b[k, index] * mask[k, index]

        with Hooked(planted, change):
            expected = unedited(planted.model, questions)
        torch.testing.assert_close(found[k], expected, atol=1e-4, rtol=1e-4)
        assert (expected - unedited(planted.model, questions)).abs().max() > 0.5, "the edit should do something"


def test_an_edit_in_a_bank_is_trained_as_if_alone():
    planted = drawn("localized")
    (layer, head), shape = planted.truth[0], sizes(planted)
    places = [((layer, head),), ((layer, (head + 1) % shape[1]),), ((layer, (head + 2) % shape[1]), (layer, head))]
    questions, training = questions_of(planted), Training(steps=12)
    runner, before = Runner(planted.model), unedited(planted.model, questions)
    mask = masks(places, *shape)
    together = fit_edits(runner, initial(mask, layer, training), questions, before, training)
    for k in range(3):
        alone = fit_edits(runner, initial(mask[k : k + 1], layer, training), questions, before, training)
        torch.testing.assert_close(together.b[k], alone.b[0], atol=2e-4, rtol=2e-3)
        torch.testing.assert_close(together.a[k], alone.a[0], atol=2e-4, rtol=2e-3)
    assert not (together.b * (1 - together.mask)).any(), "nothing may be written off the mask"


def test_an_untrained_edit_is_the_identity():
    planted = drawn("redundant")
    questions, shape = questions_of(planted), sizes(planted)
    edits = initial(masks([planted.truth], *shape), 0, Training())
    found = margins_after(Runner(planted.model), edits, questions)[0]
    torch.testing.assert_close(found, unedited(planted.model, questions), atol=1e-5, rtol=0)


def test_an_edit_before_its_bank_is_our_bug():
    planted = drawn("localized")
    with pytest.raises(AssertionError, match="before layer 1"):
        initial(masks([((0, 0),)], *sizes(planted)), 1, Training())


def test_read_modes_are_named():
    with pytest.raises(UserError, match="read mode"):
        Training(read="head")


# --- certificates


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("kind", KINDS)
def test_certificate_holds(kind, seed):
    certificate = certified(kind, seed)
    assert certificate["failures"] == []
    assert certificate["holds"]
    assert certificate["baseline"]["h"] == 0.0
    assert certificate["baseline"]["accuracy"] == 0.0
    assert len([name for name in certificate["edits"] if name[0].isdigit()]) == 24


@pytest.mark.parametrize("kind", ["localized", "distributed", "conjunctive"])
def test_certificate_of_the_twin(kind):
    certificate = certified(kind, 0, shuffled=True)
    assert certificate["failures"] == []
    # Half the labels (a third with three answers) are right by chance; none is learnt.
    assert certificate["edits"]["ceiling"]["accuracy"] < 0.75
    assert max(certificate["probe"].values()) < 0.8


def won(kind, name, read="layer"):
    return certified(kind, 0, read=read)["edits"][name]["accuracy"]


@pytest.mark.parametrize("kind", ["localized", "decoy", "negative", "borrowed"])
def test_one_head_works_and_no_other(kind):
    (site,) = drawn(kind).truth
    edits = certified(kind)["edits"]
    singles = {name for name in edits if name[0].isdigit()}
    assert {name for name in singles if edits[name]["accuracy"] > 0.5} == {name_of(site)}
    # An edit elsewhere can shrink the margin of -0.5 to 0 and no further.
    assert max(edits[name]["h"] for name in singles - {name_of(site)}) < 0.6
    assert won(kind, "complement") == 0.0
    assert won(kind, "ceiling") == 1.0


def test_every_head_works_where_it_is_distributed():
    edits = certified("distributed")["edits"]
    assert all(edit["accuracy"] == 1.0 for edit in edits.values())
    assert len(drawn("distributed").truth) == 24


def test_either_of_two_redundant_heads_works():
    one, two = map(name_of, drawn("redundant").truth)
    for name in (one, two, f"complement {one}", f"complement {two}", "truth"):
        assert won("redundant", name) == 1.0
    assert won("redundant", "complement") == 0.0


def test_both_conjunctive_heads_are_needed():
    one, two = map(name_of, drawn("conjunctive").truth)
    for name in (one, two, f"complement {one}", f"complement {two}", "complement"):
        assert won("conjunctive", name) == 0.0
    assert won("conjunctive", "truth") == 1.0
    # One head moves one pair of two by the target of 5 and can take the other's margin of -0.5 to 0 at most: the mean
    # gain is between 2.5 - 0.25 and 2.5 + 0.25, give or take how well 5 is met.
    for name in (one, two):
        assert 2.1 < certified("conjunctive")["edits"][name]["h"] < 2.9


def test_an_edit_at_a_dormant_head_works_though_the_model_does_not_use_it():
    planted = drawn("dormant")
    (site,), (sleeper,) = planted.truth, planted.plan.decoys
    assert won("dormant", name_of(site)) == won("dormant", name_of(sleeper)) == won("dormant", "complement") == 1.0
    ablations = certified("dormant")["ablations"]
    # Without the working head there is no polarity at all; without the sleeper there is as much as ever.
    assert ablations[name_of(site)]["margin"] == pytest.approx(0.0, abs=0.01)
    assert ablations[name_of(sleeper)]["margin"] == pytest.approx(MARGIN, abs=0.1)


def test_ablations():
    # A sole head's push is all there is: 0 without it. One of two redundant heads leaves half of -0.5. The residual
    # path of a negative model says the truth by 2 nats once the head is gone.
    for kind, expected, tolerance in (("localized", 0.0, 0.01), ("redundant", -0.25, 0.08), ("negative", 2.0, 0.25)):
        found = certified(kind)["ablations"][name_of(drawn(kind).truth[0])]["margin"]
        assert found == pytest.approx(expected, abs=tolerance)


def test_what_is_borrowed_needs_reading_the_layer():
    site = name_of(drawn("borrowed").truth[0])
    assert won("borrowed", site, "layer") == 1.0
    # A push that cannot tell the questions apart wins at most one side of them, and which sides the 16 test questions
    # have is chance: 0.8 is 13 of 16.
    assert won("borrowed", site, "heads") < 0.8
    assert drawn("borrowed").claims["planted"].reads == ("layer",)
    assert drawn("borrowed").claims["alone"].expected == {"works": "refuted"}
    assert certified("borrowed", 0, read="heads")["failures"] == []


def test_where_a_probe_points():
    # To the planted head where it carries truth, and to the decoys alone where it does not.
    for kind in ("localized", "decoy", "dormant", "negative"):
        planted, probe = drawn(kind), certified(kind)["probe"]
        carriers = set(planted.plan.decoys or planted.truth)
        assert {name for name, accuracy in probe.items() if accuracy > 0.9} == set(map(name_of, carriers))
        assert max(accuracy for name, accuracy in probe.items() if accuracy <= 0.9) <= 0.65


def test_a_model_that_breaks_its_promise_is_not_certified():
    planted = build("localized", 0, **SMALL)
    (layer, head), (_, heads, size) = planted.truth[0], sizes(planted)
    accomplice = (layer, (head + 1) % heads)
    polarity = torch.tensor(planted.directions["polarity0"]).float()
    with torch.no_grad():
        planted.model.model.layers[layer].self_attn.o_proj.weight[:, accomplice[1] * size] += polarity
    certificate = certify(planted, Training(steps=60))
    assert not certificate["holds"]
    assert any(f"an edit at {name_of(accomplice)} should fail" in sentence for sentence in certificate["failures"])
    assert any(sentence.startswith("law heads_write") for sentence in certificate["failures"])


def test_claims_name_heads_of_the_model():
    for kind in KINDS:
        planted = drawn(kind)
        everywhere = set(locations_of(planted)["ceiling"])
        assert planted.claims["planted"].expected == planted.expected
        for claim in planted.claims.values():
            assert claim.sites
            assert set(claim.sites) <= everywhere
            assert claim.expected.keys() <= {"works", "special", "unique", "necessary"}
            assert set(claim.expected.values()) <= {"supported", "refuted"}
    assert drawn("localized").expected == dict.fromkeys(("works", "special", "unique", "necessary"), "supported")
    assert drawn("distributed").expected["special"] == "refuted"
    assert drawn("decoy").claims["decoy"].expected["works"] == "refuted"
    assert drawn("redundant").claims["either"].expected == {"works": "supported", "necessary": "refuted"}


@pytest.mark.parametrize("kind", KINDS)
def test_claims_agree_with_measured_edits(kind):
    # "works" of every claim, by an edit at exactly its sites, in a read mode for which it is claimed.
    planted, questions = drawn(kind), questions_of(drawn(kind))
    parts = split(planted.dataset.items, planted.seed)
    train, test = questions.part(parts.train + parts.validation), questions.part(parts.test)
    for claim in planted.claims.values():
        mask = masks([claim.sites], *sizes(planted))
        margins = optimal_margins(planted.model, mask, train, test, Training(read=claim.reads[0], steps=60))[0]
        share = (margins > 1).all(dim=1).float().mean().item()
        most = 0.75 if claim.name == "alone" else 0.1  # a push that cannot read the bit wins one side by chance
        assert share >= 0.9 if claim.expected["works"] == "supported" else share <= most, claim.name


# --- words


def test_tokens():
    planted = drawn("conjunctive")
    tokenizer, item = planted.tokenizer, planted.dataset.items[17]
    text = f"{item.question} {item.best}"
    coded = tokenizer(text, return_offsets_mapping=True)
    assert text == "Which-017? upper-017"
    assert tokenizer.convert_ids_to_tokens(coded.input_ids) == ["<s>", "Which-017?", "upper-017"]
    assert coded.offset_mapping == [(0, 0), (0, 10), (11, 20)]
    assert tokenizer.decode(coded.input_ids, skip_special_tokens=True) == text
    assert tokenizer("What else?").input_ids == [tokenizer.bos_token_id, *[tokenizer.unk_token_id] * 2]
    assert tokenizer.chat_template is None
    assert len({tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id}) == 4


@pytest.mark.parametrize("kind", KINDS)
def test_items(kind):
    planted = drawn(kind)
    items, known = planted.dataset.items, planted.tokenizer.get_vocab()
    assert len(items) == 80
    assert [problems(item) for item in items] == [[]] * 80
    assert len({item.group for item in items}) == len({item.id for item in items}) == 80
    assert len(known) == planted.model.config.vocab_size
    for item in items:
        assert {item.question, *item.answers} <= known.keys()
        assert len(item.unwanted) == (2 if kind == "conjunctive" else 1)


# --- folders and names


def test_save_and_load(tmp_path):
    planted = dataclasses.replace(drawn("conjunctive"), certificate=certified("conjunctive"))
    save_planted(planted, tmp_path)
    again = load_planted(tmp_path)
    assert same(weights_of(again), weights_of(planted))
    for name in ("kind", "seed", "shuffled", "dataset", "truth", "claims", "plan", "expected"):
        assert getattr(again, name) == getattr(planted, name), name
    np.testing.assert_array_equal(again.directions.basis, planted.directions.basis)
    assert again.directions.names == planted.directions.names
    assert again.certificate == json.loads(json.dumps(planted.certificate))
    assert again.model.dtype == torch.float32
    assert not again.model.training
    assert torch.equal(unedited(again.model, questions_of(again)), unedited(planted.model, questions_of(planted)))
    assert again.tokenizer.get_vocab() == planted.tokenizer.get_vocab()
    coded = again.tokenizer("Which-003? down-003", return_offsets_mapping=True)
    assert coded.offset_mapping == [(0, 0), (0, 10), (11, 19)]
    assert not list(tmp_path.glob("*.bin"))


def test_changed_questions_are_refused(tmp_path):
    save_planted(drawn("localized"), tmp_path)
    lines = (tmp_path / "dataset.jsonl").read_text()
    (tmp_path / "dataset.jsonl").write_text(lines.replace("upper-004", "upper-005", 1))
    with pytest.raises(UserError, match="hash"):
        load_planted(tmp_path)


def test_other_folders_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"truth\.json"):
        load_planted(tmp_path)


def test_names():
    model = load_named("planted:decoy:3")
    assert model.layout.n_layers * model.layout.n_heads == 24
    # More features than the residual stream is wide: what is edited is the input of the output projection.
    assert model.layout.d_in(0) == 32
    assert planted_named("planted:decoy:3:shuffled").shuffled
    for wrong in ("planted:", "planted:nothing:3", "planted:decoy:x", "planted:decoy:3:twin", "decoy:3"):
        with pytest.raises(UserError, match="planted:KIND:SEED"):
            planted_named(wrong)


def test_only_a_heuristic_that_acts_finds_what_a_decoy_hides():
    """Decoys carry the truth where a probe reads it and write nothing; another head does the work."""
    found = heuristics_right(build("decoy", 0, **COMPACT))
    assert not found["probe"] and not found["mass mean"] and found["ablation"] and found["patching"]


def test_class_distance_by_hand(monkeypatch):
    # Means 3 and 1, so the difference is 2; standard deviation 1 within each class: 2 deviations. Twice as wide: 1.
    narrow = np.array([[2.0], [4.0], [0.0], [2.0]])
    outputs = {"0.0": narrow, "0.1": np.array([[1.0], [5.0], [-1.0], [3.0]]), "0.2": np.zeros((4, 1))}
    labels, owners = np.array([True, True, False, False]), np.zeros(4, dtype=int)
    monkeypatch.setattr(certificate, "head_outputs", lambda planted: (outputs, labels, owners))
    monkeypatch.setattr(certificate, "split", lambda items, seed: SimpleNamespace(test=[1]))
    planted = SimpleNamespace(dataset=SimpleNamespace(items=()), seed=0)
    assert certificate.class_distance(planted) == {"0.0": pytest.approx(2.0), "0.1": pytest.approx(1.0), "0.2": 0.0}
