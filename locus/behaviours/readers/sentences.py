"""Two sentences as a question: what both begin with is asked, and the rest of each is an answer.

With the prompt format `bare` the difference of the answers is then that of the whole sentences, token for token.
"""

from locus.behaviours.readers.reader import LeftOut

NO_START = "the two sentences share no first word, which leaves nothing to ask"


def parted(first: str, second: str) -> tuple[str, str, str]:
    """What two sentences begin with, whole words, and the rest of each.

    Raises:
        ValueError: if they are the same.
        LeftOut: if they share no first word.
    """
    if first == second:
        raise ValueError("both sentences are the same")
    one, other = first.split(), second.split()
    shared = 0
    while shared < min(len(one), len(other)) - 1 and one[shared] == other[shared]:
        shared += 1
    if not shared:
        raise LeftOut(NO_START)
    if one[shared:] == other[shared:]:
        raise ValueError("both sentences are the same but for blanks")
    return " ".join(one[:shared]), " ".join(one[shared:]), " ".join(other[shared:])
