"""Pairs for planted models, where it is known which head should be found.

A question and its true answer's word differ, for the heads, in the truth coordinate: a planted head that reads it pushes the
other way. What the model says (the false answer) is the answer here, and the true one the other.
"""

import numpy as np

from locus.errors import UserError
from locus.models.planted import Planted
from locus.patching.pairs import END, PatchPair


def planted_pairs(planted: Planted, count: int, seed: int = 0, shuffled: bool = False) -> list[PatchPair]:
    """Pairs of a planted model, as many as it has questions at most.

    Args:
        planted: the model.
        count: how many.
        seed: of the choice of questions, and of the coins.
        shuffled: let a fair coin decide which answer counts as right, so that no component has an effect on average.

    Raises:
        UserError: for a model of other sites, whose questions and answers do not differ so.
    """
    if planted.site != "head":
        raise UserError("a planted model of heads, for the task planted", planted.kind, "Use --model planted:localized:0.")
    number = planted.tokenizer.get_vocab()
    rng = np.random.default_rng(seed)
    items = [planted.dataset.items[index] for index in rng.permutation(len(planted.dataset.items))[:count]]
    begin = int(planted.tokenizer.bos_token_id)
    pairs = []
    for item in items:
        question, true, false = number[item.question], number[item.best], number[item.unwanted[0]]
        answers = ((false,), (true,))
        right, wrong = answers if not shuffled or rng.integers(2) else answers[::-1]
        text = (item.question, item.best)
        pairs.append(PatchPair((begin, question), (begin, true), right, wrong, {END: (1,)}, "planted", "", text))
    return pairs
