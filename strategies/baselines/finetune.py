"""Plain fine-tuning: what every method must beat."""

from strategies.core import Strategy


class Finetune(Strategy):
    """Plain training on one task after the other: the lower bound."""

    name = "finetune"
    generates = True
    paper = "McCloskey & Cohen 1989, Catastrophic interference in connectionist networks"
