"""Every published shape of a claim is read as published; what is broken or not said is refused in one sentence."""

import json
import math
import pickle
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings
from hypothesis import given as drawn
from hypothesis import strategies as st
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_torch
from typer.testing import CliRunner

import locus
from locus import registry
from locus.claims import given, importers
from locus.claims.direction import vectors_of
from locus.claims.importers import nodes, opening
from locus.claims.importers.hooks import site_of
from locus.claims.importers.source import Source
from locus.claims.published import LeftOut
from locus.cli.app import app
from locus.errors import UserError
from locus.sites.kind import kind_of
from locus.sites.space import SiteSpace

RUNNER = CliRunner()
pytestmark = pytest.mark.filterwarnings("ignore::locus.claims.published.LeftOut", "ignore::locus.claims.forms.HeadsAlone")
CFG = {"n_layers": 3, "n_heads": 4, "parallel_attn_mlp": False, "d_model": 32, "model": "toy-3l"}
RNG = np.random.default_rng(0)
TABLE = RNG.normal(size=(3, 4)).round(6) ** 2
BEST = [f"{index // 4}.{index % 4}" for index in np.argsort(-TABLE, axis=None)]


def graph(scored="nodes", marked=(), **more):
    """A circuit as EAP-IG's Graph.to_json writes it."""
    names = ["input", *(f"a{layer}.h{head}" for layer in range(3) for head in range(4)), "m0", "m1", "m2", "logits"]
    table = {name: {"in_graph": name in marked} for name in names}
    edges = {f"{name}->logits": {"score": 0.0, "in_graph": False} for name in names[:-1]} | {
        "a0.h1->a2.h3<q>": {"score": 0.0, "in_graph": False}
    }
    if scored == "nodes":
        for name in names[1:-1]:
            table[name]["score"] = float(TABLE[int(name[1]), int(name[4])]) if name[0] == "a" else 0.5
    if scored == "edges":
        edges["a0.h1->a2.h3<q>"]["score"], edges["a1.h0->logits"]["score"], edges["m1->logits"]["score"] = 0.9, 0.4, 0.7
        edges["a2.h2->logits"]["score"] = -0.6
    return {"cfg": CFG, "nodes": table, "edges": edges, **more}


def write(folder, content, name="claim.json"):
    path = folder / name
    if isinstance(content, np.ndarray):
        np.save(path, content, allow_pickle=True)
    elif isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


def sae(folder, part="#3", **changes):
    weights = {"W_dec": RNG.normal(size=(8, 6)).astype(np.float32), "W_enc": np.zeros((6, 8), np.float32)}
    weights |= changes.pop("weights", {})
    config = {
        "architecture": "standard",
        "d_in": 6,
        "d_sae": 8,
        "metadata": {"hook_name": "blocks.2.hook_resid_pre", "model_name": "toy"},
    }
    place = folder / "sae"
    place.mkdir(exist_ok=True)
    save_file(weights, place / "sae_weights.safetensors")
    (place / "cfg.json").write_text(json.dumps(config | changes))
    return f"{place}{part}"


def adapter(folder, factors=None, **config):
    place = folder / "adapter"
    place.mkdir(exist_ok=True)
    front = "base_model.model.model.layers"
    factors = factors or {f"{front}.{layer}.{name}": 4 for layer, name in ((1, "self_attn.o_proj"), (2, "mlp.down_proj"))}
    tensors = {f"{name}.lora_A.weight": torch.ones(rank, 6) for name, rank in factors.items()}
    tensors |= {f"{name}.lora_B.weight": torch.ones(6, 4) for name in factors}
    save_torch(tensors, place / "adapter_model.safetensors")
    (place / "adapter_config.json").write_text(
        json.dumps({"peft_type": "LORA", "r": 4, "base_model_name_or_path": "toy"} | config)
    )
    return str(place)


def control(folder, arch="controlvector", vectors=None, name="vector.gguf"):
    writer = gguf.GGUFWriter(folder / name, arch)
    writer.add_string("controlvector.model_hint", "llama")
    writer.add_uint32("controlvector.layer_count", 2)
    for label, vector in (
        vectors or {"direction.1": np.ones(6, np.float32), "direction.2": np.arange(6, dtype=np.float32)}
    ).items():
        writer.add_tensor(label, vector)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return str(folder / name)


