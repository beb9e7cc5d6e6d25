"""What `benchmarks/gpu.py` measures, part by part.

Each part is a generator of (what, numbers): what was measured is kept even if the part is ended before it is done. Seconds are
taken with the device idle before and after, once everything was run before; multiply-adds are those of `locus/engine/cost.py`.
"""

import gc
import json
import math
import os
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from benchmarks import floor, material, ours, speech
from locus import behaviours, claims
from locus.behaviours.prompts import prompt_format
from locus.edits import Rank1, full
from locus.edits.base import Edit, Terms
from locus.engine.activations import base_pass
from locus.engine.checks import run_checks, standing
from locus.engine.cost import Sizes, Tally
from locus.engine.descent import descend
from locus.engine.generate import coded, end_tokens
from locus.engine.optimum import FirstOrder
from locus.engine.train import TrainingRecipe, train
from locus.engine.training_set import TrainingSet
from locus.machine.versions import versions
from locus.models.load import load
from locus.models.model import Model
from locus.plan import trials
from locus.plan.config import resolve
from locus.plan.context import budget_of, choose
from locus.plan.memory import memory_of
from locus.records.plan import PlanBasis
from locus.report.lora import save_peft
from locus.sites.site import Location

Numbers = dict[str, Any]
Found = Iterator[tuple[str, Numbers]]
DATA = "misconceptions"
PEAKS = {  # dense bfloat16, operations a second, by what torch calls the device; NVIDIA's data sheets
    "NVIDIA H100 80GB HBM3": 989e12,
    "NVIDIA H100 PCIe": 756e12,
    "NVIDIA H100 NVL": 835e12,
    "NVIDIA H200": 989e12,
    "NVIDIA A100-SXM4-80GB": 312e12,
    "NVIDIA A100 80GB PCIe": 312e12,
}


@dataclass(frozen=True)
class Size:
    """How much is run.

    Attributes:
        questions: that edits are trained and scored on.
        banks: edits of all layers in a bank.
        together: edits that are trained, or searched for, together and one by one.
        prompts: that are answered.
        speakers: edits under which they are.
    """

    questions: int
    banks: tuple[int, ...]
    together: int
    prompts: int
    speakers: int


FULL, TINY = Size(16, (1, 8, 64), 8, 32, 4), Size(2, (1, 2), 2, 2, 2)


def _on_gpu() -> bool:
    return material.device() != "cpu"


def _peak() -> int:
    """The most bytes that were held so far: on the device, or on a CPU by this process."""
    return torch.cuda.max_memory_allocated() if _on_gpu() else 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _tried(work: Callable[[], Numbers]) -> Numbers:
    """What some work found, and its memory; or that there was not enough of it."""
    gc.collect()
    if _on_gpu():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    try:
        found = work()
    except torch.OutOfMemoryError:
        return {"failed": "out of memory"}
    return {**found, "peak": _peak()}


def _seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    floor.finish()
    start = time.perf_counter()
    made = work()
    floor.finish()
    return time.perf_counter() - start, made


def device(_: str, __: Size) -> Found:
    """The device, versions, and the rate of one large product."""
    if _on_gpu():
        about = torch.cuda.get_device_properties(0)
        named, memory = about.name, about.total_memory
    else:
        named, memory = "a CPU", os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    known = {**versions(), "cuda": torch.version.cuda}
    for package in ("triton", "vllm"):
        try:
            known[package] = version(package)
        except PackageNotFoundError:
            known[package] = "not installed"
    yield "device", {"name": named, "memory": memory, "peak": PEAKS.get(named), "versions": known}
    yield "product", {"macs_per_second": floor.matrix_rate(0.7 if _on_gpu() else 0.05)}


def checks(model: str, _: Size, dtype: Literal["float32", "bfloat16"]) -> Found:
    """Every shortcut against the plain path, on this device and in this precision."""
    frozen = material.frozen(model, dtype)

    def work() -> Numbers:
        found = run_checks(frozen, prompt_format(frozen.tokenizer))
        each = [
            {
                "name": one.name,
                "difference": one.difference if math.isfinite(one.difference) else None,
                "allowed": one.allowed,
                "passed": one.passed,
                "reason": one.reason,
            }
            for one in found
        ]
        return {"checks": each, "off": frozen.off, "standing": standing(frozen, found)}

    yield dtype, _tried(work)


