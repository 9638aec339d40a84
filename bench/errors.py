"""What a suite can't honestly measure. Here nothing is imported: a peer's process must not hold JAX."""


class BenchError(RuntimeError):
    """A measurement that would not be honest, or can't be taken; the message says why."""