def vectors(folder, tensors=None, name="vectors.safetensors"):
    save_file(
        tensors or {"blocks.1.hook_resid_post": np.ones((1, 6), np.float32), "blocks.2.hook_resid_pre": np.ones(6, np.float32)},
        folder / name,
    )
    return str(folder / name)


ACDC = [
    [["blocks.2.attn.hook_q", [None, None, 3], "blocks.0.attn.hook_result", [None, None, 1]], 0.9],
    [["blocks.2.hook_resid_post", [None], "blocks.1.attn.hook_result", "[:, :, 0]"], 0.4],
    [["blocks.2.hook_mlp_in", [None], "blocks.0.hook_mlp_out", [None]], 0.2],
]
EAP = [["head.0.1", "head.2.3.q", 0.9], ["head.1.0", "resid_post.2", 0.4], ["mlp.0", "mlp.2", 0.2]]
SVEC = {"model_type": "llama", "directions": {"1": [[0.1] * 4] * 4}, "num_heads": 4, "head_dim": 4}
# Shape -> how it is written, what stands behind it, and the heads that it then claims.
HEADS = {
    "mib": [
        (lambda at: write(at, graph(), "importances.json"), "#4", BEST[:4]),
        (lambda at: write(at, graph("edges")), "#3,absolute", ["0.1", "2.2", "2.3"]),
        (lambda at: write(at, graph("edges")), "#3,largest", ["0.1", "1.0", "2.3"]),
        (lambda at: write(at, graph("", marked=("a1.h0", "a2.h3", "m1"))), "", ["1.0", "2.3"]),
    ],
    "edges": [
        (lambda at: write(at, ACDC), "#3", ["0.1", "1.0", "2.3"]),
        (lambda at: write(at, EAP), "#2", ["0.1", "2.3"]),
        (lambda at: write(at, {"a0.h1->a2.h3<k>": 0.9, "a1.h0->logits": 0.4}), "#all", ["0.1", "1.0", "2.3"]),
        (lambda at: write(at, ["a0.h1->a2.h3<k>", "a1.h0->logits"]), "", ["0.1", "1.0", "2.3"]),
        (
            lambda at: write(at, "sender,receiver,score\nhead.0.1,head.2.3.v,0.9\nmlp.1,head.1.0.q,0.4\n", "edges.csv"),
            "#2",
            ["0.1", "2.3"],
        ),
        (lambda at: write(at, [{"from": "L0H1", "to": "L2H3"}, {"from": "L1H0", "to": "logits"}]), "", ["0.1", "1.0", "2.3"]),
    ],
    "head-scores": [
        (lambda at: write(at, TABLE, "accuracies.npy"), "#4", BEST[:4]),
        (lambda at: write(at, TABLE.astype(np.float32), "accuracies.npy"), "#25%", BEST[:3]),
        (lambda at: write(at, TABLE.tolist()), "#4", BEST[:4]),
        (lambda at: write(at, {"L1H0": 0.5, "2.3": 0.7, "m1": 0.9, "L0H1": 0.1}), "#2", ["1.0", "2.3"]),
        (lambda at: write(at, "Layer,Head,Score,std\n1,0,0.5,0\n2,3,0.7,0\n0,1,0.1,0\n", "heads.csv"), "#2", ["1.0", "2.3"]),
        (lambda at: write(at, "head\taccuracy\nL1H0\t0.5\nL2H3\t0.7\n", "heads.tsv"), "#1", ["2.3"]),
    ],
    "function-vectors": [
        (lambda at: write(at, [[1, 0, 0.05], [2, 3, 0.07], [0, 1, -0.2]], "top.json"), "#2", ["1.0", "2.3"]),
        (lambda at: write(at, np.array([[1, 0, 0.05], [2, 3, 0.07]]), "top.npy"), "#all", ["1.0", "2.3"]),
        (lambda at: "function-vectors:" + write(at, np.stack([TABLE - 1, TABLE + 1]), "aie.npy"), "#4", BEST[:4]),
    ],
    "lofit": [
        (lambda at: write(at, np.array([[2, 3], [0, 1], [1, 0]]), "top.npy"), "#2", ["0.1", "2.3"]),
        (lambda at: write(at, np.array([[2, 3], [0, 1], [1, 0]]), "top.npy"), "", ["0.1", "1.0", "2.3"]),
    ],
    "steering-vector": [
        (
            lambda at: write(at, SVEC | {"probe_accuracies": {"1:0": 0.8, "2:3": 0.9, "0:1": 0.5}}, "iti.svec"),
            "#2",
            ["1.0", "2.3"],
        ),
    ],
}
# Shape -> how it is written, and where its directions or modules lie.
OTHERS = {
    "peft": [(adapter, ["attn.1", "mlp.2"])],
    "sae": [
        (sae, ["resid.2"]),
        (lambda at: sae(at, hook_name="blocks.2.attn.hook_z", metadata=None, hook_head_index=1), ["2.1"]),
        (lambda at: sae(at, hook_name="blocks.2.hook_mlp_out", metadata=None), ["mlp.2"]),
    ],
    "control-vector": [(control, ["resid.2", "resid.3"])],
    "vectors": [
        (vectors, ["resid.2", "resid.2"]),
        (lambda at: vectors(at, {"layer_3": np.ones(6, np.float16)}), [""]),
    ],
    "steering-vector": [
        (lambda at: write(at, SVEC, "caa.svec"), [""]),
        (lambda at: write(at, {"layer_activations": {"1": [1.0, 2.0]}, "layer_type": "decoder_block"}), ["resid.2"]),
        (lambda at: write(at, {"layer_activations": {"1": [1.0, 2.0]}, "layer_type": "mlp"}), ["mlp.1"]),
    ],
}
READ = [(name, number) for name, cases in HEADS.items() for number in range(len(cases))]
KEPT = [(name, number) for name, cases in OTHERS.items() for number in range(len(cases))]


