"""Arithmetic of a group on a GPU: TF32 and deterministic kernels, which torch sets for the whole process."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.backends import cuda, cudnn

from suites.base import Training


@contextmanager
def arithmetic(training: Training, device: torch.device | str) -> Iterator[None]:
    """Return a context in which torch computes as the training settings say; it changes nothing on a CPU.

    Whatever else set the process's own switches, the same cell computes alike.
    """
    if torch.device(device).type != "cuda":
        yield
        return
    # Deterministic products need it, and it is read when the GPU is first used.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = cuda.matmul.allow_tf32, cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark
    strict = torch.are_deterministic_algorithms_enabled()
    tf32, deterministic = training.precision == "tf32", training.deterministic
    try:
        _set(tf32, tf32, deterministic, False)
        torch.use_deterministic_algorithms(deterministic)
        yield
    finally:
        _set(*before)
        torch.use_deterministic_algorithms(strict)


def _set(products: bool, convolutions: bool, deterministic: bool, benchmark: bool) -> None:
    cuda.matmul.allow_tf32, cudnn.allow_tf32 = products, convolutions
    cudnn.deterministic, cudnn.benchmark = deterministic, benchmark
