"""What lies between a model's last layer and its vocabulary head, as one module."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Tail(nn.Sequential):
    """Some modules in order, with a factor.

    Args:
        modules: of the model.
        factor: by which what they give is multiplied.
        to: where the head is, to which it is brought; None where all of the model is in one place.
    """

    def __init__(self, modules: Sequence[nn.Module], factor: float, to: torch.device | None):
        super().__init__(*modules)
        self.factor, self.to_device = factor, to

    def forward(self, hidden: Tensor) -> Tensor:
        """All of it, in order."""
        output: Tensor = super().forward(hidden)  # type: ignore[no-untyped-call]
        output = output if self.factor == 1.0 else output * self.factor
        return output if self.to_device is None else output.to(self.to_device)


def tail(modules: Sequence[nn.Module], factor: float, to: torch.device | None = None) -> nn.Module:
    """The modules as one, which is the module itself where there is one and nothing else to do."""
    return modules[0] if len(modules) == 1 and factor == 1.0 and to is None else Tail(modules, factor, to)
