"""A behaviour as a data set that others' tools load: its questions as JSON lines, and Croissant metadata beside them.

Source: Croissant 1.0, https://docs.mlcommons.org/croissant/docs/croissant-spec.html.
"""

import hashlib
import json
from typing import Any

from locus.behaviours.items import Dataset
from locus.shown import visible

QUESTIONS, METADATA = "questions.jsonl", "croissant.json"
FIELDS = {
    "id": ("its name, unique in the data set", False),
    "question": ("the question as it is asked", False),
    "true": ("answers that are wanted", True),
    "false": ("answers that are not", True),
    "best": ("the best wanted answer", False),
    "group": ("questions of one group are never cut by a split", False),
    "category": ("its topic", False),
    "source": ("where a reader can check the answers", False),
}
TERMS = (
    "citeAs column conformsTo:dct extract field fileProperty fileObject fileSet format includes isLiveDataset jsonPath key md5 "
    "parentField path recordSet references regex repeated replace separator source subField transform"
).split()


def files(dataset: Dataset) -> dict[str, str]:
    """Name -> text of what describes a behaviour and of its questions."""
    lines = "".join(json.dumps(item.to_dict(), ensure_ascii=False) + "\n" for item in dataset.items)
    return {QUESTIONS: lines, METADATA: json.dumps(metadata(dataset, lines), indent=2, ensure_ascii=False) + "\n"}


def metadata(dataset: Dataset, lines: str) -> dict[str, Any]:
    """The Croissant of a behaviour.

    Args:
        dataset: the behaviour.
        lines: the text of its questions.
    """
    content = lines.encode()
    held = {
        "@type": "cr:FileObject",
        "@id": QUESTIONS,
        "name": QUESTIONS,
        "contentUrl": QUESTIONS,
        "contentSize": f"{len(content)} B",
        "encodingFormat": "application/jsonlines",
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    fields = [_field(name, about, repeated) for name, (about, repeated) in FIELDS.items()]
    said = f"{len(dataset.items)} questions with wanted and unwanted answers; sha256 of its content {dataset.sha256}"
    records = {"@type": "cr:RecordSet", "@id": "questions", "name": "questions", "key": {"@id": "questions/id"}, "field": fields}
    described: dict[str, Any] = {
        "@context": _context(),
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": visible(dataset.name, 100),
        "description": said,
        "version": "1.0.0",
        "distribution": [held],
        "recordSet": [records],
    }
    described |= {"license": visible(dataset.licence, 200)} if dataset.licence else {}
    return described | ({"citeAs": visible(dataset.origin, 400)} if dataset.origin else {})


def _field(name: str, about: str, repeated: bool) -> dict[str, Any]:
    source = {"fileObject": {"@id": QUESTIONS}, "extract": {"column": name}}
    kept: dict[str, Any] = {"@type": "cr:Field", "@id": f"questions/{name}", "name": name, "description": about}
    return kept | {"dataType": "sc:Text", "source": source} | ({"repeated": True} if repeated else {})


def _context() -> dict[str, Any]:
    """The words of the format, as its description has them."""
    named: dict[str, Any] = {"@language": "en", "@vocab": "https://schema.org/", "cr": "http://mlcommons.org/croissant/"}
    named |= {"dct": "http://purl.org/dc/terms/", "rai": "http://mlcommons.org/croissant/RAI/", "sc": "https://schema.org/"}
    for term in TERMS:
        word, _, room = term.partition(":")
        named[word] = f"{room or 'cr'}:{word}"
    for word, kind in (("data", "@json"), ("examples", "@json"), ("dataType", "@vocab")):
        named[word] = {"@id": f"cr:{word}", "@type": kind}
    return named
