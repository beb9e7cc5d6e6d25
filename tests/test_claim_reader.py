"""Claims are read as meant or refused in one sentence: every form of docs/claims.md, and whatever else a file may hold."""

import io
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st

from locus.claims import Claim, forms, given
from locus.errors import UserError
from locus.sites.kind import kind_of
from locus.sites.space import SiteSpace

PAGE = (Path(__file__).parents[1] / "docs" / "claims.md").read_text()
EXAMPLES = re.findall(r"\| `([\[{].*[\]}])` \|", PAGE)
NAMES = re.findall(r"^\| `([^`]+)`.* \| (?:locus|the literature|circuit files|TransformerLens) \|", PAGE, re.MULTILINE)
quiet = pytest.mark.filterwarnings("ignore::locus.claims.forms.HeadsAlone")


def write(folder, content, name="claim.json"):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def npy(array, **options):
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


@quiet
@pytest.mark.parametrize("text", EXAMPLES)
def test_every_example_of_the_page_is_read_from_a_file_and_as_a_text(text, tmp_path):
    assert len(EXAMPLES) >= 9
    assert given(write(tmp_path, text)).location.names == given(text).location.names == ["1.0", "2.3"]


@pytest.mark.parametrize("name", NAMES)
def test_every_name_of_the_page_is_a_head(name, tmp_path):
    assert len(NAMES) == 4
    assert given(name).location.names == ["1.0"]
    assert given(write(tmp_path, f"{name}\r\n2.3\n", "mine.txt")).location.names == ["1.0", "2.3"]
    assert given(f"{name}, L2H3").location.names == ["1.0", "2.3"]


@quiet
@pytest.mark.parametrize("form", forms.FORMS, ids=lambda form: form.name)
def test_every_form_of_the_table_reads_its_own_example_alone(form):
    content = json.loads(form.example)
    content = np.array(content) if form.name.startswith("an array") else content
    assert [other.name for other in forms.FORMS if other.recognises(content)] == [form.name]
    assert form.read(content).location.names[0] == "1.0"


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<i4", ">i8", "u1"])
def test_arrays_of_indices_and_masks(tmp_path, order, dtype):
    pairs = np.asarray([[1, 0], [2, 3]], dtype=dtype, order=order)
    assert given(write(tmp_path, npy(pairs), "heads.npy")).location.names == ["1.0", "2.3"]
    mask = np.zeros((3, 4), dtype=bool, order=order)
    mask[1, 0] = mask[2, 3] = True
    claim = given(write(tmp_path, npy(mask), "mask.npy"))
    assert claim.location.names == ["1.0", "2.3"] and claim.name == "mask"
    claim.fits(SiteSpace(kind_of("head"), (4,) * 3))
    for shape in ((4, 4), (3, 5)):
        with pytest.raises(UserError, match="3 by 4"):
            claim.fits(SiteSpace(kind_of("head"), (shape[1],) * shape[0]))


def test_a_mask_keeps_its_shape_in_a_file_of_ours(tmp_path):
    given("[[false, true], [false, false]]").save(tmp_path / "again.json")
    again = given(str(tmp_path / "again.json"))
    assert again.location.names == ["0.1"]
    with pytest.raises(UserError, match="2 by 2"):
        again.fits(SiteSpace(kind_of("head"), (2,) * 3))


