"""The norms' own way back equals autograd's, and is taken by the families whose norms are x / r * weight, no others."""

import copy

import pytest
import torch

from locus.models.fast import norms
from tests.families import tiny

# Two a layer and the last; Qwen 3 has two more a layer, for queries and keys. Gemma's multiply by 1 + weight.
THEIRS = {"llama": 7, "qwen3": 13, "gemma2": 0, "gemma3": 0, "gpt2": 0, "gpt_neox": 0}


def adopted(hf) -> list[torch.nn.Module]:
    return [module for module in hf.modules() if norms.is_ours(module)]


@pytest.mark.parametrize("family", THEIRS)
def test_norms_are_known_by_what_they_compute(family):
    assert len(adopted(tiny(family).hf)) == THEIRS[family]


def test_every_family_has_the_gradient_that_autograd_has(model):
    """Through all norms of a model that are taken over, by its own forward; where none are, there is nothing to compare."""
    torch.manual_seed(0)
    for module in adopted(model.hf):
        x = torch.randn(2, 3, len(module.weight), requires_grad=True)
        weights = torch.randn(2, 3, len(module.weight))
        found = []
        for forward in (module.forward, lambda x, own=module: type(own).forward(own, x)):
            y = forward(x)
            found.append((y, torch.autograd.grad((y * weights).sum(), x)[0]))
        assert type(found[0][0].grad_fn).__name__ == "_NormedBackward" != type(found[1][0].grad_fn).__name__
        for mine, theirs in zip(*found, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6)


def test_own_leaves_transformers_norms_alone_and_gives_ours_back():
    hf = tiny("llama").hf
    before = [module.forward for module in adopted(hf)]
    with norms.own(hf):
        assert before and not adopted(hf)
    assert [module.forward for module in adopted(hf)] == before


def test_the_gradient_by_finite_differences():
    torch.manual_seed(1)
    x, weight = torch.randn(3, 5, dtype=torch.float64, requires_grad=True), torch.rand(5, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: norms._Normed.apply(x, weight, 1e-5), (x,))


def test_without_a_gradient_and_in_a_copy_the_module_is_its_own():
    hf = tiny("llama").hf
    module = adopted(hf)[0]
    x = torch.randn(2, 4, len(module.weight))
    assert torch.equal(module(x), type(module).forward(module, x)), "to the last bit"
    other = copy.deepcopy(module)
    other.weight.data.mul_(2)
    x.requires_grad_()
    torch.testing.assert_close(other(x), 2 * module(x))
