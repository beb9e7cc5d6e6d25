"""Protected directions of the residual stream, and the laws that make a planted location a fact.

An orthonormal basis is drawn; its first vectors get names, the rest is free. Noise may read and write the free
directions as it likes. What it may not do is listed in `laws`, each law a number that is zero up to rounding:
where all are zero, the difference between the answers' logits is the polarity coordinate of the final state times a
constant, and only the planted heads can write that coordinate or feed what they write.

- truth: -1 in a question, +1 in a true answer, -1 in a false one (in *borrowed*: the bit of the question).
- belief, constant: the same in every question and answer. key: what planted heads attend to. end: marks answers.
- polarity: the only direction along which the logits of true and false answers differ.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from locus.models.planted.kinds import PlantedPlan

Array = npt.NDArray[np.float64]

SHARED = ("truth", "belief", "key", "constant", "end")


@dataclass(frozen=True)
class PlantedDirections:
    """An orthonormal basis of the residual stream with names for its first vectors.

    Attributes:
        basis: [width, width], one direction a row.
        names: name of each of the first rows.
    """

    basis: Array
    names: tuple[str, ...]

    def __getitem__(self, name: str) -> Array:
        """The direction of a name, [width]."""
        vector: Array = self.basis[self.names.index(name)]
        return vector

    @property
    def polarities(self) -> Array:
        """[n_polarities, width]."""
        return np.stack([self[name] for name in self.names if name.startswith("polarity")])

    @property
    def protected(self) -> Array:
        """[n_named, width]: what no noise may write."""
        rows: Array = self.basis[: len(self.names)]
        return rows

    @property
    def free(self) -> Array:
        """[width - n_named, width]: where noise lives."""
        rows: Array = self.basis[len(self.names) :]
        return rows

    @property
    def readable(self) -> Array:
        """[n, width]: what noise may read, everything but truth and the polarities."""
        keep = [name in ("belief", "key", "constant", "end") for name in self.names]
        return np.concatenate([self.protected[keep], self.free])


def draw_directions(
    width: int, n_polarities: int, rng: np.random.Generator, shared: tuple[str, ...] = SHARED
) -> PlantedDirections:
    """A uniformly random orthonormal basis with the protected names on its first vectors."""
    gaussian = rng.standard_normal((width, width))
    orthogonal, triangular = np.linalg.qr(gaussian)
    # QR alone leaves the signs to the library; fixing them makes the draw uniform and the same everywhere.
    basis = (orthogonal * np.sign(np.diag(triangular))).T
    names = tuple(f"polarity{index}" for index in range(n_polarities)) + shared
    return PlantedDirections(np.ascontiguousarray(basis), names)


def laws(model: Any, directions: PlantedDirections, plan: PlantedPlan) -> dict[str, float]:
    """How far the weights are from each law that makes the location a fact: the largest absolute entry.

    Args:
        model: the LlamaForCausalLM; its weights are read in float64.
        directions: its named directions.
        plan: the roles of its heads.

    Returns:
        heads_write: what an output matrix writes to a protected direction, roles' own polarity apart.
        mlps_write: the same for down_proj.
        noise_reads: what heads without a part, and MLPs, read of truth and polarity.
        roles_read: what a role's polarity row can reach through its value matrix, its own direction apart.
        roles_attend: what a role's queries read beside `constant` and its keys beside `key`.
        roles_leak: what a role's carried bit writes anywhere but to its polarity.
        gains: distance of the norms' gains from 1.
    """
    violations = dict.fromkeys(
        ("heads_write", "mlps_write", "noise_reads", "roles_read", "roles_attend", "roles_leak", "gains"), 0.0
    )

    def note(name: str, values: Array) -> None:
        violations[name] = max(violations[name], float(np.abs(values).max(initial=0.0)))

    hidden = np.stack([*directions.polarities, directions["truth"]])
    note("gains", _array(model.model.norm.weight) - 1)
    for index, layer in enumerate(model.model.layers):
        note("gains", _array(layer.input_layernorm.weight) - 1)
        note("gains", _array(layer.post_attention_layernorm.weight) - 1)
        note("mlps_write", directions.protected @ _array(layer.mlp.down_proj.weight))
        note("noise_reads", _array(layer.mlp.gate_proj.weight) @ hidden.T)
        note("noise_reads", _array(layer.mlp.up_proj.weight) @ hidden.T)
        _check_heads(index, layer.self_attn, directions, plan, note)
    return violations


def _check_heads(index: int, attention: Any, directions: PlantedDirections, plan: PlantedPlan, note: Any) -> None:
    roles = {role.place: role for role in plan.roles}
    size = attention.head_dim
    hidden = np.stack([*directions.polarities, directions["truth"]])
    projections = {name: _array(getattr(attention, f"{name}_proj").weight) for name in "qkv"}
    write = _array(attention.o_proj.weight)
    for head in range(write.shape[1] // size):
        rows = slice(head * size, (head + 1) * size)
        query, key, value, output = projections["q"][rows], projections["k"][rows], projections["v"][rows], write[:, rows]
        role = roles.get((index, head))
        allowed = [] if role is None else list(role.writes)
        protected_output = directions.protected @ output
        note("heads_write", np.delete(protected_output, allowed, axis=0))
        if role is None:
            note("noise_reads", np.concatenate([query, key, value]) @ hidden.T)
            continue
        note("roles_attend", query - np.outer(query @ directions["constant"], directions["constant"]))
        note("roles_attend", key - np.outer(key @ directions["key"], directions["key"]))
        carried = np.zeros(size) if role.reads is None else value @ directions[role.reads]
        beside = value if role.reads is None else value - np.outer(carried, directions[role.reads])
        note("noise_reads", beside @ hidden.T)
        note("roles_read", protected_output[allowed] @ beside)
        note("roles_leak", directions.basis[len(directions.names) :] @ (output @ carried))


def _array(tensor: Any) -> Array:
    array: Array = tensor.detach().double().numpy()
    return array