WRONG = {
    "negative": "[[-1, 0], [2, 3]]",
    "negative text": "-1.0",
    "floats": "[[1.0, 0.0]]",
    "floats for names": "[1.0, 2.3]",
    "one flat pair": "[9, 6]",
    "scores": '{"1.0": 0.9, "2.3": 0.1}',
    "NaN scores": '{"name": "x", "origin": "x", "heads": ["1.0"], "scores": {"1.0": NaN}}',
    "infinite scores": '{"name": "x", "origin": "x", "heads": ["1.0"], "scores": {"1.0": 1e999}}',
    "scores as text": '{"name": "x", "origin": "x", "heads": ["1.0"], "scores": {"1.0": "high"}}',
    "a list for scores": '{"name": "x", "origin": "x", "heads": ["1.0"], "scores": [1]}',
    "numbers for names": '{"name": "x", "origin": "x", "heads": [1.0]}',
    "a fingerprint that is none": '{"name": "x", "origin": "x", "heads": ["1.0"], "about": {"model_fingerprint": 3}}',
    "heads twice": '["1.0", "1.0"]',
    "heads twice, by other names": '["1.0", "L1H0"]',
    "pairs twice": "[[1, 0], [1, 0]]",
    "by layer twice": '{"1": [0, 0]}',
    "a key twice": '{"1": [0], "1": [2]}',
    "many digits": "[[" + "1" * 5000 + ", 0]]",
    "many digits in a text": "1" * 5000 + ".0",
    "many digits in a name": '["' + "1" * 5000 + '.0"]',
    "leading zeros": "01.2",
    "nested": "[" * 10_000 + "]" * 10_000,
    "nested objects": '{"heads":' * 10_000 + "1" + "}" * 10_000,
    "two meanings": '{"heads": [[1, 0], [2, 3]], "layers": [1, 2]}',
    "two meanings, other keys": '{"1": [0], "heads": [[2, 3]]}',
    "unknown keys in a claim of ours": '{"name": "x", "origin": "x", "heads": ["1.0"], "more": 1}',
    "nothing": "",
    "blank": " \n ",
    "an empty list": "[]",
    "an empty object": "{}",
    "no heads": '{"heads": []}',
    "no heads in a layer": '{"1": []}',
    "an empty mask": "[[false, false], [false, false]]",
    "a ragged mask": "[[false, true], [true]]",
    "numbers in a mask": "[[false, 1], [true, 0]]",
    "mixed": '["1.0", [2, 3]]',
    "an mlp": '["1.0", "m3"]',
    "triples": "[[1, 0, 2]]",
    "deep pairs": "[[[1, 0]]]",
    "objects": '[{"layer": 1, "head": 0}]',
    "a circuit of nothing": '{"nodes": {"m3": true}}',
    "a circuit of scores": '{"nodes": {"a1.h0": {"in_graph": false, "score": 1}}}',
    "a circuit at odds with itself": '{"nodes": {"a1.h0": true}, "edges": ["a2.h0->m2"]}',
    "a circuit with more": '{"nodes": {"a1.h0": true}, "heads": ["2.3"], "origin": 3}',
    "a text": '"1.0"',
    "null": "null",
    "other digits": "١.٠",
    "half a surrogate": '["\\ud800"]',
}


@quiet
@pytest.mark.parametrize("content", WRONG.values(), ids=WRONG)
def test_what_cannot_be_read_as_meant_is_refused_in_a_sentence(content, tmp_path):
    for text in (write(tmp_path, content), content):
        with pytest.raises(UserError) as caught:
            given(text)
        assert len(str(caught.value)) < 800 and "\n" not in str(caught.value)


HUGE = npy(np.zeros((1, 2), dtype=np.int64)).replace(b"(1, 2), }  ", b"(999999999999, 2), }")[:128]
ARRAYS = {
    "objects": npy(np.array([{"a": 1}], dtype=object), allow_pickle=True),
    "a huge one": HUGE,
    "a long product": npy(np.zeros((1, 2), dtype=np.int64)).replace(b"(1, 2), }" + b" " * 18, b"(999999999, 999999999), }  "),
    "cut": npy(np.array([[1, 0], [2, 3]]))[:-3],
    "too long": npy(np.array([[1, 0], [2, 3]])) + b"\0",
    "floats": npy(np.array([[1.0, 0.0]])),
    "complex": npy(np.array([[1j, 0]])),
    "texts": npy(np.array([["1", "0"]])),
    "negative": npy(np.array([[-1, 0]])),
    "flat": npy(np.array([1, 0])),
    "no axes": npy(np.array(1)),
    "empty": npy(np.zeros((0, 2), dtype=int)),
    "an empty mask": npy(np.zeros((0, 0), dtype=bool)),
    "a mask of three axes": npy(np.ones((2, 2, 2), dtype=bool)),
    "a mask of 0 and 1": npy(np.array([[0, 1, 0], [1, 0, 0]], dtype=np.uint8)),
    "a structured one": npy(np.zeros(2, dtype=[("layer", int), ("head", int)])),
    "code for a header": b"\x93NUMPY\x01\x00" + (80).to_bytes(2, "little") + b"{'descr': __import__('os').abort()}".ljust(80),
    "magic alone": b"\x93NUMPY",
    "no array": b"\x00\x01\x02",
    "a zip": b"PK\x03\x04" + bytes(40),
}


@pytest.mark.parametrize("content", ARRAYS.values(), ids=ARRAYS)
def test_arrays_of_anything_else_are_refused(content, tmp_path):
    with pytest.raises(UserError):
        given(write(tmp_path, content, "heads.npy"))


