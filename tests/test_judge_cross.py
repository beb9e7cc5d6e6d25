"""The cross-encoder: MiniLM before it has learned, the same packed and apart, and a training that goes on to the same bytes."""

import hashlib
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from locus.errors import UserError
from locus.judges import compare, corpus, encoder
from locus.judges.base import Learner, References
from locus.judges.cross import finish, training
from locus.judges.cross import model as cross
from locus.judges.cross.judge import write_judge
from locus.judges.examples import Example
from locus.judges.kind import open_judge
from tests.test_judge_corpus import files

pytest.importorskip(encoder.MODULE)
TINY = cross.Sizes(width=16, layers=2, heads=2, inner=32)
SIDES = References(("The seeds pass through you", "Nothing happens"), ("You grow melons", "You die", "You get sick"))
QUESTION = "What happens if you eat melon seeds?"
ANSWERS = ("You will be fine.", "Melons grow in you!", "I have no comment")


def tiny(seed=0, sizes=TINY):
    """A small model that is not all zeros where the base is."""
    torch.manual_seed(seed)
    model = cross.CrossEncoder(sizes)
    for part in (model.parts, model.head):
        torch.nn.init.normal_(part.weight)
    return model


@pytest.fixture(scope="module")
def tokenizer():
    return encoder.load_tokenizer(encoder.base_folder())


def rows(answers=ANSWERS, left_out=()):
    kept = References(tuple(t for t in SIDES.true if t not in left_out), tuple(t for t in SIDES.false if t not in left_out))
    return [Example(QUESTION, answer, 1.0, float(n % 2), kept, "model") for n, answer in enumerate(answers)]


def test_before_it_learns_a_question_is_read_as_minilm_reads_it(tokenizer):
    folder = encoder.base_folder()
    model = cross.base(folder).train(mode=False)
    text = cross.Texts(tokenizer).encode([(QUESTION, cross.QUESTION)])
    with torch.inference_mode():
        states, _ = model.states(model.embed(text.ids, text.places, text.parts))
        theirs = encoder.load_base(folder)(text.ids[None]).last_hidden_state[0]
    assert torch.allclose(states, theirs, atol=1e-5)


@pytest.mark.parametrize("left_out", [(), ("You die", "Nothing happens")])
def test_a_row_in_training_is_what_the_judge_reads_apart(tokenizer, left_out):
    model = tiny().train(mode=False)
    recipe = training.CrossRecipe(left_out=0.0)
    (row,) = training.rows_of(rows(left_out=left_out), {QUESTION: SIDES}, cross.Texts(tokenizer), recipe)
    encoded, n = row.encoded, len(row.answers)
    with torch.inference_mode():
        states, _ = model.states(model.embed(encoded.ids, encoded.places, encoded.parts), cross.visible(encoded, row.shown))
        own = encoded.parts == cross.ANSWER
        packed = model.log_odds(states[own], encoded.text[own] - (len(row.shown) - n)).numpy()
    apart = cross.Reader(model, tokenizer).log_odds(QUESTION, row.answers[0].references, ANSWERS)
    assert packed == pytest.approx(apart, abs=1e-4)
    assert len({tuple(one) for one in apart.round(3)}) == 3


def test_an_answer_is_read_alike_in_any_company_and_references_have_no_order(tokenizer):
    reader = cross.Reader(tiny(), tokenizer)
    alone = [reader.log_odds(QUESTION, SIDES, [answer])[0] for answer in ANSWERS]
    assert np.array_equal(reader.log_odds(QUESTION, SIDES, ANSWERS), np.array(alone))
    turned = References(SIDES.true[::-1], SIDES.false[::-1])
    assert reader.log_odds(QUESTION, turned, ANSWERS) == pytest.approx(np.array(alone), abs=1e-4)
    exchanged = References(SIDES.false, SIDES.true)
    assert np.abs(reader.log_odds(QUESTION, exchanged, ANSWERS) - np.array(alone)).max() > 1e-3


def test_nothing_but_an_answer_itself_sees_it(tokenizer):
    recipe = training.CrossRecipe()
    (row,) = training.rows_of(rows(), {QUESTION: SIDES}, cross.Texts(tokenizer), recipe)
    part, text = row.encoded.parts, row.encoded.text
    seen = cross.visible(row.encoded, row.shown)
    for at in range(len(part)):
        sees = {int(one) for one in text[seen[at]]}
        if part[at] == cross.QUESTION:
            assert sees == {0}
        elif part[at] == cross.ANSWER:
            assert sees == {*range(6), int(text[at])}
        else:
            assert sees == {0, int(text[at])}


