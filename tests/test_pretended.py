"""No GPU is at hand, so its lines of the code run on a pretended one (pretended.py): what lies on the wrong device is seen."""

import numpy as np
import pytest
import torch

from benchmarks import gpu_work, material
from locus.edits.rank1 import Rank1
from locus.models.model import Model
from tests.pretended import GPU, Held, Pretending, moved, prepare, spread


@pytest.fixture
def pretending(monkeypatch):
    prepare(monkeypatch)
    before = torch._C._only_lift_cpu_tensors()
    torch._C._set_only_lift_cpu_tensors(True)  # what is made of lists is moved by an operation, which is seen
    try:
        with Pretending():
            yield
    finally:
        torch._C._set_only_lift_cpu_tensors(before)


def test_what_a_gpu_refuses_is_refused(pretending):
    there, here = torch.tensor([[1.0, 2.0], [3.0, 4.0]], device=GPU), torch.ones(2, 2)
    assert there.device == here.to(GPU).device == torch.zeros(2, device=GPU).device == (there @ there).device == GPU
    for wrong in (lambda: there + here, lambda: there @ here, lambda: here[there.long() > 5], lambda: np.asarray(there)):
        with pytest.raises((RuntimeError, TypeError)):
            wrong()
    made = torch.zeros_like(there)
    made[[1, 0]] = there[torch.tensor([0, 1])]
    assert made.cpu().tolist() == [[3, 4], [1, 2]] and (there * here.sum()).tolist() == [[4, 8], [12, 16]]


@pytest.mark.filterwarnings("ignore")  # of autocast, for a GPU that is not there
def test_all_that_is_measured_on_a_gpu_runs_there(pretending, monkeypatch):
    """Checks, training, scoring, the search, speech, memory."""
    hf = moved(material.of_shape(material.SHAPES["random:tiny"], "memory:x").hf)
    model = Model(hf, material.tokenizer(), "memory:x")
    assert model.device == GPU and not model.off
    monkeypatch.setattr(material, "frozen", lambda *_: model)
    monkeypatch.setenv(material.TOLD, "cuda")
    begun = Rank1.__init__

    def begun_there(self, *args, **kwargs):  # its numbers cannot change the kind of their tensor later, as training has them
        begun(self, *args, **kwargs)
        self.flat = torch.nn.Parameter(Held(self.flat.data))

    monkeypatch.setattr(Rank1, "__init__", begun_there)
    size = gpu_work.Size(2, (2,), 2, 2, 1)
    ((_, checks),) = gpu_work.checks("x", size, "float32")
    assert all(one["passed"] for one in checks["checks"]) and not checks["off"] and checks["peak"] == 1 << 30
    found = {name: numbers for work in (gpu_work.banks, gpu_work.newton, gpu_work.speak) for name, numbers in work("x", size)}
    assert found["2"]["trained"] > 0 and found["round"]["left"] < 1
    assert found["locus"]["tokens"] > 0 and found["generate"]["alike"] == 1
    ((_, largest),) = gpu_work.largest("x", size)
    assert largest["memory"] == 80 << 30 and largest["layers"] > 1


@pytest.mark.filterwarnings("ignore")
def test_a_model_that_is_spread_over_a_gpu_and_the_cpu_takes_every_shortcut(pretending, monkeypatch):
    """Every layer lies elsewhere than the one before, and so do norm and head: what is not brought along is an error."""
    hf, here = material.of_shape(material.SHAPES["random:tiny"], "memory:x").hf, torch.device("cpu")
    layers = {f"model.layers.{layer}": (GPU, here)[layer % 2] for layer in range(len(hf.model.layers))}
    last = layers[f"model.layers.{len(layers) - 1}"]
    around = {"model.embed_tokens": here, "model.norm": here if last == GPU else GPU, "lm_head": last}
    model = Model(spread(hf, {**layers, **around}), material.tokenizer(), "memory:x")
    assert model.spread and list(model.off) == ["threads"]
    assert [model.device_of(layer) for layer in range(2)] == [GPU, here] and model.head.weight.device == last
    monkeypatch.setattr(material, "frozen", lambda *_: model)
    monkeypatch.setenv(material.TOLD, "cuda")
    size = gpu_work.Size(2, (2,), 2, 2, 1)
    ((_, checks),) = gpu_work.checks("x", size, "float32")
    assert all(one["passed"] for one in checks["checks"]) and list(checks["off"]) == ["threads"]
    found = {name: numbers for work in (gpu_work.banks, gpu_work.newton, gpu_work.speak) for name, numbers in work("x", size)}
    assert found["2"]["trained"] > 0 and found["round"]["left"] < 1 and found["locus"]["tokens"] > 0
