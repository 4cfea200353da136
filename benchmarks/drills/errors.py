"""What ends a drill without a verdict."""


class DrillError(Exception):
    """A drill could not be carried out: the message says what did not happen."""
