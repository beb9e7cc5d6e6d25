"""The model that settings name: loaded, or taken as it was opened, and its twin where that is meant."""

from collections.abc import Callable
from typing import Any, Literal, Protocol

from locus.models.load import load
from locus.models.model import Model
from locus.models.twin import twin_of


class ModelSettings(Protocol):
    """The settings that say which model is meant, and how it is loaded: those of an audit or of patching."""

    @property
    def model(self) -> str:
        """Hub id, model folder, GGUF file, or planted:KIND:SEED."""

    @property
    def device(self) -> str:
        """cpu, cuda, cuda:N or auto."""

    @property
    def dtype(self) -> Literal["auto", "float32", "bfloat16"]:
        """Of computation."""

    @property
    def revision(self) -> str | None:
        """Of a hub model."""

    @property
    def trust_remote_code(self) -> bool:
        """Whether code that comes with the model is run."""

    @property
    def adapter(self) -> str | None:
        """none, merged, or an adapter's folder."""


def load_configured(
    settings: ModelSettings,
    *,
    device: str | None = None,
    first: Callable[[Any, int], None] = lambda tokenizer, context: None,
) -> Model:
    """Load the model that settings name; as `load`.

    Args:
        settings: of an audit, or of patching.
        device: instead of the one that the settings name.
        first: as in `load`.

    Raises:
        UserError: as `load`.
    """
    spread = getattr(settings, "device_map", None)  # patching has no such setting, nor a twin
    loaded = load(
        settings.model,
        device=settings.device if device is None else device,
        dtype=settings.dtype,
        revision=settings.revision,
        trust_remote_code=settings.trust_remote_code,
        adapter=settings.adapter,
        device_map=spread,
        tp_plan=getattr(settings, "tp_plan", None),
        first=first,
    )
    seed: int | None = getattr(settings, "twin", None)
    return loaded if seed is None else twin_of(loaded, seed)


def as_asked(model: Model, seed: int | None) -> Model:
    """An open model, or its twin where one is asked for and it is not that twin already.

    Args:
        model: as it was opened.
        seed: of the twin; None where the model itself is meant.

    Raises:
        UserError: as `twin_of`.
    """
    return model if seed is None or model.settings.get("twin") == seed else twin_of(model, seed)