def banks(model: str, size: Size) -> Found:
    """Tokens a second of banks of edits of all layers, trained and scored."""
    frozen, items = material.frozen(model), material.questions(DATA, size.questions)
    for edits in size.banks:
        yield str(edits), _tried(lambda edits=edits: ours.in_bank(frozen, items, edits))  # type: ignore[misc]


def _training_set(model: str, size: Size) -> TrainingSet:
    frozen, items = material.frozen(model), material.questions(DATA, size.questions)
    trie = material.trie_of(frozen, items)
    found = base_pass(frozen, trie, layers=[0])
    return TrainingSet(frozen, trie, items, found.logprobs, found.residuals)


def _begun(on: TrainingSet, seed: int) -> Rank1:
    return full(on.model.layout, form="heads", seed=seed)


def alone(model: str, size: Size) -> Found:
    """The same edits trained in one bank, and one by one: how much faster, and how far apart their losses are."""
    on, recipe = _training_set(model, size), TrainingRecipe(tau=0.1, lr=ours.RATE, epochs=1)

    def trained(banks: list[list[int]]) -> list[float]:
        fits = [fit for bank in banks for fit in train(on, [_begun(on, seed) for seed in bank], [recipe] * len(bank))]
        return [float(loss) for fit in fits for loss in fit.losses]

    def work() -> Numbers:
        seeds = list(range(size.together))
        in_turn, at_once = [[seed] for seed in seeds], [seeds]
        trained(in_turn[:1]), trained(at_once)  # the first time warms up
        apart, one = _seconds(lambda: trained(in_turn))
        together, other = _seconds(lambda: trained(at_once))
        return {
            "edits": size.together,
            "apart": apart,
            "together": together,
            "difference": max(abs(a - b) / max(1.0, abs(a)) for a, b in zip(one, other, strict=True)),
        }

    yield "banks", _tried(work)


def newton(model: str, size: Size) -> Found:
    """The search for an optimum: the shared linearisation, and one round of a bank."""
    on, recipe = _training_set(model, size), TrainingRecipe(tau=0.1, search="newton", rounds=1)
    sizes = Sizes.of(on.model)
    FirstOrder(on.model, material.trie_of(on.model, on.items[:1]))  # the first time warms up
    seconds, shared = _seconds(lambda: FirstOrder(on.model, on.trie))
    yield (
        "linearisation",
        {
            "seconds": seconds,
            "tokens": shared.work.tokens,
            "macs": shared.work.macs(sizes),
            "answers": len(shared.kept),
            "of": shared.count,
        },
    )

    def work() -> Numbers:
        edits, tally = [_begun(on, seed) for seed in range(size.together)], Tally(size.together)
        taken, fits = _seconds(lambda: descend(on, edits, [recipe] * len(edits), shared, tally=tally))
        works = [work for of_edit in tally.by_edit for work in of_edit.values()]
        certificates = [fit[1].certificate for fit in fits]
        return {
            "edits": len(edits),
            "seconds": taken,
            "tokens": sum(work.tokens for work in works),
            "macs": sum(work.macs(sizes) for work in works),
            "left": float(np.mean([one.loss / one.start for one in certificates])),
        }

    yield "round", _tried(work)


def _speaking(frozen: Model, size: Size) -> tuple[Model, list[str], list[Edit], Any]:
    """The model, prompts, and edits of rank 1 of one layer each, small enough for texts to stay texts; LoRA can hold them."""
    layout, generator, text = frozen.layout, np.random.default_rng(0), prompt_format(frozen.tokenizer)
    made = []
    for _ in range(size.speakers):
        layer = int(generator.integers(layout.n_layers))
        width = layout.d_in(layer)
        read, write = (torch.from_numpy(generator.normal(size=width)).float() for _ in range(2))
        place = Location.parse(",".join(f"{layer}.{head}" for head in range(layout.n_heads)))
        terms = Terms(read=read / width**0.5, write=speech.SIZE * write)
        made.append(Edit("rank1", place, layout, {layer: terms}, "all"))
    prompts = [text.prompt(item.question) for item in material.questions(DATA, size.prompts)]
    return frozen, prompts, made, text