def test_what_is_no_regular_file_is_refused_at_once(tmp_path):

    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "dangling.json").symlink_to("nowhere")
    with (tmp_path / "large.json").open("wb") as file:
        file.truncate(9 << 20)
    names = [
        tmp_path / "pipe.json",
        tmp_path / "dangling.json",
        tmp_path / "large.json",
        tmp_path,
        "/dev/zero",
        "a\0b",
        "x" * 9000,
    ]
    for name in map(str, names):
        for text in (name, f"patch:{name}"):
            with pytest.raises(UserError):
                given(text)


def test_a_patching_run_whose_claim_is_no_claim_is_refused(tmp_path):
    for content in ("[]", "{}", '{"claim": 3, "maps": [{"site": "head", "components": []}]}', "[" * 9999, "NaN", "\0"):
        write(tmp_path, content, "patch.json")
        with pytest.raises(UserError):
            given(f"patch:{tmp_path}")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "patch.json").symlink_to(tmp_path / "patch.json")
    with pytest.raises(UserError, match="through a link"):
        given(f"patch:{elsewhere}")


AMBIGUOUS = {
    "heads and scores": ("heads.csv", "L9H6,0.9\nL9H9,0.8\n", "a head and its score"),
    "a head and a score": ("heads.csv", "L9H6,0.9\n", "in another notation, or a score"),
    "dotted heads and scores": ("heads.csv", "9.6,0.9\n9.9,0.8\n", "a head and its score"),
    "a table with tabs": ("heads.tsv", "9.6\t0.93\n10.0\t0.9\n", "a head and its score"),
    "scores above 1": ("heads.tsv", "9.6 12.93\n10.0 3.9\n", "a head and its score"),
    "scores alone": ("scores.txt", "0.91\n0.83\n0.5\n", "or scores"),
    "scores in a row": ("scores.txt", "0.9 0.8", "or scores"),
    "heads of layer 0 and others": ("heads.txt", "0.1\nL2H3\n", "in another notation, or a score"),
    "a head kept and not": ("heads.json", '{"1.0": true, "L1H0": false}', "more than once"),
    "a node kept and not": ("heads.json", '{"nodes": {"a1.h0": true, "L1H0": false}}', "more than once"),
    "a node twice": ("heads.json", '{"nodes": ["a1.h0", "a2.h0", "a1.h0"]}', "more than once"),
    "an edge without an end": ("heads.json", '{"edges": ["a1.h0->->m1"]}', "an edge"),
    "an edge of three": ("heads.json", '{"edges": ["a1.h0->a2.h0->m3"]}', "an edge"),
    "a node that is an edge": ("heads.json", '{"nodes": ["a1.h0->m1"]}', "a node"),
    "a mask of 0 and 1": ("heads.json", "[[0, 1], [1, 0]]", "or a mask"),
    "a mask of 0 and 1 within": ("heads.json", '{"heads": [[0, 1], [1, 0]]}', "or a mask"),
    "a mask of 0 and 1 as an array": ("heads.npy", npy(np.array([[0, 1], [1, 0], [0, 0]])), "or a mask"),
    "a circuit with a text for cfg": ("heads.json", '{"nodes": ["a1.h0"], "cfg": "gpt2"}', "where an object belongs"),
    "a circuit with odd sizes": ("heads.json", '{"nodes": ["a1.h0"], "cfg": {"n_layers": "12"}}', "sizes"),
}


@pytest.mark.parametrize("kind", AMBIGUOUS)
def test_what_reads_in_two_ways_is_refused_naming_both(kind, tmp_path):
    name, content, said = AMBIGUOUS[kind]
    with pytest.raises(UserError, match=said):
        given(write(tmp_path, content, name))


def test_typed_heads_of_layer_0_are_heads_unless_they_look_like_scores(tmp_path):
    assert given("0.1,0.2").location.names == ["0.1", "0.2"]
    assert given("L0H91,L0H83").location.names == ["0.83", "0.91"]
    assert given("1.91,0.83").location.names == ["0.83", "1.91"]
    assert given(write(tmp_path, "0.91\n", "heads.txt")).location.names == ["0.91"]
    assert given(write(tmp_path, "1.0 2.3\n4.5\n", "heads.txt")).location.names == ["1.0", "2.3", "4.5"]
    with pytest.raises(UserError, match="or scores"):
        given("0.91 0.83")


def test_a_circuit_is_held_against_the_model_that_it_names(tmp_path):
    cfg = {"model_name": "EleutherAI/pythia-70m", "n_layers": 6, "n_heads": 8}
    claim = given(write(tmp_path, json.dumps({"nodes": ["a1.h0"], "cfg": cfg}), "circuit.json"))
    claim.check("", SiteSpace(kind_of("head"), (8,) * 6), "./models/Pythia-70M")
    for sizes in ((6, 12), (12, 8)):
        with pytest.raises(UserError, match="whose cfg says n_"):
            claim.check("", SiteSpace(kind_of("head"), (sizes[1],) * sizes[0]), "pythia-70m")
    with pytest.raises(UserError, match="of 'EleutherAI/pythia-70m'"):
        claim.check("", SiteSpace(kind_of("head"), (8,) * 6), "gpt2")


