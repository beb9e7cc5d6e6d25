"""A run's edit on a model, for as long as a `with` block lasts, and a question as the run asked it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import BatchEncoding

from locus.behaviours.encoding import unclosed
from locus.behaviours.prompts import PromptFormat
from locus.edits.base import Edit, Terms
from locus.errors import UserError
from locus.models.discovery import discover
from locus.models.model import Model
from locus.models.points import POINTS, Point, attach
from locus.records.plan import PromptRecord
from locus.shown import visible
from locus.sites.positions import ALL, ANSWER, words


@dataclass(frozen=True)
class RunEdit:
    """An edit that a run has made.

    Attributes:
        trial: id of its trial.
        name: as it was asked for.
        edit: its terms, by layer.
        model: fingerprint of the weights that it was made for.
    """

    trial: str
    name: str
    edit: Edit
    model: str

    def __repr__(self) -> str:
        where = self.edit.location.names
        shown = ", ".join(where[:8]) + (f" and {len(where) - 8} more" if len(where) > 8 else "")
        return f"<edit {visible(self.name, 80)} ({self.edit.kind} at {shown or 'no site'}), trial {self.trial}>"

    @contextmanager
    def attach(self, model: Any) -> Iterator[Any]:
        """Let a model speak with this edit while a `with` block lasts.

        An edit of the answer alone (a shift) acts from the last token of a prompt on: on the last token of whatever is read, and
        on every token that is generated after it. Let such a model generate with its cache, as it does by default.

        Ask it as the run did, by `run.prompt(question, tokenizer)`: a bare question is not the audited prompt.

        Args:
            model: as `locus.load` or `locus.wrap` gave it, or the model of transformers itself, inside PEFT's wrapper or not.

        Yields:
            The model of transformers, with the edit.

        Raises:
            UserError: if it has other sizes, or as far as is known other weights, than the model that the edit was made for; or
                if the edit acts at one token of a prompt.
        """
        hf = model.hf if isinstance(model, Model) else model
        base = getattr(hf, "get_base_model", lambda: hf)()
        layout, parts = discover(base, type(base).__name__) if not isinstance(model, Model) else (model.layout, model.parts)
        if layout != self.edit.layout:
            raise UserError(f"a model with {self.edit.layout}", f"one with {layout}", "Attach it to the model it was made for.")
        if isinstance(model, Model) and model.fingerprint != self.model:
            received = f"{model.name} with {model.fingerprint[:12]}"
            raise UserError(f"weights {self.model[:12]}, for which the edit was made", received, "Attach it to that model.")
        if self.edit.positions not in (ALL, ANSWER):
            wanted = "an edit that acts at all tokens, or from the last prompt token on"
            remedy = "The audit knows which token that is in each of its prompts; a text that you give does not say."
            raise UserError(wanted, f"one {words(self.edit.positions)}", remedy)
        handles, point = [], POINTS[self.edit.point]
        for place, terms in self.edit.layers.items():
            own = base.get_submodule(point.path(parts.layers[place]))
            handles += _hooks(own, point, parts.stream, terms, self.edit.positions == ANSWER)
        try:
            yield hf
        finally:
            for handle in handles:
                handle.remove()


def prompted(record: PromptRecord, question: str, tokenizer: Any) -> BatchEncoding:
    """The tokens of a question in the format that a plan states; see `Run.prompt`."""
    text = PromptFormat(record.name, record.template, record.joint, record.special_tokens)
    ids = torch.tensor([unclosed(tokenizer, text.prompt(question), text.special_tokens).ids])
    return BatchEncoding({"input_ids": ids, "attention_mask": torch.ones_like(ids)})


def _hooks(own: nn.Module, point: Point, stream: int | str, terms: Terms, last: bool) -> list[Any]:
    """Hooks that change what is at a point, and behind its map, as the terms say, in float32 as a bank does."""
    pending: list[Tensor] = []

    def zone(like: Tensor) -> Tensor:
        """[positions, 1] of 0 and 1: where the edit acts."""
        length = like.shape[-2]
        return (torch.arange(length, device=like.device) >= (length - 1 if last else 0))[:, None].float()

    def change(o: Tensor) -> Tensor:
        wide, where = o.float(), zone(o)
        device, edited = wide.device, o.float()
        if terms.keep is not None:
            edited = edited * (1 + (terms.keep.to(device) - 1) * where)
        if terms.shift is not None:
            edited = edited + terms.shift.to(device) * where
        if terms.read is not None:
            scalars = (wide @ terms.read.to(device).T) * where
            if terms.write is not None:
                edited = edited + scalars @ terms.write.to(device)
            if terms.out is not None:
                pending.append(scalars @ terms.out.to(device))
        return edited.to(o.dtype)

    def behind(output: Tensor) -> Tensor:
        return output + pending.pop().to(output.dtype) if pending else output

    handles = [attach(own, point.side, change, stream)]
    return [*handles, attach(own, "output", behind)] if point.has_map else handles
