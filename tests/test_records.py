"""Records are read into typed models and written back byte for byte, under the schema that they came with."""

import gzip
import json
import re
from pathlib import Path

import pytest

from locus.records.base import Part
from locus.records.calibration import Calibration, Draw, GradedCalibration
from locus.records.findings import QUESTIONS, Findings
from locus.records.patch import PatchRecord
from locus.records.plan import PlanRecord
from locus.records.receipt import Receipt
from locus.records.schemas import RECORDS, schema_text
from locus.records.verdict import KINDS, Verdict
from locus.report import sealed

ROOT = Path(__file__).parents[1]
FOLDERS = (ROOT / "tests" / "runs" / "first-edition", ROOT / "studies")
KINDS_OF_FILE: dict[str, type[Part]] = {
    "plan.json": PlanRecord,
    "verdict.json": Verdict,
    "receipt.json": Receipt,
    "patch.json": PatchRecord,
    "calibration.json": Calibration,
    "graded.json": GradedCalibration,
}
FILES = sorted(path for folder in FOLDERS for name in KINDS_OF_FILE for path in folder.rglob(name))
VERDICTS = [path for path in FILES if path.name == "verdict.json"]


def written(record: Part, name: str) -> str:
    """As the file of that name is written."""
    if name == "receipt.json":
        return sealed.text(record.to_json())
    return json.dumps(record.to_json(), indent=1, sort_keys=name == "plan.json", allow_nan=False) + "\n"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_record_is_read_and_written_back_byte_for_byte(path):
    text = path.read_text(encoding="utf-8")
    assert written(KINDS_OF_FILE[path.name].parse(json.loads(text)), path.name) == text


def test_there_are_records_of_every_kind():
    assert len([path for path in FILES if path.name == "plan.json"]) >= 6 and len(VERDICTS) >= 18
    assert len([path for path in FILES if path.name == "receipt.json"]) >= 18
    assert {path.name for path in FILES} == KINDS_OF_FILE.keys()


def test_draws_are_written_back_byte_for_byte():
    with gzip.open(ROOT / "studies" / "calibration" / "draws.jsonl.gz", "rt", encoding="utf-8") as file:
        lines = file.read().splitlines()
    assert len(lines) == 1800
    assert [json.dumps(Draw.parse(json.loads(line)).to_json()) for line in lines] == lines


def test_a_later_version_may_add_to_a_map():
    content = json.loads((FOLDERS[0] / "patch" / "patch.json").read_text())
    content["maps"][0]["components"][0]["more"] = content["more"] = {"deep": 1}
    assert PatchRecord.parse(content).to_json()["more"] == {"deep": 1}
    del content["screens"], content["controls"]  # of before there were any
    assert PatchRecord.parse(content).screens == ()
    content["maps"][0]["width"] = "1"
    with pytest.raises(ValueError, match=r"^maps.0.width"):
        PatchRecord.parse(content)


@pytest.fixture
def content():
    return json.loads((FOLDERS[0] / "planted" / "verdict.json").read_text())


def test_a_verdict_is_asked_by_name(content):
    verdict = Verdict.parse(content)
    assert verdict.special.standing == "supported" == verdict.claims[0].special.standing
    assert verdict.special.p == content["claims"][0]["special"]["p"] and verdict.special.n_random == 19
    assert list(verdict.special.interval) == content["claims"][0]["special"]["interval"]
    assert verdict.claim("probe", "layer") is verdict.claims[0] and verdict.sentence == content["claims"][0]["sentence"]
    assert verdict.ceiling[0].mean("mc2") == content["ceiling"][0]["mc2"]["mean"] and verdict.ceiling[0].mean("kl") is None
    assert verdict.claims[0].by_question == {question: verdict.claims[0].finding(question) for question in QUESTIONS}
    for wrong in (lambda: verdict.claim("other"), lambda: verdict.places("elsewhere"), lambda: verdict.claims[0].finding("read")):
        with pytest.raises(KeyError):
            wrong()


