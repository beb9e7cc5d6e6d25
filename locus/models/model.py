"""A causal language model as the rest of the package sees it, and how its layers are run.

What the package needs of a model is little: where each layer's attention output projection is, how many query heads feed it and
how wide each is, what follows the last layer, and how to run the layers from the l-th on. `discovery` finds it by watching the
model. A model whose layers cannot be run so is run whole, row by row; `off` says of every shortcut that it does not allow why.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from locus.errors import UserError
from locus.models import packed, spread
from locus.models.calls import LayerCall, LayerInputs, is_mask
from locus.models.discovery import discover
from locus.models.fast import attention, norms
from locus.models.layout import HEADS, context, setting
from locus.models.layout import Layout as Layout
from locus.models.locate import DEFAULT_MODEL as DEFAULT_MODEL
from locus.models.points import POINTS, Change, attach
from locus.models.shortcuts import THREADS, TREES, WITH_TREES
from locus.models.tail import tail
from locus.models.windows import NO_WINDOW, Window, seen_windows
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

    Attributes:
        off: by shortcut, why this model does not allow it; see shortcuts.py for all of them.
        spread: whether its weights lie on several devices (spread.py).
        checked: whether every shortcut was held against the plain path.
        speaks: whether texts that go on share what they begin with, and layers below edits; None before that was tried.
        inputs: what makes the inputs of a layer's attention, once it was asked for (inputs.py).

    Raises:
        UserError: if no attention heads are found whose outputs could be edited.
    """

    def __init__(self, hf: nn.Module, tokenizer: Any, name: str, quantised: bool = False, merged: bool = False):
        self.hf = hf.eval().requires_grad_(False)
        self.spread = spread.is_spread(hf)
        if self.spread:
            spread.prepare(hf)
        self.layout, self.parts = discover(hf, name)
        self.off: dict[str, str] = {THREADS: why} if (why := spread.one_at_a_time(hf)) else {}
        self.tokenizer = tokenizer
        self.name = CALLED[hf] = name
        self.quantised = quantised
        self.merged = merged
        self.settings: Mapping[str, object] = {}  # of an audit, by which it was had
        modules = dict(hf.named_modules())
        self.layers: Sequence[nn.Module] = [modules[one.path] for one in self.parts.layers]
        self.projections: list[nn.Module | None] = [modules[one.output] if one.output else None for one in self.parts.layers]
        self.mlps: list[nn.Module | None] = [modules[one.mlp] if one.mlp else None for one in self.parts.layers]
        self.downs: list[nn.Module | None] = [modules[one.down] if one.down else None for one in self.parts.layers]
        self.asking = False  # whether it is asked how it calls its layers, of which none is run
        self.head: nn.Module = modules[self.parts.head]
        spread.hold(self.head)
        to_head = spread.place_of(self.head) if self.spread else None
        self.norm = tail([modules[path] for path in self.parts.tail], self.parts.factor, to_head)
        self.scale, self.softcap = self.parts.scale, self.parts.softcap
        self.parallel = self.parts.parallel
        config: Any = hf.config
        self.context = context(config)
        self.windows: list[Window] = [NO_WINDOW] * self.layout.n_layers
        self.checked = False
        self.speaks: tuple[bool, bool] | None = None
        self._fingerprint: str | None = None
        self.inputs: dict[int, Any] = {}
        attention.adopt(hf)
        norms.adopt(hf)
        self.eager: bool = setting(config, "_attn_implementation") == "eager"
        self._settle()

    def _settle(self) -> None:
        """See whether the layers can be run one by one over a row of a tree, as a first forward shows; checks show more."""
        if self.parts.whole:
            self.do_without(TREES, self.parts.whole)
            return
        try:
            known = int(self.hf.get_input_embeddings().weight.shape[0])  # type: ignore[operator]
            self.windows = seen_windows(self.hf.config, self.layout.n_layers, self._mask_of_every_layer, known)
            gap = self._tree_gap()
        except Exception as error:
            self.do_without(TREES, f"its layers cannot be given the mask of a tree ({type(error).__name__}: {str(error)[:120]})")
            return
        if not gap <= (2e-3 if self.dtype == torch.float32 else 0.6):
            mixing = [str(layer) for layer, count in enumerate(self.layout.heads) if not count]
            listed = ", ".join(mixing[:4]) + (" ..." if len(mixing) > 4 else "")
            told = f"it keeps a state across tokens in layers {listed}" if mixing else f"logits in a tree differ by {gap:.2g}"
            self.do_without(TREES, told)

    def _mask_of_every_layer(self, tokens: Tensor, seen: Tensor) -> list[Tensor | None]:
        """The masks [.., T, T] that the model gives its layers for tokens [1, T]."""
        count = tokens.shape[1]
        given = ([*call.args, *call.kwargs.values()] for call in self.called(tokens, seen))
        return [next((one for one in values if is_mask(one, count)), None) for values in given]

    def _tree_gap(self) -> float:
        """How far logits at the ends of a tree of two branches are from those of the branches by themselves."""
        vocabulary = int(self.hf.get_input_embeddings().weight.shape[0])  # type: ignore[operator]
        trunk, branches = [5, 9, 6, 11, 8], ([7, 4, 12], [10, 3, 13, 4, 9])
        tokens = torch.tensor([[one % vocabulary for one in (*trunk, *branches[0], *branches[1])]])
        count, start, split = tokens.shape[1], len(trunk), len(trunk) + len(branches[0])
        positions = torch.cat([torch.arange(split), torch.arange(start, count - len(branches[0]))])[None]
        sees = torch.ones(count, count, dtype=torch.bool).tril()
        sees[split:, start:split] = False
        entry, worst = self.calls(tokens, positions, sees[None]), 0.0
        with torch.no_grad():
            hidden = entry.hidden
            for layer in range(self.layout.n_layers):
                hidden = self.layer(layer, hidden, entry)
            logits = self.logits(hidden)[0]
            for places in ([*range(split)], [*range(start), *range(split, count)]):
                alone = self.hf(input_ids=tokens[:, places].to(self.device), use_cache=False).logits[0, -1].float()
                worst = max(worst, float((logits[places[-1]] - alone.to(logits.device)).abs().nan_to_num(torch.inf).max()))
        return worst

    def do_without(self, shortcut: str, reason: str) -> None:
        """From now on do without a shortcut, for the given reason; without trees the model is run whole, row by row."""
        if shortcut == TREES:
            self.off = {name: why for name, why in self.off.items() if name not in WITH_TREES}
            self.norm = nn.Identity()  # what is read of it is what enters the vocabulary head
        self.off[shortcut] = reason

    @property
    def trees(self) -> bool:
        """Whether answers are read in trees, layer by layer; else each is a row of its own, and the model is run whole."""
        return TREES not in self.off

    @property
    def device(self) -> torch.device:
        """Where the weights are; of a model that is spread over several, where tokens enter it."""
        return spread.place_of(self.hf) if self.spread else next(self.hf.parameters()).device

    def device_of(self, layer: int) -> torch.device:
        """Where a layer computes, counted from the first or the last."""
        return spread.place_of(self.layers[layer]) if self.spread else self.device

    @property
    def end(self) -> torch.device:
        """Where what leaves the last layer is."""
        return self.device_of(-1) if self.trees else spread.place_of(self.head)

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of computation."""
        return next(self.hf.parameters()).dtype

    @property
    def n_threads(self) -> int:
        """Threads that can work on this model at once: torch's own number on a CPU; one where Python would be all they share."""
        if not self.trees or THREADS in self.off:
            return 1  # what is put in the head's place belongs to one forward, and so does a weight that is fetched
        matrices = sum(entry.numel() for entry in self.layers[0].parameters() if entry.ndim == 2)
        return torch.get_num_threads() if self.device.type == "cpu" and matrices >= SMALL else 1

    @property
    def fingerprint(self) -> str:
        """SHA-256 over every tensor's name, shape, dtype and bytes, and the configuration's architecture."""
        if self._fingerprint is None:
            digest = hashlib.sha256(type(self.hf).__name__.encode())
            for key, tensor in spread.tensors(self.hf):
                digest.update(f"{key}|{tuple(tensor.shape)}|{tensor.dtype}|".encode())
                digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().data)
            self._fingerprint = digest.hexdigest()
        return self._fingerprint

    def changed(self) -> None:
        """Whoever shares its weights may have changed them: the fingerprint is taken anew."""
        self._fingerprint = None

    def __repr__(self) -> str:
        layout = self.layout
        known = f", weights {self._fingerprint[:12]}" if self._fingerprint else ""
        where = f"{self.device}{' and elsewhere' if self.spread else ''}"
        return f"<{shown(self.name, 120)}: {layout}, {str(self.dtype).removeprefix('torch.')} on {where}{known}>"

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
            "attention": str(setting(config, "_attn_implementation")),
            "dtype": str(self.dtype),
            "device": device,
            "threads": torch.get_num_threads(),
            "versions": [torch.__version__, __version__],
            **({"spread": str(self.hf.hf_device_map)} if self.spread else {}),
        }

    def projection(self, layer: int) -> nn.Module:
        """The output projection of a layer that has heads."""
        projection: nn.Module | None = self.projections[layer]
        assert projection is not None, f"layer {layer} has heads"
        return projection

    def at(self, point: str, layer: int) -> nn.Module:
        """The module of a point in a layer that has it."""
        return self.hf.get_submodule(POINTS[point].path(self.parts.layers[layer]))

    def attach(self, point: str, layer: int, change: Change) -> RemovableHandle:
        """Put what a function makes of a point's vectors [rows, T, width] in their place, until the handle is removed."""
        return attach(self.at(point, layer), POINTS[point].side, change, self.parts.stream, lambda: self.asking)

    def attach_behind(self, point: str, layer: int, change: Change) -> RemovableHandle:
        """The same of what the linear map behind a point gives."""
        assert POINTS[point].has_map, "the input of a linear map"
        return attach(self.at(point, layer), "output", change)

    def weight(self, layer: int, point: str = HEADS) -> Tensor:
        """The linear map W behind a point of a layer as [width, features], whatever way round it is stored."""
        own, parts = self.at(point, layer), self.parts.layers[layer]
        assert POINTS[point].has_map, "the input of a linear map"
        if packed.is_packed(own):
            return packed.matrix(own, next(one for one in self.hf.parameters() if one.is_floating_point()))
        weight: Tensor = spread.value(own, "weight")  # type: ignore[assignment]
        turned = parts.transposed if own is self.projections[layer] else parts.turned
        return weight.T if turned else weight

    def has_bias(self, layer: int) -> bool:
        """Whether the output projection of a layer has a bias."""
        return getattr(self.projection(layer), "bias", None) is not None

    @contextmanager
    def _bypassed(self) -> Iterator[list[LayerCall]]:
        """Replace every layer by one that records how it is called and passes its input on."""
        calls: list[LayerCall] = []
        own = [vars(layer).get("forward") for layer in self.layers]

        def recorder(size: int) -> Any:
            def forward(*args: Any, **kwargs: Any) -> Any:
                call = LayerCall.of(args, kwargs, self.parts.stream)
                calls.append(call)
                return (call.hidden, *[None] * (size - 1)) if size else call.hidden

            return forward

        try:
            self.asking = True
            for layer, size in zip(self.layers, self.parts.tuples, strict=True):
                layer.forward = recorder(size)
            yield calls
        finally:
            self.asking = False
            for layer, forward in zip(self.layers, own, strict=True):
                if forward is None:
                    del layer.forward
                else:
                    layer.forward = forward

    def called(self, tokens: Tensor, attention_mask: Tensor, positions: Tensor | None = None) -> list[LayerCall]:
        """How the model itself calls its layers, of which none is run, for tokens [rows, T] under a mask."""
        backbone: Any = self.hf.base_model
        placed = {} if positions is None else {"position_ids": positions.to(self.device)}
        with self._bypassed() as calls, torch.no_grad():
            backbone(input_ids=tokens.to(self.device), attention_mask=attention_mask.to(self.device), use_cache=False, **placed)
        return calls

    def calls(self, tokens: Tensor, positions: Tensor, sees: Tensor) -> LayerInputs:
        """Ask the model itself what each layer would be called with, without running any layer.

        Embedding scale, learned positions, rotary tables and layer types are thereby the model's own business.

        Args:
            tokens: [rows, T].
            positions: [rows, T]; or [1, T], if all rows share them.
            sees: [rows, T, T], whether a query (first) may see a key; or [1, T, T], shared.

        Raises:
            UserError: if a token is none of the model's.
        """
        self.check_tokens(tokens)
        masks = self._masks(positions, sees)
        placed, count = [], tokens.shape[1]
        calls = self.called(tokens, masks[NO_WINDOW, self.device], positions)
        for layer, (call, window) in enumerate(zip(calls, self.windows, strict=True)):
            mask = masks[window, self.device_of(layer)]

            def put(value: Any, mask: Tensor = mask) -> Any:
                return mask if is_mask(value, count) else value

            placed.append((tuple(put(value) for value in call.args), {key: put(value) for key, value in call.kwargs.items()}))
        return LayerInputs(calls[0].hidden, placed)

    def check_tokens(self, tokens: Tensor) -> None:
        """Refuse a token that the model has no embedding for.

        Raises:
            UserError: naming it.
        """
        rows = self.hf.get_input_embeddings().weight.shape[0]  # type: ignore[operator]
        if tokens.numel() and int(tokens.max()) >= rows:
            raise UserError(
                f"tokens that {self.name!r} has embeddings for, of which there are {rows}",
                f"token {int(tokens.max())}, {self.tokenizer.convert_ids_to_tokens(int(tokens.max()))!r}",
                "Take the text that holds it out of the data.",
            )

    def _masks(self, positions: Tensor, sees: Tensor) -> dict[tuple[Window, torch.device], Tensor]:
        """Additive masks [rows or 1, 1, T, T], one for every attention window the model uses, wherever layers compute."""
        itself = torch.eye(sees.shape[1], dtype=torch.bool)[None]
        masks: dict[tuple[Window, torch.device], Tensor] = {}
        places = {self.device, *(map(self.device_of, range(self.layout.n_layers)) if self.spread else ())}
        stretches = attention.cut(sees[0].numpy()) if len(sees) == 1 else []
        for window in {NO_WINDOW, *self.windows}:
            # A padded query that saw nothing would be NaN; it sees itself, and nothing real sees it.
            allowed = (sees & window.reaches(positions[:, :, None], positions[:, None, :])) | itself
            mask = torch.zeros(allowed.shape, dtype=self.dtype).masked_fill_(~allowed, float("-inf"))[:, None]
            masks |= {(window, place): attention.attach(mask.to(place), stretches) for place in places}
        return masks

    def layer(self, index: int, hidden: Tensor, entry: LayerInputs, past: Any = None) -> Tensor:
        """Run one layer on [rows, T, width]; rows share the entry's mask and positions, or have their own.

        Args:
            index: of the layer.
            hidden: what enters it.
            entry: how it is called.
            past: a cache whose `update` is given the keys and values of these tokens and gives those of all.
        """
        args, kwargs = entry.calls[index]
        place, stream = self.parts.past, self.parts.stream
        if past is not None and isinstance(place, int):
            args = (*args[:place], past, *args[place + 1 :])
        elif past is not None and isinstance(place, str):
            kwargs = {**kwargs, place: past}
        if isinstance(stream, str):
            output = self.layers[index](*args, **{**kwargs, stream: hidden})
        else:
            output = self.layers[index](*args[:stream], hidden, *args[stream:], **kwargs)
        hidden_out: Tensor = output[0] if isinstance(output, tuple | list) else output
        return hidden_out

    def read(self, tokens: Tensor, real: Tensor) -> Tensor:
        """Run the model whole over rows; what enters the vocabulary head, [rows, T, width], which is not run.

        Args:
            tokens: [rows, T], padded behind.
            real: [rows, T], false where a row is padded.
        """
        self.check_tokens(tokens)
        entered: list[Tensor] = []
        head: Any = self.head
        own, entries = vars(head).get("forward"), len(head.weight)

        def forward(hidden: Tensor, *_: Any, **__: Any) -> Tensor:
            entered.append(hidden)
            return hidden.new_zeros(1).expand(*hidden.shape[:-1], entries)

        try:
            head.forward = forward
            self.hf(input_ids=tokens.to(self.device), attention_mask=real.long().to(self.device), use_cache=False)
        finally:
            del head.forward
            if own is not None:
                head.forward = own
        return entered[0].view(*tokens.shape, -1).to(self.end)

    def logits(self, hidden: Tensor) -> Tensor:
        """Next-token logits [..., vocabulary] in float32, from the last layer's output."""
        return self.logits_of_normed(self.norm(hidden))

    def logits_of_normed(self, normed: Tensor, tokens: slice = slice(None)) -> Tensor:
        """Next-token logits in float32 from the final norm's output, of all the vocabulary or a part of it."""
        weight: Tensor = self.head.weight  # type: ignore[assignment]
        bias: Tensor | None = getattr(self.head, "bias", None)
        raw = nn.functional.linear(normed, weight[tokens], None if bias is None else bias[tokens]).float()
        raw = raw if self.scale == 1.0 else raw * self.scale
        return raw if self.softcap is None else self.softcap * torch.tanh(raw / self.softcap)
