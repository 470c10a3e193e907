"""Joint and cumulative training: the upper bounds."""

from strategies.core import Strategy


class Joint(Strategy):
    """Training once on the rows of all tasks together: the upper bound.

    The number of iterations is the sum over tasks. Only the first and the last row of R exist.
    """

    name = "joint"
    generates = True
    paper = "Caruana 1997, Multitask learning"
    needs = "the rows of all tasks at once"
    trains_on = "all"
    needs_boundaries = True


class Cumulative(Strategy):
    """Training from the initial weights, at every task, on all rows so far: R* of intransigence.

    Iterations grow with the number of tasks, so that every row gets its share.
    """

    name = "cumulative"
    generates = True
    paper = "Chaudhry et al. 2018, Riemannian walk for incremental learning, section 3"
    needs = "the rows of all tasks so far"
    trains_on = "seen"
    restarts = True
    needs_boundaries = True
