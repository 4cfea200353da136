"""Every error flashcast raises.

    FlashcastError
    ├── ConfigurationError   a setting is missing, malformed or contradictory: the operator mends it
    ├── ContractError        a record breaks the wire contract: a dead letter, with its reason
    ├── BrokerError          Kafka is unreachable or refused something
    │   ├── FencedError      another owner has this partition: forget all, join again
    │   └── CodecError       fetched bytes are no record batch, or a damaged one: fetch them again
    └── StateError           a snapshot, marker or changelog row cannot be trusted

Whose fault an error is, is its type. A message says what was wrong, with the value, and what to do.
"""

from enum import StrEnum
from typing import Final

import msgspec

# What msgspec raises for bytes that are no JSON of the type asked for; the last for deep nesting.
UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Reason(StrEnum):
    """Why a record became a dead letter. The names are part of the wire contract."""

    NOT_JSON = "not_json"
    NOT_UTF8 = "not_utf8"
    VALUE_MISSING = "value_missing"
    VALUE_TOO_LARGE = "value_too_large"
    MISSING_FIELD = "missing_field"
    WRONG_TYPE = "wrong_type"
    OUT_OF_RANGE = "out_of_range"
    KEY_MISSING = "key_missing"
    KEY_MISMATCH = "key_mismatch"
    WRONG_PARTITION = "wrong_partition"
    EVENT_TIME_UNIT = "event_time_unit"
    EVENT_TIME_FUTURE = "event_time_future"
    BATCH_UNREADABLE = "batch_unreadable"  # a whole record batch, intact and undecodable
    SKU_UNKNOWN = "sku_unknown"  # not admitted: the catalog has no entry for it
    SKU_LIMIT = "sku_limit"  # not admitted: there are as many SKUs as there may be


NOT_ADMITTED: Final = (Reason.SKU_UNKNOWN, Reason.SKU_LIMIT)


class FlashcastError(Exception):
    """Root of the tree."""


class ConfigurationError(FlashcastError):
    """Names the variable, the value and what is allowed."""


class ContractError(FlashcastError):
    """A record that breaks the wire contract.

    `reason` is counted and published; `detail` says it in words, offending value shortened.
    """

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class BrokerError(FlashcastError):
    """Kafka is unreachable or refused something; retried by the shells, within bounds."""


class FencedError(BrokerError):
    """Another owner has taken this partition."""


class CodecError(BrokerError):
    """Fetched bytes that are no record batch, or a corrupt one; the message names the offset."""


class StateError(FlashcastError):
    """A snapshot, marker or changelog row that cannot be trusted."""