def test_every_importer_of_the_package_is_tried_here():
    assert {*HEADS, *OTHERS, "pickle"} == set(registry.entries("importers")) == set(BROKEN)
    for name in registry.entries("importers"):
        module = registry.entry("importers", name).target.partition(":")[0]
        text = importers.__path__[0] + "/" + module.rpartition(".")[2] + ".py"
        with open(text) as file:
            assert "Source:" in file.read(), f"{name} says whose shape it is"


@pytest.mark.parametrize(("name", "number"), READ)
def test_a_published_shape_is_read_and_comes_back_from_our_own_format(name, number, tmp_path):
    make, part, heads = HEADS[name][number]
    path = make(tmp_path)
    said = locus.published(path)
    assert said.importer == name
    claim = given(path + part)
    assert claim.location.names == sorted(heads) and claim.about["importer"] == name and claim.about["sha256"]
    assert list(claim.scores) == sorted(
        claim.scores, key=lambda one: -abs(claim.scores[one]) if "abs" in part else -claim.scores[one]
    )
    claim.save(tmp_path / "ours.json")
    again = given(str(tmp_path / "ours.json"))
    assert (again.location, again.scores, again.about, again.name) == (claim.location, claim.scores, claim.about, claim.name)
    for other in registry.entries("importers").keys() - {name}:
        with pytest.raises(UserError):
            opening.read(opening.get(other), source(path.removeprefix(f"{name}:")))


def source(path):
    return Source(Path(path), "a claim")


# Directions of the stream, at the layers that their file says; of the others the word that is said.
DIRECTED = {("sae", 0): (2,), ("control-vector", 0): (2, 3), ("steering-vector", 1): (2,)}
OTHERWISE = {"peft": "name sites of one kind", "sae": "of the stream", "vectors": "two at layer 2|which layer"}
OTHERWISE["steering-vector"] = "which layer|of the stream"