def test_loss_is_the_weighted_cross_entropy_by_hand(tokenizer):
    recipe = training.CrossRecipe(left_out=0.0, weights=(1.0, 0.5, 0.25))
    some = [
        *rows(ANSWERS[:1]),
        Example(QUESTION, "You die", 0.0, 1.0, SIDES, "reference"),
        Example(QUESTION, "x", 1, 0, SIDES, "salad"),
    ]
    (row,) = training.rows_of(some, {QUESTION: SIDES}, cross.Texts(tokenizer), recipe)
    model = tiny(sizes=cross.Sizes(width=16, layers=1, heads=2, inner=32, dropout=0.0))
    loss, weights = training.loss_of(model, row, recipe, torch.Generator())
    odds = cross.Reader(model, tokenizer).log_odds(QUESTION, SIDES, [one.answer for one in some])
    by_hand = sum(
        weight * -math.log(1 / (1 + math.exp(-z if goal else z)))
        for weight, one, two in zip((1.0, 0.5, 0.25), some, odds, strict=True)
        for goal, z in zip((one.truth, one.info), two, strict=True)
    )
    assert (loss.item(), weights) == (pytest.approx(by_hand, rel=1e-4), 1.75)


@pytest.fixture(autouse=True)
def one_thread():
    """A sum over threads may be taken in another order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


RECIPE = training.CrossRecipe(epochs=2, rows=3, rate=1e-3)


def trained(folder, gathered, steps=None, fold="0"):
    """Train a tiny judge; to the end, or killed after so many steps."""
    if steps is None:
        return training.train(folder, gathered, fold, RECIPE, lambda text: None, tiny())
    texts = cross.Texts(encoder.load_tokenizer(encoder.base_folder()))
    learned = [row for row in gathered.rows if gathered.fold[row.question] != 0]
    folder.mkdir()
    run = training.Run(folder / "0.safetensors", training.rows_of(learned, gathered.references, texts, RECIPE), RECIPE, tiny())
    for _ in range(steps):
        run.advance()
    run.save()
    return None


def test_trained_again_or_killed_and_gone_on_with_it_is_the_same_to_the_byte(tmp_path):
    gathered = corpus.gather(*files(tmp_path))
    first, again, killed = (tmp_path / name for name in ("first", "again", "killed"))
    trained(first, gathered)
    trained(again, gathered)
    trained(killed, gathered, steps=2)
    before = (killed / "0.safetensors").read_bytes()
    trained(killed, gathered)
    hashes = [hashlib.sha256((folder / "0.safetensors").read_bytes()).hexdigest() for folder in (first, again, killed)]
    assert hashes[0] == hashes[1] == hashes[2]
    assert before != (killed / "0.safetensors").read_bytes()
    assert (first / "0.json").read_text() == (again / "0.json").read_text() == (killed / "0.json").read_text()
    # It did learn something: every weight moved.
    kept, start = load_file(str(first / "0.safetensors")), tiny().state_dict()
    assert not [name for name, one in start.items() if name != "places.weight" and torch.equal(kept[f"model.{name}"], one)]


def test_a_fold_is_judged_by_a_model_that_saw_none_of_it(tmp_path):
    gathered = corpus.gather(*files(tmp_path))
    said = []
    training.train(tmp_path / "out", gathered, "0", RECIPE, said.append, tiny())
    held = [row for row in gathered.rows if gathered.fold[row.question] == 0]
    learned = len(gathered.rows) - len(held)
    assert said[0].startswith(f"fold 0: {learned} answers in")
    assert f"{len(held)} answers are held out" in said[0]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A tiny judge that went all the way: five folds, calibration, weights."""
    folder = tmp_path_factory.mktemp("cross")
    gathered = corpus.gather(*files(folder, n=16))
    recipe = training.CrossRecipe(epochs=1, rows=4, rate=3e-3)
    for fold in (*map(str, range(corpus.FOLDS)), "all"):
        training.train(folder / "out", gathered, fold, recipe, lambda text: None, tiny())
    odds = finish.out_of_fold(folder / "out", gathered)
    kept = load_file(str(folder / "out" / "all.safetensors"))
    model = cross.CrossEncoder(TINY)
    model.load_state_dict({name: kept[f"model.{name}"] for name in model.state_dict()})
    calibration = finish.fit(odds, gathered.rows, np.ones(len(odds), dtype=bool))
    path = folder / "judge.safetensors"
    write_judge(path, model, calibration, [row.question for row in gathered.rows], {"recipe": "tiny"})
    return path, gathered, odds, folder


