"""The receipt: one changed byte in any artefact is caught, a forged verdict too, and the key is its owner's alone."""

import copy
import html
import json
import re
import shutil
import sqlite3
import stat
import subprocess
from pathlib import Path

import pytest
import torch

from locus.audit import audit
from locus.conclude import derive as conclude
from locus.errors import UserError, VerificationError
from locus.plan.config import resolve
from locus.records.store import Store
from locus.report import keys, pith, receipt
from locus.report.consent import Given
from locus.report.page import write as write_page
from locus.report.rerun import rerun
from locus.report.verify import STORE, first_difference, verify, verify_record, verify_run

SETTINGS = {
    "claims": ("0.1,2.3",),
    "train": 8,
    "validation": 3,
    "test": 6,
    "epochs": 1,
    "text_passages": 0,
    "iti_strengths": (5.0,),
    "shift_random": 0,
    "random": 4,
    "alpha": 0.25,
}

# A public record of arXiv 2309.16042; its hash and number are those printed on its page.
RECORD = {
    "metadata": {
        "abstract_canon_sha256": "080c9b3f05b25967043221c33a05f6dfd8524334bf4eeacae0d6cdfa03a8f9f7",
        "cross_cats_sorted": ["cs.AI", "cs.CL"],
        "license": "http://creativecommons.org/licenses/by/4.0/",
        "primary_cat": "cs.LG",
        "submitted_at": "2023-09-27T21:53:56Z",
        "title_canon_sha256": "ddff9c6515e0ed0b541d738fa2ef96374070398ddde2305c90772355b2954c95",
    },
    "schema_version": "1.0",
    "source": {"id": "2309.16042", "kind": "arxiv", "version": 2},
}
RECORD_SHA256 = "f5beebcc0837da86b02994defc4443ecf487aefdf1df4577fa756af1d02069e2"
RECORD_NUMBER = "6W7OXTAIG7NINMBJSTPPYRCD5T"


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory):
    """A configuration folder of our own, so that no key is made in the user's."""
    with pytest.MonkeyPatch.context() as patch:
        place = tmp_path_factory.mktemp("config")
        patch.setenv("LOCUS_CONFIG", str(place))
        yield place


@pytest.fixture(scope="module")
def finished(tmp_path_factory, llama_folder, home):
    """A small finished run of the tiny model."""
    out = tmp_path_factory.mktemp("run") / "RUN"
    audit(resolve("quick", model=llama_folder, **SETTINGS), out)
    return out


@pytest.fixture
def run(finished, tmp_path):
    """A copy that a test may damage."""
    return shutil.copytree(finished, tmp_path / "RUN")


