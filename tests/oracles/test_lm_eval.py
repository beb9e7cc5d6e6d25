"""MC1 and MC2 per question as lm-eval scores TruthfulQA, for the same prompts: `make oracles`."""

import numpy as np
import pytest

from locus.behaviours.prompts import PromptFormat
from locus.engine.activations import base_pass
from locus.engine.trie import build_trie
from locus.metrics.choice import measures

pytest.importorskip("lm_eval")
pytestmark = [pytest.mark.oracle, pytest.mark.big]


def test_log_probs_and_scores_equal_lm_eval(big_model, data_folder):
    """lm-eval's HF backend on its own six-shot prompt: every answer to 1e-3 nats, MC1 and MC2 of every question."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks.truthfulqa import utils

    from benchmarks.peers import six_shot
    from locus import behaviours as datasets

    items = datasets.load(str(data_folder / "truthfulqa/v0/mc_task.json")).items[:12]
    text = PromptFormat("lm-eval", six_shot(), " ", False)
    trie = build_trie(big_model.tokenizer, text, items)
    ours = base_pass(big_model, trie).logprobs
    peer = HFLM(pretrained=big_model.hf, tokenizer=big_model.tokenizer, batch_size=8)
    requests = [
        Instance("loglikelihood", {}, (text.prompt(item.question), f" {answer}"), 0) for item in items for answer in item.answers
    ]
    theirs = np.array([value for value, _ in peer.loglikelihood(requests, disable_tqdm=True)])
    np.testing.assert_allclose(ours, theirs, atol=1e-3)

    mine = measures(items, trie, ours)
    begin = 0
    for index, item in enumerate(items):
        values = theirs[begin : begin + len(item.answers)]
        begin += len(item.answers)
        document = {"mc2_targets": {"labels": [1] * len(item.wanted) + [0] * len(item.unwanted)}}
        scored = utils.process_results_mc2(document, [(value, False) for value in values])
        assert mine["mc2"][index] == pytest.approx(scored["acc"], abs=1e-3)
        best = values[item.wanted.index(item.best)]
        assert mine["mc1"][index] == float(best > values[len(item.wanted) :].max())
