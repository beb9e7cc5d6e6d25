"""What a run leaves for others' tools is in their shape, follows from the run, and carries no hostile text of it."""

import base64
import hashlib
import json
import math
import zipfile
from xml.etree import ElementTree

import pytest
import yaml
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import load_pem_public_key

import locus
from locus.errors import UserError, VerificationError
from locus.records.store import Store
from locus.report import attestation, badge, cite, model_card, outside
from locus.report.results import verdict_of
from tests.small_run import let_speak, poison


@pytest.mark.parametrize("form", outside.FORMS)
def test_every_form_is_written_into_a_new_folder_alone_and_the_same_again(form, small_run, tmp_path):
    first = locus.export(small_run, tmp_path / "a", form=form)
    assert first and sorted(line.removeprefix("wrote ") for line in first) == sorted(
        one.name for one in (tmp_path / "a").iterdir()
    )
    locus.export(small_run, tmp_path / "b", form=form)
    for one in (tmp_path / "a").iterdir():
        assert one.read_bytes() == (tmp_path / "b" / one.name).read_bytes(), one.name
    with pytest.raises(UserError, match="new or empty"):
        locus.export(small_run, tmp_path / "a", form=form)
    if not outside.FORMS[form].of_trial:
        with pytest.raises(UserError, match="no --trial"):
            locus.export(small_run, tmp_path / "c", form=form, trial="claim")


def entries(path):
    with zipfile.ZipFile(path) as archive:
        return {name: json.loads(archive.read(name)) for name in archive.namelist()}


def test_a_log_of_inspect_has_every_score_of_its_trial(run_copy, tmp_path):
    let_speak(run_copy, {"claim": ["Paris.", ""], "base": ["Rome."]}, {"claim": [0.75, 0.25]})
    locus.export(run_copy, tmp_path / "logs", form="inspect")
    logs = {path.name: entries(path) for path in (tmp_path / "logs").iterdir()}
    assert {name.partition("-")[0] for name in logs} == {"base", "claim", "ceiling", "shift"}
    log = logs["claim-0.eval"]
    trial = log["header.json"]["eval"]["task_args"]["trial"]
    with_store = Store(run_copy / "trials.sqlite")
    stored = {(row[2], row[3]): row[4] for row in with_store.dump() if row[:2] == (trial, "test")}
    with_store.close()
    plan = json.loads((run_copy / "plan.json").read_text())
    samples = [log[f"samples/{number}_epoch_1.json"] for number in range(1, 1 + len(plan["items"]["test"]))]
    for sample, item in zip(samples, plan["items"]["test"], strict=True):
        assert sample["input"] == item["question"] and sample["metadata"]["id"] == item["id"]
        held = {name: score["value"] for name, score in sample["scores"].items()}
        assert held == {name: value for (name, one), value in stored.items() if one == item["id"] and value is not None}
    assert [one["output"]["completion"] for one in samples[:3]] == ["Paris.", "", ""] and len(samples[1]["messages"]) == 2
    assert len(samples[2]["messages"]) == 1, "who was not asked has said nothing"
    (margin,) = (one for one in log["header.json"]["results"]["scores"] if one["name"] == "margin")
    values = [value for (name, _), value in stored.items() if name == "margin"]
    assert math.isclose(margin["metrics"]["mean"]["value"], sum(values) / len(values)) and margin["unscored_samples"] == 0
    (truth,) = (one for one in log["header.json"]["results"]["scores"] if one["name"] == "truth")
    assert truth["scored_samples"] == 2 and truth["metrics"]["mean"]["value"] == 0.5


def test_a_log_of_one_trial(small_run, tmp_path):
    assert locus.export(small_run, tmp_path / "logs", form="inspect", trial="ceiling") == ["wrote ceiling-0.eval"]
    with pytest.raises(UserError, match="one edit"):
        locus.export(small_run, tmp_path / "no", form="inspect", trial="nobody")
    assert not (tmp_path / "no").exists()


def test_an_envelope_is_signed_as_dsse_says_and_holds_the_receipt(small_run, tmp_path):
    locus.export(small_run, tmp_path / "out", form="attestation")
    envelope = json.loads((tmp_path / "out" / "receipt.intoto.json").read_text())
    key = load_pem_public_key((tmp_path / "out" / "signer.pem").read_bytes())
    payload, (signature,) = base64.b64decode(envelope["payload"]), envelope["signatures"]
    kind = envelope["payloadType"]
    # The encoding by the protocol's own words, beside ours.
    message = b" ".join([b"DSSEv1", str(len(kind)).encode(), kind.encode(), str(len(payload)).encode(), payload])
    key.verify(base64.b64decode(signature["sig"]), message)
    assert signature["keyid"] == key.public_bytes_raw().hex()
    for other in (message[:-1], payload, message.replace(b"in-toto", b"on-toto")):
        with pytest.raises(InvalidSignature):
            key.verify(base64.b64decode(signature["sig"]), other)
    said = json.loads(payload)
    assert said["_type"] == attestation.STATEMENT and said["predicate"] == json.loads((small_run / "receipt.json").read_text())
    for subject in said["subject"]:
        assert hashlib.sha256((small_run / subject["name"]).read_bytes()).hexdigest() == subject["digest"]["sha256"]
    assert {"plan.json", "verdict.json", "trials.sqlite"} < {subject["name"] for subject in said["subject"]}


