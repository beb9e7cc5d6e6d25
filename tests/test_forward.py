"""The vocabulary head: log-probs and gradients of plain PyTorch, without the logits of a whole row."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModelForCausalLM, LlamaConfig

from locus.engine.forward import HEAD_CHUNK, token_logprobs
from locus.engine.trie import Targets
from locus.models.model import Model
from tests.families import byte_tokenizer

VOCABULARY, POSITIONS = 250_000, 150  # 37.5 million logits: 2.2 times what may exist at once


class Largest(TorchDispatchMode):
    """The number of elements of the largest tensor that any operation makes."""

    def __init__(self):
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for one in torch.utils._pytree.tree_leaves(out):
            if isinstance(one, torch.Tensor):
                self.numel = max(self.numel, one.numel())
        return out


def test_the_logits_of_a_large_vocabulary_never_exist_whole():
    config = LlamaConfig(vocab_size=VOCABULARY, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2)
    model = Model(AutoModelForCausalLM.from_config(config), byte_tokenizer(), "wide")
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(1, POSITIONS, 16, generator=generator).requires_grad_()
    token = torch.randint(VOCABULARY, (POSITIONS,), generator=generator)
    every = torch.arange(POSITIONS).numpy()
    targets = Targets(every, every, token.numpy(), every, every, every * 0 + 1)
    with Largest() as seen:
        found = token_logprobs(model, hidden, targets)
        (mine,) = torch.autograd.grad(found.sum(), hidden)
    assert seen.numel <= HEAD_CHUNK < VOCABULARY * POSITIONS
    plain = model.hf.lm_head(model.norm(hidden)).log_softmax(-1)[0, torch.arange(POSITIONS), token]
    (theirs,) = torch.autograd.grad(plain.sum(), hidden)
    torch.testing.assert_close(found[0], plain, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)
