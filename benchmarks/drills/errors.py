"""What ends a drill without a verdict."""


class DrillError(Exception):
    """A drill could not be carried out: the message says what did not happen."""


class SkippedError(DrillError):
    """This machine does not allow the drill: the message says what it lacks."""
