"""The shortcuts by which the engine spares work: each is held against the plain path, and switched off alone where it fails.

`Model.off` says of every shortcut that a model does not allow why; plan and page say it on.
"""

TREES = "trees"
RESIDUALS = "base layers"
LAST_MLP = "last MLP"
PROMPTS = "prompts"
BANKS = "banks"
LEFT = "left padding"
SPEECH = "speech"
CACHE = "cache"
THREADS = "threads"
WITH_TREES = (RESIDUALS, LAST_MLP, PROMPTS, LEFT, SPEECH)  # which rest on layers that are run one by one

# What is done where the shortcut is not taken.
WITHOUT = {
    TREES: "row by row: every answer is read by itself, and the model is run whole",
    RESIDUALS: "every edit is run from the first layer on",
    LAST_MLP: "the last MLP is run at every token",
    PROMPTS: "every edit of the answers reads the prompts by itself",
    BANKS: "every edit is run by itself",
    LEFT: "prompts are not padded on the left",
    SPEECH: "prompts are answered one after the other",
    CACHE: "a text is read anew for every token that is added to it",
    THREADS: "a process runs one forward at a time",
}


def told(off: dict[str, str]) -> list[str]:
    """What is done without, and why, a sentence each."""
    return [f"{WITHOUT.get(name, name)} ({reason})" for name, reason in off.items()]
