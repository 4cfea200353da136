"""Errors of the forecaster.

ModelError
└── WeightsError   a weights file is missing, truncated, altered or made for another network
"""


class ModelError(Exception):
    """Root of the tree."""


class WeightsError(ModelError):
    """Names the file, what is wrong with it, and what to do."""
