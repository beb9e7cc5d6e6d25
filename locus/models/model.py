"""Load a causal language model and run its layers.

What the rest of the package needs of a model is little: where each layer's attention output projection is, how many
query heads feed it and how wide each is, the final norm and the vocabulary head, and how to run the layers from the
l-th on. What is where inside a family's modules is in layout.py.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from locus.errors import UserError
from locus.models.fast import attention, norms
from locus.models.layout import INPUTS, SHAPES, AttentionInput, context, examine, parallel, windows
from locus.models.layout import Layout as Layout
from locus.models.locate import DEFAULT_MODEL as DEFAULT_MODEL
from locus.shown import line as shown

# What models of transformers were opened as: one that is wrapped again is called so, wherever its files lay.
CALLED: "WeakKeyDictionary[nn.Module, str]" = WeakKeyDictionary()
SMALL = 1 << 19  # entries of a layer's matrices below which a token takes Python longer than the products


class Model:
    """A frozen causal LM with its tokenizer, in evaluation mode.

    Args:
        hf: a Hugging Face causal LM.
        tokenizer: a fast tokenizer (with character offsets).
        name: what the user called it.
        quantised: whether the weights were once quantised (said in the limits of a report).
        merged: whether an adapter was merged into the weights, which are then to be had under no other name.

    Raises:
        UserError: if no attention output projection of a known shape is found.
    """

    def __init__(self, hf: nn.Module, tokenizer: Any, name: str, quantised: bool = False, merged: bool = False):
        self.layout = examine(hf, name)
        self.hf = hf.eval().requires_grad_(False)
        attention.adopt(hf)
        norms.adopt(hf)
        self.tokenizer = tokenizer
        self.name = CALLED[hf] = name
        self.quantised = quantised
        self.merged = merged
        self.settings: Mapping[str, object] = {}  # of an audit, by which it was had
        self.shape = SHAPES[self.layout.shape]
        self.layers: Sequence[nn.Module] = list(hf.get_submodule(self.shape.blocks))  # type: ignore[call-overload]
        self.projections = [layer.get_submodule(self.shape.output) for layer in self.layers]
        self.mlps = [layer.get_submodule(self.shape.mlp) for layer in self.layers]
        self.norm = hf.get_submodule(self.shape.norm)
        self.head: nn.Module = hf.get_output_embeddings()  # type: ignore[operator]
        config: Any = hf.config
        self.softcap: float | None = getattr(config, "final_logit_softcapping", None)
        self.eager: bool = getattr(config, "_attn_implementation", "sdpa") == "eager"
        self.windows = windows(config, self.layout.n_layers)
        self.parallel = parallel(config)
        self.context = context(config)
        self._fingerprint: str | None = None

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.hf.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of computation."""
        return next(self.hf.parameters()).dtype

    @property
    def n_threads(self) -> int:
        """Threads that can work on this model at once: torch's own number on a CPU; one where Python would be all they share."""
        matrices = sum(entry.numel() for entry in self.layers[0].parameters() if entry.ndim == 2)
        return torch.get_num_threads() if self.device.type == "cpu" and matrices >= SMALL else 1

    @property
    def fingerprint(self) -> str:
        """SHA-256 over every tensor's name, shape, dtype and bytes, and the configuration's architecture."""
        if self._fingerprint is None:
            digest = hashlib.sha256(type(self.hf).__name__.encode())
            for key, tensor in sorted(self.hf.state_dict().items()):
                digest.update(f"{key}|{tuple(tensor.shape)}|{tensor.dtype}|".encode())
                digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().data)
            self._fingerprint = digest.hexdigest()
        return self._fingerprint

    def changed(self) -> None:
        """Whoever shares its weights may have changed them: the fingerprint is taken anew."""
        self._fingerprint = None

    def __repr__(self) -> str:
        layout = self.layout
        known = f", weights {self._fingerprint[:12]}" if self._fingerprint else ""
        shape = f"{layout.n_layers} layers x {layout.n_heads} heads of {layout.d_head}"
        return f"<{shown(self.name, 120)}: {shape}, {str(self.dtype).removeprefix('torch.')} on {self.device}{known}>"

    @property
    def numerics(self) -> dict[str, object]:
        """All but the text that decides the bits of what the base model computes; what its cached results are keyed by."""
        from transformers import __version__  # slow to import

        config: Any = self.hf.config
        settings = {
            name: value for name, value in config.to_dict().items() if name not in ("_name_or_path", "transformers_version")
        }
        device = self.device.type if self.device.type == "cpu" else torch.cuda.get_device_name(self.device)
        return {
            "weights": self.fingerprint,
            "config": hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest(),
            "attention": str(getattr(config, "_attn_implementation", None)),
            "dtype": str(self.dtype),
            "device": device,
            "threads": torch.get_num_threads(),
            "versions": [torch.__version__, __version__],
        }

    def weight(self, layer: int) -> Tensor:
        """The output projection W of a layer as [width, features], whatever way round it is stored."""
        weight: Tensor = self.projections[layer].weight
        return weight.T if type(self.projections[layer]).__name__ == "Conv1D" else weight

    def has_bias(self, layer: int) -> bool:
        """Whether the output projection of a layer has a bias."""
        return getattr(self.projections[layer], "bias", None) is not None

    def attention_input(self, kind: AttentionInput, layer: int) -> nn.Module:
        """What makes a layer's queries, keys or values; `layout.input_slice` says where a head's are."""
        return self.layers[layer].get_submodule(self.shape.inputs[INPUTS.index(kind)])

    @contextmanager
    def _bypassed(self) -> Iterator[list[tuple[tuple[Any, ...], dict[str, object]]]]:
        """Replace every layer by one that records how it is called and passes its input on."""
        calls: list[tuple[tuple[Any, ...], dict[str, object]]] = []
        originals = [layer.forward for layer in self.layers]

        def recorder(hidden: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            calls.append((args, kwargs))
            return hidden

        try:
            for layer in self.layers:
                layer.forward = recorder
            yield calls
        finally:
            for layer, original in zip(self.layers, originals, strict=True):
                layer.forward = original

    def calls(self, tokens: Tensor, positions: Tensor, sees: Tensor) -> "LayerInputs":
        """Ask the model itself what each layer would be called with, without running any layer.

        Embedding scale, learned positions, rotary tables and layer types are thereby the model's own business.

        Args:
            tokens: [rows, T].
            positions: [rows, T]; or [1, T], if all rows share them.
            sees: [rows, T, T], whether a query (first) may see a key; or [1, T, T], shared.

        Raises:
            UserError: if a token is none of the model's.
        """
        rows = self.hf.get_input_embeddings().weight.shape[0]  # type: ignore[operator]
        if tokens.numel() and int(tokens.max()) >= rows:
            raise UserError(
                f"tokens that {self.name!r} has embeddings for, of which there are {rows}",
                f"token {int(tokens.max())}, {self.tokenizer.convert_ids_to_tokens(int(tokens.max()))!r}",
                "Take the text that holds it out of the data.",
            )
        masks = self._masks(positions, sees)
        embedded: list[Tensor] = []
        handle = self.norm.register_forward_pre_hook(lambda _, args: embedded.append(args[0]))
        backbone: Any = self.hf.base_model
        try:
            with self._bypassed() as calls, torch.no_grad():
                backbone(
                    input_ids=tokens.to(self.device),
                    attention_mask=masks[None],
                    position_ids=positions.to(self.device),
                    use_cache=False,
                )
        finally:
            handle.remove()
        placed = []
        for (args, kwargs), window in zip(calls, self.windows, strict=True):
            mask = masks[window]

            def put(value: Any, mask: Tensor = mask) -> Any:
                return mask if isinstance(value, Tensor) and value.ndim == 4 else value

            placed.append((tuple(put(value) for value in args), {key: put(value) for key, value in kwargs.items()}))
        return LayerInputs(embedded[0], placed)

    def _masks(self, positions: Tensor, sees: Tensor) -> dict[int | None, Tensor]:
        """Additive masks [rows or 1, 1, T, T], one for every attention window the model uses."""
        distance = positions[:, :, None] - positions[:, None, :]
        itself = torch.eye(sees.shape[1], dtype=torch.bool)[None]
        masks: dict[int | None, Tensor] = {}
        stretches = attention.cut(sees[0].numpy()) if len(sees) == 1 else []
        for window in {None, *self.windows}:
            # A padded query that saw nothing would be NaN; it sees itself, and nothing real sees it.
            allowed = (sees if window is None else sees & (distance < window)) | itself
            mask = torch.zeros(allowed.shape, dtype=self.dtype)
            masks[window] = attention.attach(mask.masked_fill_(~allowed, float("-inf"))[:, None].to(self.device), stretches)
        return masks

    def layer(self, index: int, hidden: Tensor, entry: "LayerInputs", past: Any = None) -> Tensor:
        """Run one layer on [rows, T, width]; rows share the entry's mask and positions, or have their own.

        Args:
            index: of the layer.
            hidden: what enters it.
            entry: how it is called.
            past: a cache whose `update` is given the keys and values of these tokens and gives those of all.
        """
        args, kwargs = entry.calls[index]
        place = self.shape.past
        if past is not None and isinstance(place, int):
            args = (*args[:place], past, *args[place + 1 :])
        elif past is not None:
            kwargs = {**kwargs, str(place): past}
        output = self.layers[index](hidden, *args, **kwargs)
        hidden_out: Tensor = output[0] if isinstance(output, tuple) else output
        return hidden_out

    def logits(self, hidden: Tensor) -> Tensor:
        """Next-token logits [..., vocabulary] in float32, from the last layer's output."""
        return self.logits_of_normed(self.norm(hidden))

    def logits_of_normed(self, normed: Tensor, tokens: slice = slice(None)) -> Tensor:
        """Next-token logits in float32 from the final norm's output, of all the vocabulary or a part of it."""
        weight: Tensor = self.head.weight  # type: ignore[assignment]
        bias: Tensor | None = getattr(self.head, "bias", None)
        raw = nn.functional.linear(normed, weight[tokens], None if bias is None else bias[tokens]).float()
        return raw if self.softcap is None else self.softcap * torch.tanh(raw / self.softcap)


@dataclass(frozen=True)
class LayerInputs:
    """What enters the first layer, [rows, T, width], and how each layer is called for these rows."""

    hidden: Tensor
    calls: list[tuple[tuple[Any, ...], dict[str, object]]]