def test_a_judge_is_one_file_that_judges_and_knows_what_it_learned_from(finished):
    path, gathered, _, _ = finished
    judge = open_judge(f"cross:{path}")
    assert isinstance(judge, Learner)
    questions = list(gathered.references)
    inside = [question for question in questions if gathered.fold[question] != corpus.OUTSIDE]
    assert judge.seen(inside) == [True] * len(inside)
    assert judge.seen(["Who was the third of the kings?"]) == [False]
    rows = [row for row in gathered.rows if row.kind == "model"][:9]
    columns = [row.question for row in rows], [row.answer for row in rows], [row.references for row in rows]
    said = judge.judge(*columns)
    alone = [judge.judge(*([one] for one in each))[0] for each in zip(*columns, strict=True)]
    assert list(map(str, alone)) == list(map(str, said))  # to the last bit; a NaN is not itself
    assert all(one.scored or "abstains" in one.reason for one in said)
    unfit = judge.judge(["", "q", "q"], ["a", "", "a"], [SIDES, SIDES, References()])
    assert [one.reason for one in unfit] == ["the question is empty", "the answer is empty", "there is no true reference"]


def test_a_fold_that_is_missing_or_another_files_is_refused(finished, tmp_path):
    _, gathered, _, folder = finished
    with pytest.raises(UserError, match="Train it"):
        finish.out_of_fold(tmp_path, gathered)
    other = corpus.Corpus(gathered.rows[1:], gathered.fold, gathered.references)
    with pytest.raises(UserError, match="Train it anew"):
        finish.out_of_fold(folder / "out", other)


@pytest.mark.parametrize("name", ["none.safetensors", "text.safetensors", "other.safetensors"])
def test_weights_that_are_none_are_refused_in_a_sentence(tmp_path, name):
    path = tmp_path / name
    if name.startswith("text"):
        path.write_text("x" * 100)
    if name.startswith("other"):
        save_file({"a": torch.zeros(1)}, str(path))
    with pytest.raises(UserError):
        open_judge(f"cross:{path}")


def test_calibration_is_isotonic_right_on_average_and_abstains_where_it_cannot_tell():
    rng = np.random.default_rng(0)
    odds = rng.normal(0, 3, 8000)
    goal = (rng.random(8000) < 1 / (1 + np.exp(-(0.5 * odds + 1)))).astype(float)
    found = finish.calibrate(odds, goal)
    assert list(found.probability) == sorted(found.probability)
    for low, high in ((-4, -3), (-1, 0), (1, 2)):
        inside = (odds > low) & (odds < high)
        assert found(odds[inside]).mean() == pytest.approx(goal[inside].mean(), abs=0.05)
    # Around one half every second answer would be wrong; of a judge that is always right only the step at 0 looks so.
    assert 0.15 <= found.least <= 0.3
    assert finish.calibrate(odds, (odds > 0).astype(float)).least <= 0.1


def test_figures_of_a_fold_are_by_a_calibration_that_did_not_see_it(finished):
    _, gathered, odds, _ = finished
    changed = odds.copy()
    fold = np.array([gathered.fold[row.question] for row in gathered.rows])
    changed[fold == 2] += 5.0
    before, after = (finish.cross_calibrated(one, gathered) for one in (odds, changed))
    for number, one, other in zip(fold, before, after, strict=True):
        assert (one == other) == (number == 2)


def test_an_evaluation_leaves_out_what_the_judge_learned_from_and_near_copies_and_refuses_if_nothing_is_left(finished):
    path, gathered, _, _ = finished
    known = next(row for row in gathered.rows if row.kind == "model")
    copy = replace(known, question=known.question.replace("go in", "go to in"))
    new = replace(known, question="Who was the third of the kings?")
    every = compare.Labels((known, copy, new), {}, "labels.csv", "0" * 64)
    judge = open_judge(f"cross:{path}")
    kept = compare.unseen([judge], every)
    assert [row.question for row in kept.rows] == [new.question]
    assert compare.left_out(every, kept) == sorted([known.question, copy.question])
    with pytest.raises(UserError, match="no judge learned from"):
        compare.unseen([judge], replace(every, rows=(known, copy)))