def test_nothing_is_signed_that_does_not_hold(run_copy, tmp_path):
    verdict = (run_copy / "verdict.json").read_text()
    (run_copy / "verdict.json").write_text(verdict.replace("works", "wörks", 1))
    with pytest.raises(VerificationError):
        locus.export(run_copy, tmp_path / "out", form="attestation")
    (run_copy / "receipt.json").unlink()
    with pytest.raises(UserError, match="Finish it"):
        locus.export(run_copy, tmp_path / "out", form="attestation")
    with pytest.raises(UserError):
        locus.export(tmp_path / "nowhere", tmp_path / "out", form="attestation")
    assert not (tmp_path / "out").exists()


def test_a_badge_says_in_words_what_its_marks_mean(small_run, tmp_path):
    claim = verdict_of(small_run).claims[0]
    tree = ElementTree.fromstring(badge.svg(claim))
    title = tree.find("{http://www.w3.org/2000/svg}title").text
    for name in ("works", "special", "unique", "necessary"):
        assert f"{name}: {getattr(claim, name).standing}" in title
    texts = list(tree.iter("{http://www.w3.org/2000/svg}text"))
    assert len(texts) == 2 and tree.get("aria-label") == title
    for one in texts:
        assert float(one.get("x")) + float(one.get("textLength")) < float(tree.get("width"))


def test_a_card_is_what_the_hubs_own_reader_takes(small_run, tmp_path):
    from huggingface_hub.repocard import metadata_load
    from huggingface_hub.repocard_data import model_index_to_eval_results

    locus.export(small_run, tmp_path / "out", form="card")
    path = tmp_path / "out" / "model-card.md"
    _, results = model_index_to_eval_results(metadata_load(path)["model-index"])
    verdict = verdict_of(small_run)
    means = [verdict.baseline.base[0], *verdict.claimed, *verdict.ceiling]
    assert [one.metric_value for one in results] == [round(place.mean(verdict.metric), 6) for place in means]
    assert {one.metric_type for one in results} == {verdict.metric}
    assert verdict.claims[0].works.standing in path.read_text().partition("## Localization audit")[2]


def test_a_citation_file_has_what_its_format_asks_for(small_run, tmp_path):
    locus.export(small_run, tmp_path / "out", form="cite")
    read = yaml.safe_load((tmp_path / "out" / "CITATION.cff").read_text())
    assert read["cff-version"] == "1.2.0" and read["message"] and read["title"] and read["authors"] == [{"name": "locus"}]
    assert read["type"] == "dataset" and "receipt" in read["abstract"]
    titles = [one["title"] for one in read["references"]]
    assert cite.EDITING.title in titles and all(one["authors"] and one["type"] for one in read["references"])
    assert (tmp_path / "out" / "cite.bib").read_text().count("@") >= len(titles)


def test_a_hostile_run_is_written_harmless(run_copy, tmp_path):
    """Its text stays text: no element of a page, no YAML of its own, no control character; and nothing is signed for it."""
    poison(run_copy)
    for form in ("inspect", "badge", "card", "cite"):
        locus.export(run_copy, tmp_path / form, form=form)
    with pytest.raises(VerificationError):
        locus.export(run_copy, tmp_path / "attestation", form="attestation")
    for path in (tmp_path / "badge").iterdir():
        tree = ElementTree.fromstring(path.read_text())
        assert {one.tag.partition("}")[2] for one in tree.iter()} == {"svg", "title", "rect", "g", "text"}
        assert not any(name.startswith("on") for one in tree.iter() for name in one.attrib)
    card = (tmp_path / "card" / "model-card.md").read_text()
    front = yaml.safe_load(card.split("---\n")[1])
    assert set(front) == {"tags", "model-index"} and len(front["model-index"]) == 1
    assert "<script" not in card.partition("## Localization audit")[2].replace("\\<script", "")
    assert set(yaml.safe_load((tmp_path / "cite" / "CITATION.cff").read_text())) >= {"title", "authors", "references"}
    for folder in ("badge", "card", "cite"):
        for path in (tmp_path / folder).iterdir():
            text = path.read_text()
            assert not any(mark in text for mark in ("\x1b", "\u202e", "\x00")) and len(text) < 100_000, path
    for path in (tmp_path / "inspect").iterdir():
        assert set(path.name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-.")
        names = entries(path)
        assert all(name.startswith(("_journal/", "samples/")) or name in ("header.json", "summaries.json") for name in names)


def test_without_a_verdict_there_is_no_badge(run_copy, tmp_path):
    (run_copy / "verdict.json").unlink()
    for form in ("badge", "card", "cite"):
        with pytest.raises(UserError, match=r"verdict\.json"):
            locus.export(run_copy, tmp_path / form, form=form)
    with pytest.raises(UserError, match="inspect"):
        locus.export(run_copy, tmp_path / "x", form="inspekt")


def test_a_behaviour_as_a_data_set(tmp_path):
    behaviour = locus.behaviour("antonym")
    assert behaviour.export(tmp_path / "set") == ["questions.jsonl", "croissant.json"]
    assert locus.behaviour(tmp_path / "set" / "questions.jsonl").sha256 == behaviour.sha256
    said = json.loads((tmp_path / "set" / "croissant.json").read_text())
    (file,) = said["distribution"]
    content = (tmp_path / "set" / "questions.jsonl").read_bytes()
    assert file["sha256"] == hashlib.sha256(content).hexdigest() and file["contentSize"] == f"{len(content)} B"
    (records,) = said["recordSet"]
    assert {one["name"] for one in records["field"]} == set(json.loads(content.splitlines()[0]))
    with pytest.raises(UserError, match="new or empty"):
        behaviour.export(tmp_path / "set")


def test_the_block_of_a_run_without_a_receipt_says_so(small_run):
    from locus.plan import reading

    text = model_card.block(reading.read_plan(small_run), verdict_of(small_run), "")
    assert "It has no receipt." in text
