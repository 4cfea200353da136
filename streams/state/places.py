"""Where the state of a partition lies: which topics, and which folder on this disk."""

from pathlib import Path
from typing import Final

from streams import topics
from streams.settings import Settings

COPY_AGE_MS_MAX: Final = topics.DAY_MS  # delete.retention.ms of the changelog
READ_TOPICS: Final = (
    *topics.EVENT_TOPICS,
    topics.DEMAND_WINDOWS,
    topics.CHANGELOG,
)


def copy_folder(settings: Settings, partition: int) -> Path:
    """Where one partition's local copy lies."""
    return settings.data_dir / "state" / settings.transactional_id(f"p{partition}")