@pytest.mark.filterwarnings("ignore::locus.claims.direction.NotUnit")
@pytest.mark.parametrize(("name", "number"), KEPT)
def test_what_is_no_claim_of_heads_is_read_whole_and_claimed_where_it_says_where(name, number, tmp_path):
    make, places = OTHERS[name][number]
    path = make(tmp_path)
    said = locus.published(path)
    assert said.importer == name and (list(said.named) or [one.site for one in said.directions]) == places
    assert all(one.vector.dtype == np.float32 and np.isfinite(one.vector).all() for one in said.directions)
    if (layers := DIRECTED.get((name, number))) is not None:
        claim = given(path)
        assert claim.location.layers == layers and claim.about["importer"] == name
        held, width = vectors_of([claim]), len(said.directions[0].vector)
        assert {len(vector) for vector in held.values()} == {width}
        for site, one in zip(claim.location.sites, said.directions, strict=True):
            np.testing.assert_allclose(held[site.index], one.vector / np.linalg.norm(one.vector), atol=1e-6)
        return
    with pytest.raises(UserError, match=OTHERWISE[name]):
        given(path)


@pytest.mark.filterwarnings("ignore::locus.claims.direction.NotUnit")
def test_the_layer_behind_an_at_is_where_the_file_leaves_it_open(tmp_path):
    with pytest.raises(UserError, match="of the stream entering a layer"):
        given(sae(tmp_path) + "@3")  # its hook says 2
    assert given(sae(tmp_path) + "@2").location.layers == (2,)
    assert given(vectors(tmp_path, {"layer_3": np.ones(6, np.float32)}) + "@3-4").location.layers == (3, 4)


def test_a_feature_is_its_row_of_the_decoder(tmp_path):
    weights = RNG.normal(size=(8, 6)).astype(np.float32)
    (one,) = locus.published(sae(tmp_path, "#5", weights={"W_dec": weights})).directions
    assert (one.vector == weights[5]).all() and one.label == "feature 5"


def test_a_control_vector_has_the_numbers_of_its_file(tmp_path):
    rows = {f"direction.{layer}": RNG.normal(size=6).astype(np.float32) for layer in (3, 1, 2)}
    said = locus.published(control(tmp_path, vectors=rows))
    assert [one.label for one in said.directions] == ["direction.1", "direction.2", "direction.3"]
    assert all((one.vector == rows[one.label]).all() for one in said.directions)


def test_half_precision_is_read_as_it_is(tmp_path):
    save_torch({"blocks.0.hook_resid_pre": torch.tensor([1.5, -2.0], dtype=torch.bfloat16)}, tmp_path / "v.safetensors")
    assert locus.published(str(tmp_path / "v.safetensors")).directions[0].vector.tolist() == [1.5, -2.0]