NAMES_ALIKE = ["1.0", "L2H3", "a1.h0", "m1", "blocks.1.attn.hook_z[0]", "x", ""]
KEYS = ["1", "2", "1.0", "L1H1", "heads", "origin", "name", "scores", "about", "nodes", "edges"]
numbers = st.integers(-2, 4) | st.floats() | st.booleans() | st.integers()
leaves = st.none() | numbers | st.sampled_from(NAMES_ALIKE) | st.text(max_size=4)
keys = st.sampled_from(KEYS) | st.text(max_size=3)
rows = st.lists(st.lists(numbers, max_size=3))
values = st.recursive(
    leaves, lambda one: st.lists(one, max_size=4) | st.dictionaries(keys, one, max_size=4) | rows, max_leaves=12
)


def claim_or_refusal(text):
    try:
        claim = given(text)
    except UserError as error:
        return str(error)
    assert isinstance(claim, Claim) and claim.location.sites and claim.name
    assert all(0 <= number < 100_000 for site in claim.location.sites for number in (site.layer, site.index))
    json.dumps(claim.to_dict(), allow_nan=False)
    return claim


@quiet
@settings(max_examples=400)
@drawn(values)
def test_any_json_is_a_claim_or_refused_and_no_two_forms_recognise_it(value):
    assert sum(form.recognises(value) for form in forms.FORMS) <= 1
    claim_or_refusal(json.dumps(value))
    if isinstance(value, list | dict):
        claim_or_refusal(json.dumps({"heads": value, "origin": "x"}))


@quiet
@settings(max_examples=300)
@drawn(content=st.binary(max_size=60) | st.text(max_size=60).map(str.encode), data=st.data())
def test_any_bytes_are_a_claim_or_refused(tmp_path_factory, content, data):
    whole = npy(np.array([[1, 0], [2, 3]]))
    at = data.draw(st.integers(0, len(whole) - 1))
    bent = whole[:at] + bytes([data.draw(st.integers(0, 255))]) + whole[at + 1 : data.draw(st.integers(at, len(whole)))]
    folder = tmp_path_factory.getbasetemp()
    for written in (content, b"\x93NUMPY" + content, bent):
        claim_or_refusal(write(folder, written, "any.npy"))


@settings(max_examples=200)
@drawn(st.lists(st.tuples(st.integers(0, 99_999), st.integers(0, 99_999)), min_size=1, max_size=5, unique=True))
def test_the_same_heads_in_every_form_are_the_same_claim(heads):
    names = [f"{layer}.{head}" for layer, head in sorted(heads)]
    layers = {str(layer): [head for one, head in heads if one == layer] for layer, _ in heads}
    said = [",".join(f"L{layer}H{head}" for layer, head in heads), json.dumps(heads), json.dumps(layers)]
    said += [json.dumps({f"blocks.{layer}.attn.hook_z[{head}]": True for layer, head in heads}), "\n".join(names)]
    assert all(given(text).location.names == names for text in said)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("(12, 3), (14, 0)", ("12.3", "14.0")),  # as papers write heads
        ("(12,3)", ("12.3",)),
        ("# Table 2 of a paper\n12.3\n# and its last line\n14.0\n", ("12.3", "14.0")),
        ('{"paper": "Doe 2025", "year": 2025, "heads": [[12, 3], [14, 0]]}', ("12.3", "14.0")),
    ],
)
def test_lists_as_papers_have_them(tmp_path, text, names):
    file = tmp_path / "heads.txt"
    file.write_text(text)
    assert tuple(given(str(file)).location.names) == names


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("n1.999999", "at most five digits"),
        ("mlp.0,0.0", "several kinds|by itself|together"),
        ("(1, 0), (0, 1)", "a mask of two heads a layer"),
    ],
)
def test_what_a_hurried_person_types_is_named(text, said):
    with pytest.raises(UserError, match=said):
        given(text)


def test_a_vector_without_its_layer_is_told_how_a_direction_is_written(tmp_path):
    np.save(tmp_path / "v.npy", np.ones(8, dtype=np.float32))
    with pytest.raises(UserError, match=r"FILE\.npy@12"):
        given(str(tmp_path / "v.npy"))