def speak(model: str, size: Size) -> Found:
    """Answers of edited models, by us and by transformers' `generate`."""
    given = _speaking(material.frozen(model), size)
    frozen, prompts, made, text = given
    speech.together(frozen, prompts[:2], made[:1], text)  # the first time warms up
    texts: list[list[list[int]]] = []
    for name, side in (("locus", speech.together), ("generate", speech.in_turn)):
        found = _tried(lambda side=side: side(*given))  # type: ignore[misc]
        texts.append(found.pop("texts", []))
        if name == "generate" and all(texts):
            pairs = zip(*texts, strict=True)  # ours also end where the model asks a question of its own
            found["alike"] = sum(theirs[: len(own)] == own for own, theirs in pairs) / len(texts[0])
        yield name, found


def vllm(model: str, size: Size) -> Found:
    """The same answers by vLLM, the edits as LoRA adapters; written from its documentation and not run yet."""
    # On the CPU: the GPU is left to vLLM.
    frozen = material.frozen(model) if model in material.SHAPES else load(model, device="cpu", dtype="float32")
    _, prompts, made, text = _speaking(frozen, size)
    with tempfile.TemporaryDirectory() as kept:
        folders = [Path(kept) / str(number) for number in range(len(made))]
        for folder, edit in zip(folders, made, strict=True):
            folder.mkdir()
            save_peft(frozen, edit, folder)
        base = json.loads((folders[0] / "adapter_config.json").read_text())["base_model_name_or_path"]
        try:
            from vllm import LLM, SamplingParams
            from vllm.lora.request import LoRARequest
        except ImportError:
            yield "vllm", {"failed": "not installed"}
            return
        llm = LLM(base, dtype="bfloat16", enable_lora=True, max_loras=len(made), max_lora_rank=8, max_model_len=1024)
        asked = [{"prompt_token_ids": list(coded(frozen, prompt, text))} for prompt in prompts]
        settings = SamplingParams(
            temperature=0.0, max_tokens=speech.SPEECH.max_new_tokens, stop_token_ids=sorted(end_tokens(frozen, text))
        )
        adapters = [LoRARequest(folder.name, number + 1, str(folder)) for number, folder in enumerate(folders)]
        llm.generate(asked[:1] * len(adapters), settings, lora_request=adapters)  # the first time warms up
        requests = [adapter for adapter in adapters for _ in asked]
        seconds, outputs = _seconds(lambda: llm.generate(asked * len(adapters), settings, lora_request=requests))
        yield "vllm", {"seconds": seconds, "tokens": sum(len(one.outputs[0].token_ids) for one in outputs)}


def largest(model: str, _: Size) -> Found:
    """The largest model of these layers that the device holds for `quick`, one edit in a forward: reckoned, not tried."""
    frozen = material.frozen(model)
    config = resolve("quick", model=model, data=DATA, device=material.device())
    dataset, layout = behaviours.load(DATA), frozen.layout
    items = choose(dataset, behaviours.split(dataset.items, config.seed), config)["train"]
    trie = material.trie_of(frozen, items)
    budget = replace(budget_of(frozen, config, trie), edits=1)
    claim = claims.given(ours._place(layout, min(config.claim_size, layout.n_heads)))
    plan = trials.make(config, layout, [claim], PlanBasis.model_construct(context={}), budget)
    memory = memory_of(frozen, plan, {"train": trie}, budget, 1)  # gradients and residual streams are not on the device
    parameters = [sum(one.numel() for one in part) for part in ([*frozen.hf.parameters()], [*frozen.layers[0].parameters()])]
    layer = parameters[1]
    outside = parameters[0] - layout.n_layers * layer
    per_layer = layer * frozen.dtype.itemsize + memory.training / layout.n_layers
    held = torch.cuda.get_device_properties(0).total_memory if _on_gpu() else next(device("", TINY))[1]["memory"]
    layers = int((held - outside * frozen.dtype.itemsize) // per_layer)
    yield (
        "largest",
        {
            "reckoned": True,
            "memory": held,
            "layers": layers,
            "parameters": outside + layers * layer,
            "bytes": {"a layer's weights": layer * frozen.dtype.itemsize, "training": memory.training, "weights": memory.weights},
        },
    )
