"""Whether a device can be used any more in this process."""

import torch


def is_broken(device: str) -> bool:
    """Return whether a GPU fails every call: after a fault of a CUDA kernel, until the process ends."""
    if torch.device(device).type != "cuda":
        return False
    try:
        torch.cuda.synchronize(device)
    except RuntimeError:
        return True
    return False