NAN = float("nan")
# Shape -> broken files of it, and a word of the sentence that each gets.
BROKEN = {
    "mib": [
        (lambda at: write(at, graph() | {"weights": 3}), "beside cfg"),
        (lambda at: write(at, json.dumps(graph()).replace('"score": 0.5', '"score": NaN')), "NaN"),
        (lambda at: write(at, json.dumps(graph()).replace("a1.h0", "a-1.h0")), "no node"),
        (lambda at: write(at, json.dumps(graph()).replace('"score": 0.5', '"score": "high"')), "high"),
        (lambda at: write(at, graph() | {"cfg": 3}), "cfg"),
        (lambda at: write(at, {"nodes": {"a1.h0": {"in_graph": True}, "L1H0": {"in_graph": False}}}), "more than once"),
        (lambda at: write(at, {"nodes": {"a1.h0": {"in_graph": True, "score": 1}, "a1.h1": {"in_graph": True}}}), "1 of 2"),
        (lambda at: write(at, graph() | {"edges": {"a0.h1->a2.h3->m1": {"score": 1.0}}}), "an edge"),
        (
            lambda at: write(
                at, graph(marked=("a1.h0",)) | {"edges": {"a0.h1->m1": {"in_graph": True}, "m1->m2": {"in_graph": False}}}
            ),
            "name different heads",
        ),
        (lambda at: write(at, graph()) + "#99", "from 1 to 12"),
    ],
    "edges": [
        (lambda at: write(at, [*EAP, EAP[0]]), "more than once"),
        (lambda at: write(at, [*EAP, ["head.1.0", "head.2.-1", 0.3]]), "no node"),
        (lambda at: write(at, [["head.1.0", "head.2.1", 0.3], ["head.1.0", "head.2.2"]]), "1 of 2 edges"),
        (lambda at: write(at, [["head.1.0", "head.2.1", "a lot"]]), "one score"),
        (lambda at: write(at, [["blocks.1.attn.hook_q", [None, None, -3], "hook_embed", [None]]]), "index of a hook"),
        (lambda at: write(at, [["blocks.1.attn.hook_q", [None], "hook_embed", [None]]]), "every head of a layer"),
        (lambda at: write(at, "from,to,score\nL1H0,L2H3,1e999\n", "edges.csv"), "no finite number"),
        (lambda at: write(at, "from,to,score\nL1H0,L2H3\n", "edges.csv"), "row 2 has 2 cells"),
        (lambda at: write(at, EAP), "how many"),
    ],
    "head-scores": [
        (lambda at: write(at, np.where(TABLE.max() == TABLE, NAN, TABLE), "a.npy") + "#2", "nan for the head"),
        (lambda at: write(at, TABLE.reshape(-1), "a.npy") + "#2", "reshape"),
        (lambda at: write(at, TABLE, "a.npy"), "how many"),
        (lambda at: write(at, TABLE - 1, "a.npy") + "#2", "negative scores"),
        (lambda at: write(at, np.ones((3, 4)), "a.npy") + "#3", "cut through"),
        (lambda at: write(at, TABLE, "a.npy") + "#1%", "less than one"),
        (lambda at: write(at, TABLE, "a.npy") + "#-2", "behind the #"),
        (lambda at: write(at, {"L1H0": 0.5, "1.0": 0.7}) + "#1", "more than once"),
        (lambda at: write(at, {"L1H0": 0.5, "L2H0": None}) + "#1", "where a score"),
        (lambda at: write(at, "layer,head,score\n1,0,0.5\n1,0,0.7\n", "h.csv") + "#1", "more than once"),
        (lambda at: write(at, "layer,head,score\n-1,0,0.5\n", "h.csv") + "#1", "no count"),
        (lambda at: write(at, "layer,head,score\n1,0,nan\n", "h.csv") + "#1", "no finite number"),
    ],
    "function-vectors": [
        (lambda at: write(at, np.stack([TABLE, TABLE]), "aie.npy") + "#2", "may be activations"),
        (lambda at: write(at, [[1, 0, 0.05], [1, 0, 0.07]]) + "#1", "more than once"),
        (lambda at: write(at, [[-1, 0, 0.05], [1, 0, 0.07]]) + "#1", "-1.0"),
        (lambda at: write(at, [[1, 0, 0.05]]), "how many"),
        (lambda at: "function-vectors:" + write(at, np.full((2, 3, 4), NAN), "aie.npy") + "#2", "nan for the head"),
    ],
    "lofit": [
        (lambda at: write(at, np.array([[2, 3], [2, 3]]), "top.npy"), "more than once"),
        (lambda at: write(at, np.array([[2, -3]]), "top.npy"), "-3"),
        (lambda at: write(at, np.array([[2, 3, 1]]), "top.npy"), "not \\[heads, 2\\]"),
        (lambda at: write(at, np.array([[2, 3], [1, 1]]), "top.npy") + "#3", "from 1 to 2"),
    ],
    "steering-vector": [
        (lambda at: write(at, b"PK\x05\x06", "whole.spipe"), "pipeline"),
        (lambda at: write(at, SVEC | {"probe_accuracies": {"1:9": 0.8}}, "iti.svec"), "accuracy"),
        (lambda at: write(at, SVEC | {"probe_accuracies": {"1:1": 80}}, "iti.svec"), "accuracy"),
        (lambda at: write(at, SVEC | {"directions": {"1": [[0.1], [0.2, 0.3]]}}, "iti.svec"), "without a vector"),
        (lambda at: write(at, SVEC | {"directions": {"-1": [[0.1]]}}, "iti.svec"), "without a vector"),
        (lambda at: write(at, SVEC | {"more": 1}, "iti.svec"), "beside the fields"),
        (lambda at: write(at, {"layer_activations": {"1": [1.0]}, "layer_type": "lm_head"}), "layer_type"),
        (lambda at: write(at, {"layer_activations": {"1": [0.0]}}), "without a vector"),
    ],
    "peft": [
        (lambda at: adapter(at, peft_type="IA3"), "IA3"),
        (lambda at: adapter(at, {"base_model.model.model.layers.1.self_attn.q_proj": 3}), "one rank"),
        (lambda at: adapter(at, {"base_model.model.lm_head": 4}), "in a layer"),
        (lambda at: adapter(at, {"base_model.model.model.layers.1.router": 4}), "attention or MLP"),
        (
            lambda at: (at / "adapter").mkdir() or write(at / "adapter", "{", "adapter_config.json").rpartition("/")[0],
            "adapter_config",
        ),
        (
            lambda at: (
                (at / "adapter").mkdir()
                or write(at / "adapter", '{"peft_type": "LORA"}', "adapter_config.json").rpartition("/")[0]
            ),
            "pickled",
        ),
    ],
    "sae": [
        (lambda at: sae(at, ""), "FOLDER#123"),
        (lambda at: sae(at, "#8"), "from 0 to 7"),
        (lambda at: sae(at, d_sae=9), "W_dec of shape"),
        (lambda at: sae(at, metadata={"hook_name": "blocks.2.hook_scale"}), "hook"),
        (lambda at: sae(at, metadata=None), "without hook_name"),
        (lambda at: sae(at, weights={"W_dec": np.full((8, 6), NAN, np.float32)}), "finite"),
    ],
    "control-vector": [
        (lambda at: control(at, "llama"), "not of control vectors"),
        (lambda at: control(at, vectors={"direction.0": np.ones(6, np.float32)}), "direction.N"),
        (lambda at: control(at, vectors={"direction.1": np.zeros(6, np.float32)}), "zeros"),
        (
            lambda at: control(at, vectors={"direction.1": np.ones(6, np.float32), "direction.2": np.ones(5, np.float32)}),
            "widths",
        ),
        (lambda at: control(at, vectors={"direction.1": np.full(6, NAN, np.float32)}), "no finite number"),
        (lambda at: write(at, open(control(at), "rb").read()[:-40], "cut.gguf"), "cut"),  # noqa: SIM115
    ],
    "vectors": [
        (lambda at: vectors(at, {"weight": np.ones(6, np.float32)}), "says no layer"),
        (lambda at: vectors(at, {"layer_1": np.ones((2, 6), np.float32)}), "no one vector"),
        (lambda at: vectors(at, {"layer_1": np.ones(6, np.int32)}), "finite"),
        (lambda at: vectors(at, {"layer_1": np.ones(6, np.float32), "layer_2": np.ones(5, np.float32)}), "widths"),
        (lambda at: write(at, open(vectors(at), "rb").read()[:-4], "cut.safetensors"), "safetensors"),  # noqa: SIM115
    ],
    "pickle": [
        (lambda at: write(at, pickle.dumps(TABLE), "importance.pkl"), "json.dump"),
        (lambda at: torch.save(torch.ones(2), at / "effect.pt") or str(at / "effect.pt"), "weights_only=True"),
        (lambda at: np.savez(at / "heads.npz", a=TABLE) or str(at / "heads.npz"), "a.files"),
        (lambda at: write(at, pickle.dumps(TABLE), "no-ending"), "pickle"),
        (lambda at: write(at, np.array([{"a": 1}], dtype=object), "o.npy"), "not pickled"),
    ],
}
CASES = [(name, number) for name, cases in BROKEN.items() for number in range(len(cases))]