def test_a_record_cannot_be_changed(content):
    verdict = Verdict.parse(content)
    with pytest.raises(ValueError, match="frozen"):
        verdict.claims[0].special.standing = "supported"
    assert all(isinstance(verdict.places(kind), tuple) for kind in ("base", *KINDS))


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (lambda verdict: verdict.pop("random"), "random"),
        (lambda verdict: verdict.update(note="beyond doubt"), "note"),
        (lambda verdict: verdict.update(claims=[]), "claims"),
        (lambda verdict: verdict.update(schema="locus-verdict/9"), "schema"),
        (lambda verdict: verdict.update(rule_sha256="0" * 63), "rule_sha256"),
        (lambda verdict: verdict.update(unfinished="0"), "unfinished"),
        (lambda verdict: verdict["claims"][0].pop("works"), "claims.0.works"),
        (lambda verdict: verdict["claims"][0]["special"].update(standing="proven"), "claims.0.special.standing"),
        (lambda verdict: verdict["claims"][0]["special"].update(p=True), "claims.0.special.p"),
        (lambda verdict: verdict["claims"][0]["special"].update(p="0.05"), "claims.0.special.p"),
        (lambda verdict: verdict["claims"][0]["special"].update(interval=[0.1]), "claims.0.special.interval"),
        (lambda verdict: verdict["ceiling"][0].update(mc2=0.5), "ceiling.0.measures.mc2"),
        (lambda verdict: verdict["ceiling"][0].update(trials=[]), "ceiling.0.trials"),
    ],
)
def test_what_is_wrong_is_named(content, change, where):
    change(content)
    with pytest.raises(ValueError, match=rf"^{where}"):
        Verdict.parse(content)


def models(kind: type[Part]) -> set[type[Part]]:
    """Every record of the package."""
    return {one for below in kind.__subclasses__() for one in (below, *models(below))}


@pytest.mark.parametrize("model", sorted(models(Part), key=lambda model: model.__name__), ids=lambda model: model.__name__)
def test_every_field_has_a_sentence(model):
    assert model.__doc__ and model.__doc__.rstrip().endswith((".", "?"))
    for name, field in model.model_fields.items():
        assert field.description and field.description.rstrip().endswith((".", "?")), f"{model.__name__}.{name}"


def test_findings_are_made_of_four_answers():
    assert tuple(Findings.model_fields) == QUESTIONS


@pytest.mark.parametrize("name", RECORDS)
def test_the_schemas_in_the_docs_are_current(name):
    text = (ROOT / "docs" / "schemas" / f"{name}.json").read_text(encoding="utf-8")
    assert text == schema_text(name), "write_schemas(Path('docs/schemas'))"
    assert f"schemas/{name}.json" in (ROOT / "docs" / "records.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", VERDICTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_schema_names_every_part_of_a_verdict(path):
    """A reader in another language finds each name in the schema, and none that must be there is missing."""
    schema = json.loads(schema_text("verdict"))
    _hold(json.loads(path.read_text(encoding="utf-8")), schema, schema["$defs"])


def _hold(value, schema, kinds):
    if "$ref" in schema:
        schema = kinds[schema["$ref"].rsplit("/", 1)[1]]
    if options := schema.get("anyOf"):
        of = {dict: ("object",), list: ("array",), str: ("string",), bool: ("boolean",), type(None): ("null",)}
        wanted = of.get(type(value), ("number", "integer"))
        (schema, *_) = [one for one in options if ("$ref" in one and isinstance(value, dict)) or one.get("type") in wanted]
        return _hold(value, schema, kinds) if "$ref" in schema else None
    if isinstance(value, dict) and "properties" in schema:
        assert set(schema["required"]) <= set(value)
        for name, one in value.items():
            inner = schema["properties"].get(name, schema.get("additionalProperties"))
            assert isinstance(inner, dict), name
            _hold(one, inner, kinds)
    elif isinstance(value, list):
        for one in value:
            _hold(one, schema.get("items", {}), kinds)
    return None


UNTYPED, MOST = re.compile(r"\bdict\[str, Any\]"), 28
# Where the JSON of others is read, and written in shapes that others have published.
FOREIGN = (
    "claims/importers/",
    "behaviours/croissant.py",
    "report/attestation.py",
    "report/inspect_log.py",
    "report/model_card.py",
)


def test_dictionaries_of_anything_are_few():
    """At the edge where JSON is read or written, and keyword arguments; everywhere else what a dictionary holds has a name."""
    paths = [path for path in (ROOT / "locus").rglob("*.py") if not any(one in path.as_posix() for one in FOREIGN)]
    count = sum(len(UNTYPED.findall(path.read_text(encoding="utf-8"))) for path in paths)
    assert count <= MOST, f"{count}: a record's fields are named: give it a model in locus/records"
