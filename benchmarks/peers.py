"""The peers at their best documented settings, on the same model, questions and token ids."""

import os
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TQDM_DISABLE", "1")

import torch

from benchmarks import material
from benchmarks.ours import RATE, _started
from locus.behaviours.prompts import PromptFormat
from locus.engine.train import TrainingRecipe, schedule


def training(model: str, data: str, count: int, place: str, seed: int = 0) -> dict[str, Any]:
    """One rank-1 LoRA on o_proj (of all layers, or of those of a place) by TRL's DPOTrainer with loss_type="ipo", one epoch.

    float32, SDPA, batches of four pairs, reference log-probs precomputed, no gradient checkpointing, dynamic padding. PEFT cannot
    keep a LoRA to some heads: the LoRA of the whole layer stands for it (it costs the same). Pairs, order, start, schedule,
    clipping and optimiser are ours, so that the losses of all steps can be compared.
    """
    from datasets import Dataset
    from peft import LoraConfig
    from trl import DPOConfig, DPOTrainer

    frozen, items = material.frozen(model), material.questions(data, count)
    trie = material.trie_of(frozen, items)
    recipe = TrainingRecipe(tau=0.1, lr=RATE, reduce="mean", epochs=1, batch=4, batching="pairs")
    rows: dict[str, list[list[int]]] = {"prompt_ids": [], "chosen_ids": [], "rejected_ids": []}
    for step in schedule(items, trie, recipe)[0]:
        for true, false in step.tolist():
            chosen, rejected = trie.sequences[true], trie.sequences[false]
            rows["prompt_ids"].append(list(chosen.ids[: chosen.start]))
            rows["chosen_ids"].append(list(chosen.ids[chosen.start :]))
            rows["rejected_ids"].append(list(rejected.ids[rejected.start :]))

    class Given(DPOTrainer):  # type: ignore[misc]
        def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
            return dataset  # the token ids are settled: TRL would append an end-of-text token, which we do not score

        def _get_train_sampler(self, *_: Any) -> Any:
            return torch.utils.data.SequentialSampler(self.train_dataset)

    layers = None if place == "all" else [int(layer) for layer in place.split(",")]
    lora = LoraConfig(r=1, lora_alpha=1, lora_dropout=0.0, target_modules=["o_proj"], task_type="CAUSAL_LM")
    if layers is not None:
        lora.layers_to_transform, lora.layers_pattern = layers, "layers"
    with tempfile.TemporaryDirectory() as folder:
        told = DPOConfig(
            output_dir=folder,
            loss_type="ipo",
            beta=0.1,
            learning_rate=RATE,
            lr_scheduler_type="cosine",
            num_train_epochs=1,
            per_device_train_batch_size=4,
            precompute_ref_log_probs=True,
            precompute_ref_batch_size=4,
            gradient_checkpointing=False,
            max_length=None,
            use_cpu=material.device() == "cpu",
            bf16=False,
            logging_steps=1,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            dataloader_pin_memory=False,
        )
        start = time.perf_counter()
        table = Dataset.from_dict(rows)
        trainer = Given(frozen.hf, args=told, train_dataset=table, processing_class=frozen.tokenizer, peft_config=lora)
        begun = _started(frozen, place, "free", seed)
        with torch.no_grad():
            for name, parameter in trainer.model.named_parameters():
                if "lora_A" in name:
                    terms = begun.terms(int(name.split(".layers.")[1].split(".")[0]))
                    assert terms is not None and terms.read is not None, name
                    parameter.copy_(terms.read[None])
        trainer.train()
        seconds = time.perf_counter() - start
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return {"seconds": seconds, "pairs": material.pair_count(items), "check": losses}


def choice(model: str, data: str, count: int, template: str, batch: int = 8) -> dict[str, Any]:
    """lm-eval's HF backend: one row per answer, requests sorted by length by the backend itself."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    frozen, items = material.frozen(model), material.questions(data, count)
    text = PromptFormat("few-shot", template, " ", False)
    peer = HFLM(pretrained=frozen.hf, tokenizer=frozen.tokenizer, batch_size=batch)
    start = time.perf_counter()
    requests = [
        Instance("loglikelihood", {}, (text.prompt(item.question), f" {answer}"), 0) for item in items for answer in item.answers
    ]
    found = [value for value, _ in peer.loglikelihood(requests, disable_tqdm=True)]
    return {"seconds": time.perf_counter() - start, "answers": len(found), "check": found}


def six_shot() -> str:
    """lm-eval's own six-shot TruthfulQA prompt up to the answer, with {question} in it; rendered from its task file."""
    import importlib.util

    import jinja2
    import yaml

    spec = importlib.util.find_spec("lm_eval.tasks.truthfulqa")
    assert spec is not None and spec.submodule_search_locations is not None, "lm-eval is installed with its tasks"
    task = yaml.safe_load((Path(next(iter(spec.submodule_search_locations))) / "truthfulqa_mc1.yaml").read_text(encoding="utf-8"))
    return str(jinja2.Environment(autoescape=False).from_string(task["doc_to_text"]).render(question="{question}"))
