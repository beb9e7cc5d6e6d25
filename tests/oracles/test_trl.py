"""IPO as TRL computes it, on the same batch of the same model: `make oracles`."""

import numpy as np
import pytest
import torch

from locus.behaviours.prompts import prompt_format
from locus.edits import full
from locus.engine.activations import base_pass
from locus.engine.bank import Bank
from locus.engine.train import pair_loss
from locus.engine.training_set import all_pairs
from locus.engine.trie import build_trie
from locus.metrics.choice import score
from tests.families import QUESTIONS, tiny

trl = pytest.importorskip("trl")
pytestmark = pytest.mark.oracle


def test_ipo_equals_trl(tmp_path):
    """TRL's DPOTrainer with loss_type ipo on a hooked model, against ours with reduce = mean; same pairs, same tokens."""
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    model = tiny("llama-mha")
    text = prompt_format(model.tokenizer, "qa")
    trie = build_trie(model.tokenizer, text, QUESTIONS)
    pairs = np.concatenate([all_pairs(QUESTIONS, trie, owner) for owner in range(len(QUESTIONS))])[:8]
    edit = full(model.layout, seed=1)
    with torch.no_grad():
        edit.flat.add_(torch.randn(edit.flat.shape, generator=torch.Generator().manual_seed(0)) * 0.05)
    frozen = edit.frozen({})
    found = base_pass(model, trie)
    logprobs = score(model, found.prepared, [frozen], len(trie.sequences))[0]
    gain = (logprobs - found.logprobs) / found.lengths
    h = torch.from_numpy(gain[pairs[:, 0]] - gain[pairs[:, 1]])[None]
    ours = pair_loss(h, torch.tensor([0.1]), "ipo").mean().item()

    def ids(index: int, answer: bool) -> list[int]:
        sequence = trie.sequences[index]
        return list(sequence.ids[sequence.start :] if answer else sequence.ids[: sequence.start])

    rows = {
        "prompt_ids": [ids(true, False) for true, _ in pairs],
        "chosen_ids": [ids(true, True) for true, _ in pairs],
        "rejected_ids": [ids(false, True) for _, false in pairs],
    }
    arguments = DPOConfig(
        output_dir=str(tmp_path),
        loss_type="ipo",
        beta=0.1,
        per_device_train_batch_size=8,
        report_to=[],
        use_cpu=True,
        precompute_ref_log_probs=False,
        bf16=False,
        gradient_checkpointing=False,
    )
    theirs = trl_loss(DPOTrainer, model, frozen, arguments, Dataset, rows)
    assert ours == pytest.approx(theirs, abs=1e-4)


def trl_loss(trainer_class, model, edit, arguments, dataset_class, rows) -> float:
    """One batch through TRL's own loss, reference without and policy with the edit's hooks."""
    decode = lambda ids: model.tokenizer.decode(ids, skip_special_tokens=True)  # noqa: E731
    table = dataset_class.from_dict(
        {
            "prompt": [decode(ids) for ids in rows["prompt_ids"]],
            "chosen": [decode(ids) for ids in rows["chosen_ids"]],
            "rejected": [decode(ids) for ids in rows["rejected_ids"]],
        }
    )
    policy, reference = (type(model.hf)(model.hf.config) for _ in range(2))
    for one in (policy, reference):
        one.load_state_dict(model.hf.state_dict())
    trainer = trainer_class(policy, reference, args=arguments, train_dataset=table, processing_class=model.tokenizer)
    ready = [dict(row) for row in trainer.train_dataset]
    for index, row in enumerate(ready):  # the same tokens on both sides: TRL appends an end-of-text token, which we do not score
        row.update({name: rows[name][index] for name in rows})
    batch = trainer.data_collator(ready)
    from locus.models.model import Model

    with Bank([edit]).attach(Model(policy, model.tokenizer, "policy")), torch.no_grad():
        loss = trainer.compute_loss(policy, batch)
    return float(loss)
