"""The last word on every price: bounds that no estimate may pass, each clamp recorded by name.

They run in the order of `Guardrail`. Floor and ceiling come first and hold for every price that is
sent out: where a step from outside the bounds would not reach them, the bound wins over the step.
"""

from dataclasses import dataclass
from enum import IntFlag
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streams.settings import Settings

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

HOUR_MS: Final = 3_600_000
CHANGES_PER_HOUR_MAX: Final = 8  # as many changes as a row remembers


class Guardrail(IntFlag):
    """What moved or withheld a price, in the order of application."""

    FLOOR = 1
    CEILING = 2
    STEP = 4
    CHANGES_PER_HOUR = 8
    COOLDOWN = 16
    KILL_SWITCH = 32


WITHHOLDING: Final = (
    Guardrail.CHANGES_PER_HOUR | Guardrail.COOLDOWN | Guardrail.KILL_SWITCH
)  # the old price stays


def clamp_names(clamps: int) -> list[str]:
    """Names of the guardrails in a decision's bit mask, in order: `PriceAdjustment.clamps`."""
    return [(guardrail.name or "").lower() for guardrail in Guardrail if guardrail & clamps]


@dataclass(frozen=True, slots=True)
class Guardrails:
    """Limits that hold for every SKU."""

    step_max: float = 0.15  # largest change at once, as a share of the old price
    changes_per_hour_max: int = 4
    cooldown_ms: int = 300_000
    kill_switch: bool = False

    def __post_init__(self) -> None:
        if not 0.0 < self.step_max <= 1.0:
            raise ValueError(f"step_max {self.step_max} must lie in (0, 1]")
        if not 0 <= self.changes_per_hour_max <= CHANGES_PER_HOUR_MAX:
            raise ValueError(
                f"changes_per_hour_max {self.changes_per_hour_max} must lie in "
                f"[0, {CHANGES_PER_HOUR_MAX}]"
            )

    @classmethod
    def from_settings(cls, settings: Settings) -> "Guardrails":
        return cls(
            step_max=settings.price_step_max,
            changes_per_hour_max=settings.price_changes_per_hour_max,
            cooldown_ms=settings.price_cooldown_ms,
            kill_switch=settings.price_kill_switch,
        )


def held(
    changes_last_hour: Ints, since_change_ms: Ints, opening: Flags, limits: Guardrails
) -> Flags:
    """Where no change would pass now [n], whatever price is wanted; arguments as in `apply`."""
    cooling = (since_change_ms >= 0) & (since_change_ms < limits.cooldown_ms) & ~opening
    return cooling | (changes_last_hour >= limits.changes_per_hour_max) | limits.kill_switch


def apply(
    wanted_cents: Ints,
    old_cents: Ints,
    floor_cents: Ints,
    ceiling_cents: Ints,
    changes_last_hour: Ints,
    since_change_ms: Ints,
    opening: Flags,
    limits: Guardrails,
) -> tuple[Ints, NDArray[np.uint8]]:
    """(price, clamps) [n] of wanted prices [n]; `clamps` is a mask of `Guardrail`.

    `since_change_ms` is -1 where the price never changed. `opening`: the SKU's first price of the
    sale, which nobody has seen another price of: neither step nor cooldown holds it.
    """
    clamps = np.zeros(len(wanted_cents), np.uint8)
    floor = np.minimum(floor_cents, ceiling_cents)

    def mark(where: Flags, guardrail: Guardrail) -> None:
        clamps[where] |= np.uint8(guardrail)

    mark(wanted_cents < floor, Guardrail.FLOOR)
    mark(wanted_cents > ceiling_cents, Guardrail.CEILING)
    price = np.clip(wanted_cents, floor, ceiling_cents)

    reach = np.floor(old_cents * limits.step_max).astype(np.int64)
    stepped = np.clip(price, old_cents - reach, old_cents + reach)
    # a step that would end outside the bounds goes on to the bound
    stepped = np.where(opening, price, np.clip(stepped, floor, ceiling_cents))
    mark(stepped != price, Guardrail.STEP)
    price = stepped

    changing = price != old_cents
    cooling = (since_change_ms >= 0) & (since_change_ms < limits.cooldown_ms) & ~opening
    mark(changing & (changes_last_hour >= limits.changes_per_hour_max), Guardrail.CHANGES_PER_HOUR)
    mark(changing & cooling, Guardrail.COOLDOWN)
    if limits.kill_switch:
        mark(changing, Guardrail.KILL_SWITCH)
    withheld = (clamps & np.uint8(WITHHOLDING)) != 0
    return np.where(withheld, old_cents, price), clamps
