"""Which of two words a causal language model goes on with: its probabilities of their first tokens after a text.

Padding goes right: causal attention then never sees it, and positions need no correction.
"""

from collections.abc import Sequence
from typing import Any

import torch

from locus.behaviours.encoding import all_unclosed
from locus.errors import UserError
from locus.models.layout import context


class NextWord:
    """A model that is asked for one of two words.

    Args:
        model: a causal LM in evaluation mode; called with `input_ids` and `attention_mask`, gives `logits`.
        tokenizer: its tokenizer.
        words: the two, each with the space before it.
        batch_size: prompts a forward pass.

    Raises:
        UserError: if both words start with the same token.
    """

    def __init__(self, model: Any, tokenizer: Any, words: tuple[str, str], batch_size: int = 1):
        self.model, self.tokenizer, self.batch_size = model, tokenizer, batch_size
        self.context = context(model.config)
        self.first, self.second = (tokenizer.encode(word, add_special_tokens=False)[0] for word in words)
        if self.first == self.second:
            raise UserError(
                f'a tokenizer in which "{words[0]}" and "{words[1]}" start with different tokens',
                f"token {self.first} for both",
                "Choose another model as judge.",
            )

    def masses(self, texts: Sequence[str]) -> list[tuple[float, float] | int]:
        """The probabilities of both words after each text; of one that the model cannot read whole, its number of tokens."""
        # What is judged is somebody's text: a special token's name in it is read as text, and closes nothing.
        coded = [one.ids for one in all_unclosed(self.tokenizer, texts, plain=True)]
        masses: list[tuple[float, float] | int] = [len(ids) for ids in coded]
        order = sorted((at for at, ids in enumerate(coded) if len(ids) <= self.context), key=lambda at: len(coded[at]))
        device = next(self.model.parameters()).device
        for start in range(0, len(order), self.batch_size):
            batch = order[start : start + self.batch_size]
            width = max(len(coded[index]) for index in batch)
            ids = torch.zeros(len(batch), width, dtype=torch.long)
            mask = torch.zeros_like(ids)
            for row, index in enumerate(batch):
                ids[row, : len(coded[index])] = torch.tensor(coded[index])
                mask[row, : len(coded[index])] = 1
            with torch.inference_mode():
                logits = self.model(input_ids=ids.to(device), attention_mask=mask.to(device)).logits
            last = logits[torch.arange(len(batch)), mask.sum(1).to(device) - 1].float().softmax(-1).cpu()
            for row, index in enumerate(batch):
                masses[index] = (float(last[row, self.first]), float(last[row, self.second]))
        return masses

    def hashed(self, digest: Any) -> None:
        """Put all parameters into a digest."""
        for key, tensor in sorted(self.model.state_dict().items()):
            digest.update(key.encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
