"""What others' own readers make of what we write: of Inspect, of a DSSE library, of in-toto, of Croissant.

They are no extra of this package: install inspect-ai, securesystemslib, in-toto-attestation and mlcroissant beside it.
"""

import json

import pytest

import locus
from locus.report.results import verdict_of
from tests.small_run import let_speak

pytestmark = pytest.mark.oracle


def test_inspects_own_reader_opens_our_logs(run_copy, tmp_path):
    log = pytest.importorskip("inspect_ai.log")
    let_speak(run_copy, {"claim": ["Paris.", ""]}, {"claim": [0.75, 0.25]})
    names = locus.export(run_copy, tmp_path / "logs", form="inspect")
    verdict = verdict_of(run_copy)
    for name in names:
        path = str(tmp_path / "logs" / name.removeprefix("wrote "))
        whole, header = log.read_eval_log(path), log.read_eval_log(path, header_only=True)
        assert whole.status == "success" and whole.version == header.version == 2 and header.samples is None
        assert whole.eval.model == header.eval.model == verdict.model.name
        assert len(whole.samples) == whole.results.total_samples == whole.eval.dataset.samples == 6
        summaries = log.read_eval_log_sample_summaries(path)
        assert [one.id for one in summaries] == [one.id for one in whole.samples] and all(one.completed for one in summaries)
        assert log.read_eval_log_sample(path, 3).input == whole.samples[2].input
        means = {score.name: score.metrics["mean"].value for score in whole.results.scores}
        for measure, mean in means.items():
            values = [one.scores[measure].as_float() for one in whole.samples if measure in one.scores]
            assert mean == pytest.approx(sum(values) / len(values))
        if "claim" in path:
            assert whole.samples[0].output.completion == whole.samples[0].messages[-1].text == "Paris."
            assert means["margin"] == pytest.approx(verdict.claimed[0].mean("margin"), abs=1e-9)


def test_a_dsse_library_verifies_our_envelope(small_run, tmp_path):
    dsse = pytest.importorskip("securesystemslib.dsse")
    from cryptography.hazmat.primitives.serialization import load_pem_public_key
    from securesystemslib.exceptions import VerificationError
    from securesystemslib.signer import SSlibKey

    locus.export(small_run, tmp_path / "out", form="attestation")
    text = (tmp_path / "out" / "receipt.intoto.json").read_text()
    public = load_pem_public_key((tmp_path / "out" / "signer.pem").read_bytes())
    key = SSlibKey.from_crypto(public, keyid=public.public_bytes_raw().hex())
    envelope = dsse.Envelope.from_dict(json.loads(text))
    assert list(envelope.verify([key], 1)) == [key.keyid]
    envelope.payload += b" "
    with pytest.raises(VerificationError):
        envelope.verify([key], 1)


def test_in_totos_own_classes_take_the_statement(small_run, tmp_path):
    statement = pytest.importorskip("in_toto_attestation.v1.statement")
    import base64

    from google.protobuf import json_format

    locus.export(small_run, tmp_path / "out", form="attestation")
    envelope = json.loads((tmp_path / "out" / "receipt.intoto.json").read_text())
    said = statement.Statement([], "", {})
    json_format.ParseDict(json.loads(base64.b64decode(envelope["payload"])), said.pb)
    said.validate()


def test_croissants_own_reader_loads_the_questions(tmp_path):
    croissant = pytest.importorskip("mlcroissant")
    behaviour = locus.behaviour("antonym")
    behaviour.export(tmp_path / "set")
    rows = list(croissant.Dataset(jsonld=str(tmp_path / "set" / "croissant.json")).records("questions"))
    assert len(rows) == len(behaviour)
    assert [row["questions/question"].decode() for row in rows] == [item.question for item in behaviour.items]