def flip(path, at=None):
    content = bytearray(path.read_bytes())
    content[len(content) // 2 if at is None else at] ^= 1
    path.write_bytes(content)


def rewrite(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def rewrite_text(path, change):
    """Change a receipt and write it as locus does."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(receipt.text(content))


def reseal(run):
    """What a forger with a key of his own would do: hash and sign everything again."""
    store = Store(run / "trials.sqlite")
    receipt.write(run, store)
    store.close()


def test_an_honest_run_is_verified_and_left_as_it_was(run):
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    verification = verify(run)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    content = json.loads((run / "receipt.json").read_text())
    assert verification.id == content["id"] and len(content["id"]) == 26
    assert verification.signed_by == keys.signing_key().public_key().public_bytes_raw().hex()
    assert (
        verification.line == "verified, signed by you"
        and verification.kind == "run"
        and not verification.absent
        and not verification.unchecked
    )
    assert len(content["body"]["artefacts"]) == 2 + len(list((run / "edits").iterdir()))
    plan_hash, moment = content["body"]["plan"]["fixed"].split()
    assert plan_hash == content["body"]["plan"]["sha256"] and moment <= content["body"]["written"]


def test_one_flipped_byte_in_any_artefact_is_caught_and_named(run):
    write_page(run)
    paths = [path for path in run.rglob("*") if path.is_file() and path.name != "receipt.json"]
    assert {"plan.json", STORE, "verdict.json", "report.html", "cite.bib", "verdict.svg"} <= {one.name for one in paths}
    assert {path.suffix for path in paths if path.parent.name == "figures"} == {".svg", ".pdf", ".png", ".csv"}
    assert any(path.suffix == ".safetensors" for path in paths)
    for path in paths:
        kept = path.read_bytes()
        flip(path)
        with pytest.raises(VerificationError, match=path.name):
            verify_run(run)
        path.write_bytes(kept)
    verify_run(run)


def test_one_flipped_byte_anywhere_in_the_receipt_is_caught(run):
    path = run / "receipt.json"
    kept = path.read_bytes()
    for place in range(0, len(kept), 5):
        flip(path, place)
        with pytest.raises((VerificationError, UserError)):
            verify_record(path)
        path.write_bytes(kept)
    verify_record(path)


def test_drawing_anew_leaves_the_id_and_what_is_drawn_is_vouched_for(run):
    before = json.loads((run / "receipt.json").read_text())
    assert set(before["views"]["files"]) == {"report.html", "cite.bib", "cite.ris", "cite.enw"}, "an audit leaves a page"
    write_page(run)
    after = json.loads((run / "receipt.json").read_text())
    assert {**before, "views": None} == {**after, "views": None}
    assert "figures/verdict.pdf" in after["views"]["files"]
    assert after["id"] in (run / "report.html").read_text() and after["id"] in (run / "cite.bib").read_text()
    verify_run(run)
    (run / "figures" / "another.svg").write_text("")
    with pytest.raises(VerificationError, match=r"figures/another\.svg is not in the receipt"):
        verify_run(run)
    (run / "figures" / "another.svg").unlink()
    rewrite_text(run / "receipt.json", lambda content: content["views"].update(signature=keys.sign(b"other")))
    with pytest.raises(VerificationError, match="page and figures"):
        verify_run(run)


def test_a_receipt_names_no_folder_of_the_machine(run):
    text = (run / "receipt.json").read_text()
    config = json.loads((run / "plan.json").read_text())["config"]
    assert Path(config["model"]).is_absolute() and config["model"] not in text and str(run) not in text
    told = {"data": "/home/me/q.csv", "claims": ["patch:/tmp/map", "12.3"], "judge": "api:http://localhost:8/v1", "n": 3}
    settings = {"data": "q.csv", "claims": ["patch:map", "12.3"], "judge": "api:http://localhost:8/v1", "n": 3}
    assert receipt.portable(told) == settings == receipt.portable(settings)


def test_a_receipt_has_one_text_only(run):
    content = json.loads((run / "receipt.json").read_text())
    (run / "receipt.json").write_text(json.dumps(content, indent=1))
    with pytest.raises(VerificationError, match="as locus writes it"):
        verify_run(run)
    rewrite_text(run / "receipt.json", lambda content: content.update(note="trust me"))
    with pytest.raises(VerificationError, match="note"):
        verify_run(run)


@pytest.mark.skipif(not shutil.which("sha256sum"), reason="needs coreutils")
def test_the_page_says_how_to_check_without_locus_and_that_works(run):
    write_page(run)
    page = (run / "report.html").read_text()
    recipe = html.unescape(re.search('<h2 id="h-check">.*?<pre[^>]*>(.*?)</pre>', page, re.S).group(1)).splitlines()
    assert len(recipe) == 3

    def shell(line):
        return subprocess.run(["bash", "-o", "pipefail", "-c", line], cwd=run, capture_output=True, text=True)

    content = json.loads((run / "receipt.json").read_text())
    assert shell(recipe[0]).stdout.split()[0] == content["sha256"] and content["sha256"] in page
    assert shell(recipe[1]).stdout.strip() == content["id"]
    files = {**content["body"]["artefacts"], **content["body"]["database"], **content["views"]["files"]}
    assert STORE in files
    done = shell(recipe[2])
    assert done.returncode == 0 and sorted(done.stdout.splitlines()) == sorted(f"{name}: OK" for name in files)
    flip(run / "report.html")
    assert shell(recipe[2]).returncode != 0 and "report.html: FAILED" in shell(recipe[2]).stdout


def test_one_flipped_byte_anywhere_in_the_store_is_caught(run):
    """In a row, in a page's head, and in room that no row takes."""
    path = run / STORE
    assert not (run / f"{STORE}-wal").exists(), "a finished run's scores are in one file"
    kept = path.read_bytes()
    store = Store(path)
    item = store.db.execute("SELECT item FROM scores LIMIT 1").fetchone()[0]
    store.close()
    assert path.read_bytes() == kept, "reading changes nothing"
    # 3001 is coprime to the size of a page, so that pages are met at ever other places.
    for place in (kept.rindex(item.encode()), *range(18, len(kept), max(3001, len(kept) // 3001 // 24 * 3001))):
        flip(path, place)
        with pytest.raises(VerificationError, match=r"trials\.sqlite"):
            verify_run(run)
        for left in run.glob(f"{STORE}-*"):
            left.unlink()
        path.write_bytes(kept)
    verify_run(run)


def test_a_receipt_written_while_somebody_reads_vouches_for_the_rows(run):
    """A reader keeps committed rows out of the one file, whose bytes will change when they go in."""
    store = Store(run / STORE)
    store.db.execute("PRAGMA busy_timeout = 10")
    reader = sqlite3.connect(run / STORE, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM scores").fetchone()
    store.note("said", "while somebody reads")
    written = receipt.write(run, store)
    reader.close()
    store.close()
    assert written.body.database == {}
    verify_run(run)
    store = Store(run / STORE)
    store.db.execute("UPDATE meta SET value = 'another' WHERE key = 'said'")
    store.close()
    with pytest.raises(VerificationError, match="table meta"):
        verify_run(run)


@pytest.mark.parametrize("sql", ["UPDATE scores SET value = value + 1e-12", "DELETE FROM meta", "UPDATE trials SET seconds = 1"])
def test_a_changed_row_is_caught(run, sql):
    store = Store(run / "trials.sqlite")
    store.db.execute(sql)
    store.close()
    with pytest.raises(VerificationError, match="table"):
        verify_run(run)


def test_repeated_trials_give_the_stored_scores(run, llama_folder):
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    again = rerun(run, 2, seed=1, given=Given(model=llama_folder))
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    assert again["repeated"] >= 2 and set(again["largest"]) == {"mc1", "mc2", "mc3", "margin", "off_manifold"}
    assert max(again["largest"].values()) == 0, "the same machine, the same banks"
    with pytest.raises(UserError, match="at least one"):
        rerun(run, 0)


def test_scores_forged_together_with_their_verdict_and_seal_are_not_repeated(run, llama_folder):
    store = Store(run / STORE)
    store.db.execute("UPDATE scores SET value = value + 0.01 WHERE measure = 'mc2' AND split = 'test' AND value IS NOT NULL")
    conclude.write(run, store, 0.0)
    store.close()
    write_page(run, figures=False)
    reseal(run)
    verify_run(run)  # hashes and logic are in order: only the model can tell
    with pytest.raises(VerificationError, match=r"mc2 of test item .* stored .* repeated"):
        rerun(run, 1, seed=1, given=Given(model=llama_folder))


def test_trials_are_not_repeated_on_another_model(run, tmp_path):
    from tests.families import tiny

    other = copy.deepcopy(tiny("llama").hf)
    with torch.no_grad():
        next(other.parameters()).add_(0.01)
    named = Path(json.loads((run / "plan.json").read_text())["config"]["model"])
    home = shutil.copytree(named, tmp_path / "other")
    other.save_pretrained(home)
    with pytest.raises(VerificationError, match="something else: model"):
        rerun(run, 1, given=Given(model=str(home)))


def test_a_run_judged_by_another_rule_asks_for_the_locus_it_was_judged_with(run):
    rewrite(run / "plan.json", lambda plan: plan["rule"].update(version="rule/0"))
    reseal(run)
    with pytest.raises(VerificationError, match="judged by rule/0, this version of locus judges by"):
        verify_run(run)


def test_missing_and_added_files_are_caught(run):
    first = sorted((run / "edits").iterdir())[0]
    shutil.copy(first, run / "edits" / "another.safetensors")
    with pytest.raises(VerificationError, match=r"another\.safetensors is not in the receipt"):
        verify_run(run)
    (run / "edits" / "another.safetensors").unlink()
    first.unlink()
    verification = verify_run(run)
    assert verification.line == "intact, incomplete, signed by you" and verification.absent == (f"edits/{first.name}",)
    (run / "verdict.json").unlink()
    with pytest.raises(VerificationError, match=r"verdict\.json is missing"):
        verify_run(run)


def test_a_verdict_that_does_not_follow_is_caught_although_it_is_sealed_anew(run):
    rewrite(run / "verdict.json", lambda verdict: verdict["claims"][0]["special"].update(standing="refuted"))
    reseal(run)
    verify_record(run / "receipt.json")  # in itself it is in order
    with pytest.raises(VerificationError, match=r"claims\[0\]\.special\.standing is stated as 'refuted'"):
        verify_run(run)


def test_a_plan_changed_and_sealed_anew_no_longer_has_its_hash(run):
    rewrite(run / "plan.json", lambda plan: plan["rule"].update(alpha=0.9))
    reseal(run)
    with pytest.raises(VerificationError, match="the plan's"):
        verify_run(run)


def test_a_signature_of_something_else_is_caught(run):
    other = keys.sign(b"another message")
    rewrite(run / "receipt.json", lambda content: content.update(signature=other))
    with pytest.raises(VerificationError, match="signature"):
        verify_run(run)


def test_the_expected_signer_is_held_to(run):
    verify_run(run, keys.signing_key().public_key().public_bytes_raw().hex())
    with pytest.raises(VerificationError, match="not signed by 00"):
        verify_run(run, "00" * 32)


def test_a_newer_schema_asks_for_a_newer_locus(run):
    rewrite(run / "receipt.json", lambda content: content.update(schema="locus-receipt/9"))
    with pytest.raises(VerificationError, match="newer locus"):
        verify_run(run)


def test_unsigned_receipts_say_so(run):
    store = Store(run / "trials.sqlite")
    written = receipt.write(run, store, sign=False)
    store.close()
    assert written.signature is None and written.unsigned_because
    verification = verify_run(run)
    assert verification.signed_by is None and verification.line == "intact, unsigned"


def test_the_key_is_its_owners_alone_and_stays(home, monkeypatch, tmp_path):
    path = home / keys.KEY_FILE
    first = keys.signing_key().private_bytes_raw()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert keys.signing_key().private_bytes_raw() == first
    monkeypatch.setenv("LOCUS_CONFIG", str(tmp_path / "other"))
    assert keys.signing_key().private_bytes_raw() != first
    (tmp_path / "other" / keys.KEY_FILE).chmod(0o644)
    with pytest.raises(UserError, match="chmod 600"):
        keys.signing_key()
    assert receipt.seal({"a": 1})["signature"] is None, "a key that others can read signs nothing"


def test_the_record_of_a_paper_has_its_printed_hash_and_number(tmp_path):
    assert pith.number(RECORD) == (RECORD_SHA256, RECORD_NUMBER)
    bare, wrapped = tmp_path / "bare.json", tmp_path / "wrapped.json"
    bare.write_text(json.dumps(RECORD, indent=2))
    wrapped.write_text(json.dumps({"canonical_record": RECORD, "pith_number": RECORD_NUMBER}))
    assert verify_record(bare, RECORD_NUMBER).id == verify_record(bare, RECORD_SHA256).id == RECORD_NUMBER
    assert verify_record(wrapped).id == RECORD_NUMBER and "unsigned" in verify_record(wrapped).line
    with pytest.raises(UserError, match="--expect"):
        verify_record(bare)
    text = bare.read_text()
    bare.write_text(text.replace('"version": 2', '"version": 3'))
    with pytest.raises(VerificationError, match=RECORD_NUMBER):
        verify_record(bare, RECORD_NUMBER)
    bare.write_text(text.replace('"1.0"', '"2.0"'))
    with pytest.raises(VerificationError, match=r"schema .2\.0., not 1\.0"):
        verify_record(bare, RECORD_NUMBER)


def test_the_first_difference_is_named_and_rounding_is_none():
    assert first_difference({"a": [1.0, {"b": 2.0}]}, {"a": [1.0, {"b": 2.0 + 1e-12}]}) == ""
    assert first_difference({"a": [1.0, {"b": 2.0}]}, {"a": [1.0, {"b": 2.1}]}) == "a[1].b is stated as 2.0, found 2.1"
    assert first_difference({"a": True}, {"a": 1}) and first_difference([1], [1, 2]) and first_difference({}, {"a": None})
