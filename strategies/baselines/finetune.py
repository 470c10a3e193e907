"""Plain fine-tuning: what every method must beat."""

from dataclasses import dataclass

from strategies.core import Strategy


@dataclass
class Finetune(Strategy):
    """Plain training on one task after the other: the lower bound."""

    name = "finetune"
    generates = True
    paper = "McCloskey & Cohen 1989, Catastrophic interference in connectionist networks"