@pytest.mark.parametrize(("name", "number"), CASES)
def test_what_is_broken_or_not_said_gets_one_sentence(name, number, tmp_path):
    assert len(BROKEN[name]) >= 3
    make, said = BROKEN[name][number]
    path = make(tmp_path)
    with pytest.raises(UserError, match=said) as caught:
        given(str(path))
    assert len(str(caught.value)) < 900 and "\n" not in str(caught.value)


def test_a_pickle_is_never_opened(tmp_path):
    class Trap:
        def __reduce__(self):
            return open, (str(tmp_path / "sprung"), "w")

    for name in ("a.pkl", "a.pt", "a.json", "a.npy", "a.svec", "a"):
        with pytest.raises(UserError):
            given(write(tmp_path, pickle.dumps(Trap()), name))
    assert not (tmp_path / "sprung").exists()


def test_a_claim_of_another_model_is_refused_by_its_shape_or_name(tmp_path):
    scores = given(write(tmp_path, TABLE, "a.npy") + "#2")
    circuit = given(write(tmp_path, graph()) + "#2")
    for claim in (scores, circuit):
        claim.fits(SiteSpace(kind_of("head"), (4,) * 3))
        for heads in ((4,) * 4, (5,) * 3):
            with pytest.raises(UserError):
                claim.fits(SiteSpace(kind_of("head"), heads))
    with pytest.raises(UserError, match="toy-3l"):
        circuit.check("", SiteSpace(kind_of("head"), (4,) * 3), "gpt2")


