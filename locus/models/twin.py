"""The twin of a model: the same architecture with weights redrawn at random, of the same spectra. In it nothing is anywhere.

What a method finds in a model whose weights are noise is what it finds where there is nothing ("dead salmons", arXiv 2512.18792).
A plain random initialisation would be another kind of model, whose layers stretch a vector otherwise. So every matrix `U S V'`
keeps its singular values `S` and is given new `U` and `V`, Haar-distributed: the QR decomposition of Gaussian numbers with the
signs of its diagonal taken out (Mezzadri 2007, "How to generate random matrices from the classical compact groups", arXiv
math-ph/0609050). Embeddings are matrices as well; tied ones stay tied. Vectors (norms, biases) and buffers stay.
"""

import hashlib
from typing import Any

import torch
from torch import Tensor, nn

from locus.models.checkpoint import no_twin
from locus.models.memory import view
from locus.models.model import Model


def called(name: str, seed: int) -> str:
    """What the twin of a model is called in plans, verdicts and receipts."""
    return f"twin of {name}, seed {seed}"


def twin_of(model: Model, seed: int) -> Model:
    """A model with the weights of another redrawn; that other stays as it is.

    Args:
        model: the model.
        seed: of the draws; each matrix has its own stream, by its name.

    Raises:
        UserError: if its weights are quantised, so that their spectra are not the model's own.
    """
    if model.quantised:
        raise no_twin(model.name)
    name = called(model.name, seed)
    hf = view(model.hf, name)
    redraw(hf, seed)
    twin = Model(hf, model.tokenizer, name, merged=True)  # to be had under no other name
    twin.settings = {**model.settings, "twin": seed}
    return twin


def redraw(hf: nn.Module, seed: int) -> None:
    """Give every matrix of a model new singular vectors, in place; a parameter of more dimensions is a stack of matrices.

    Args:
        hf: whose parameters are replaced; tied ones are one parameter.
        seed: of the draws.
    """
    for name, parameter in hf.named_parameters():
        if parameter.ndim < 2 or 0 in parameter.shape:
            continue
        matrices = parameter.detach().reshape(-1, *parameter.shape[-2:])
        stacked = [redrawn(one, f"{seed}|{name}|{number}") for number, one in enumerate(matrices)]
        parameter.data = torch.stack(stacked).reshape(parameter.shape)


def redrawn(matrix: Tensor, stream: str) -> Tensor:
    """A matrix [m, n] with the singular values of another and random singular vectors, in its dtype and on its device.

    Args:
        matrix: whose singular values are kept.
        stream: names the random numbers.
    """
    values = torch.linalg.svdvals(matrix.float())
    generator = torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(stream.encode()).digest()[:7], "big"))
    left, right = (orthonormal(size, len(values), generator, matrix.device) for size in matrix.shape)
    product: Tensor = (left * values) @ right.T
    return product.to(matrix.dtype)


def orthonormal(size: int, count: int, generator: torch.Generator, device: Any = "cpu") -> Tensor:
    """[size, count], Haar-distributed orthonormal columns."""
    gaussian = torch.randn(size, count, generator=generator).to(device)
    columns, triangle = torch.linalg.qr(gaussian)
    haar: Tensor = columns * torch.where(triangle.diagonal() < 0, -1.0, 1.0)
    return haar
