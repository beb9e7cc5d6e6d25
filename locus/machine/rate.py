"""How fast this machine multiplies now."""

import time

import numpy as np
import torch

REACHED = 0.75  # of a matrix product's rate, by trials on a CPU (docs/cost.md)
SIDE, SECONDS = 1024, 0.2  # of the product that is timed, and how long


def matrix_rate(device: torch.device) -> float:
    """Multiply-adds a second of a float32 matrix product (bfloat16 on a GPU), now."""
    dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
    a, b = (torch.ones(SIDE, SIDE, device=device, dtype=dtype) for _ in range(2))

    def once() -> float:
        began = time.perf_counter()
        float((a @ b)[0, 0])  # waited for, on a GPU too
        return time.perf_counter() - began

    once()
    taken: list[float] = []
    while sum(taken) < SECONDS:
        taken.append(once())
    return float(SIDE**3 / np.median(taken))