def test_python_and_the_part_behind_the_path_say_the_same(tmp_path):
    path = write(tmp_path, TABLE, "a.npy")
    assert locus.claim(path, size=4).location == given(f"{path}#4").location
    assert locus.claim(path, budget=0.25).location == given(f"{path}#25%").location
    assert locus.claim(path, "mine", size="all").name == "mine"
    assert locus.published(path).claim(4).location.names == sorted(BEST[:4])
    for wrong in (
        {"size": 0},
        {"size": True},
        {"size": 2, "budget": 0.1},
        {"budget": 0},
        {"budget": NAN},
        {"rank": "best", "size": 2},
    ):
        with pytest.raises(UserError):
            locus.claim(path, **wrong)
    with pytest.raises(UserError, match="Say it once"):
        locus.claim(f"{path}#4", size=4)
    with pytest.raises(UserError, match="has no scores"):
        locus.claim("12.3,14.0", size=1)


def test_a_claim_of_ours_with_scores_may_be_cut_anew(tmp_path):
    given(write(tmp_path, TABLE, "a.npy") + "#4").save(tmp_path / "ours.json")
    assert locus.claim(tmp_path / "ours.json", size=2).location.names == sorted(BEST[:2])


def test_a_part_of_a_model_that_is_no_head_is_said_to_be_left_out(tmp_path):
    with pytest.warns(LeftOut, match="1 of mlp left out"):
        given(write(tmp_path, {"L1H0": 0.5, "mlp.1": 0.9}, "unheard.json") + "#1")


def test_an_importer_may_be_named_and_a_name_that_is_none_suggests_the_nearest(tmp_path):
    path = write(tmp_path, [[0.1, 0.9], [0.3, 0.2]])
    with pytest.raises(UserError):
        given(f"{path}#1")
    assert given(f"head-scores:{path}#1").location.names == ["0.1"]
    with pytest.raises(UserError, match="Did you mean 'head-scores'"):
        given(f"head-score:{path}#1")
    with pytest.raises(UserError, match="of another shape"):
        given(f"mib:{path}")


def test_a_path_with_a_mark_in_its_name_is_that_path(tmp_path):
    assert given(write(tmp_path, '["1.0"]', "a#b.json")).location.names == ["1.0"]


@pytest.mark.parametrize(
    ("name", "where"),
    [
        ("a9.h6<q>", "9.6"),
        ("head.9.6.k", "9.6"),
        ("L9H6", "9.6"),
        ("blocks.9.attn.hook_result[:, :, 6]", "9.6"),
        ("blocks.9.hook_q_input[6]", "9.6"),
        ("m3", "mlp.3"),
        ("blocks.3.hook_mlp_out", "mlp.3"),
        ("logits", ""),
        ("blocks.0.hook_resid_pre[:]", ""),
    ],
)
def test_nodes_in_every_notation(name, where):
    assert nodes.site(name) == where


