"""A toy source of models: planted models under another name."""

from locus.models.model import Model
from locus.models.planted.named import load_named


def grown(name: str, device: str) -> Model:
    """The model of a name, grown:SEED."""
    planted = load_named(f"planted:localized:{name.partition(':')[2] or 0}", device)
    return Model(planted.hf, planted.tokenizer, name)
