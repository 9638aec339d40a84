"""What a user can get wrong, and the remedy.

Each message is one line: what is wrong, where, and what to do about it. The command prints it and exits
with code 2; nobody sees a traceback for a mistake of their own.
"""


class JaxsodeError(Exception):
    """Base of all errors that the user can mend."""


class ArgumentError(JaxsodeError, ValueError):
    """A setting out of its range, or settings that contradict each other."""


class DataError(JaxsodeError):
    """Pictures or masks that are missing, unreadable or of the wrong kind."""


class WeightsError(JaxsodeError):
    """Weights that are missing, damaged, or of another backbone."""


class DownloadError(JaxsodeError):
    """A file that did not come whole, or is not the one that was meant."""


class Unreachable(DownloadError):
    """The server can't be reached or does not have the file; another may."""


class CheckpointError(JaxsodeError):
    """A saved detector that is missing, half-written or of another version."""


class OutputError(JaxsodeError):
    """An output folder that can't be written or already holds something."""


class NumericalError(JaxsodeError, ArithmeticError):
    """A factorisation that failed, with the index of the location."""