def test_what_leaves_a_layer_enters_the_next():
    assert site_of("blocks.3.hook_resid_post") == site_of("blocks.4.hook_resid_pre") == "resid.4"


def test_another_shape_is_one_file(tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "_registered", {})
    registry.register("importers", "stars", "tests.toys.importer:IMPORTER", "heads with stars")
    path = write(tmp_path, "9.6 ***\n1.0 *\n2.3 **\n", "heads.stars")
    claim = given(f"{path}#2")
    assert claim.location.names == ["2.3", "9.6"] and claim.about["importer"] == "stars"
    assert given(f"stars:{path}#1").location.names == ["9.6"]


def test_show_and_convert(tmp_path):
    path = write(tmp_path, graph(), "importances.json")
    shown = RUNNER.invoke(app, ["claims", "show", path, "--top", "2"])
    assert shown.exit_code == 0 and "read as mib" in shown.stdout and BEST[1] in shown.stdout and "how many" in shown.stdout
    assert BEST[2] not in shown.stdout.partition("No claim")[0].partition("rank")[2]
    done = RUNNER.invoke(app, ["claims", "convert", path, "--size", "4", "--out", str(tmp_path / "claim.json")])
    assert done.exit_code == 0 and locus.claim(tmp_path / "claim.json").location.names == sorted(BEST[:4])
    shown = RUNNER.invoke(app, ["claims", "show", str(tmp_path / "claim.json")])
    assert shown.stdout.count("yes") == 4 and "importances.json" in shown.stdout
    assert RUNNER.invoke(app, ["claims", "convert", path, "--out", str(tmp_path / "no.json")]).exit_code != 0
    assert not (tmp_path / "no.json").exists()


def test_an_audit_takes_a_file_of_scores_and_its_plan_says_where_the_claim_came_from(tmp_path):
    with pytest.raises(UserError, match="3 layers by 8"):
        locus.plan("planted:localized:3", claim=f"{write(tmp_path, TABLE, 'other.npy')}#2", progress=False)
    small = {
        "train": 8,
        "validation": 4,
        "test": 6,
        "epochs": 1,
        "random": 3,
        "alpha": 0.25,
        "text_passages": 0,
        "sequential": False,
    }
    path = write(tmp_path, np.arange(24.0).reshape(3, 8), "probe.npy")
    run = locus.audit("planted:localized:3", claim=f"{path}#1", out=tmp_path / "RUN", sign=False, progress=False, **small)
    (claim,) = json.loads((run.folder / "plan.json").read_text())["claims"]
    assert claim["heads"] == ["2.7"] and claim["about"]["chosen"] == "the 1 largest of 24 scores"
    assert len(claim["scores"]) == 24 and str(tmp_path) not in (run.folder / "receipt.json").read_text()
    assert locus.verify(run.folder).kind == "run"


leaf = (
    st.none()
    | st.booleans()
    | st.integers(-2, 4)
    | st.floats()
    | st.sampled_from(["a1.h0", "m1", "L1H0", "a0.h1->m1", "head.0.1", ""])
)
keys = st.sampled_from(
    [
        "nodes",
        "edges",
        "cfg",
        "a1.h0",
        "a0.h1->m1",
        "score",
        "in_graph",
        "from",
        "to",
        "directions",
        "1",
        "layer_activations",
        "1:0",
    ]
)
trees = st.recursive(leaf, lambda one: st.lists(one, max_size=4) | st.dictionaries(keys, one, max_size=4), max_leaves=12)


@settings(max_examples=250, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@drawn(value=trees, part=st.sampled_from(["", "#1", "#all", "#50%,absolute"]))
def test_any_json_is_a_claim_of_finite_scores_or_refused(tmp_path, value, part):
    path = write(tmp_path, value, "any.json")
    try:
        claim = given(path + part)
    except UserError:
        return
    assert claim.location.sites and all(math.isfinite(score) for score in claim.scores.values())
    json.dumps(claim.to_dict(), allow_nan=False)
