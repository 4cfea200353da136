"""The local copy on a broker: used where it can be trusted, never needed, never in the way."""

import contextlib
import resource
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from checkpoints import (
    OTHER,
    PARTITION,
    checkpoint,
    commit_all,
    contents,
    emitter_of,
    fill_inputs,
    levels,
    restored,
    taken,
)

from streams.settings import Settings
from streams.state.local_copy import LocalCopy
from streams.state.marker import CUT_KEY_PREFIX
from streams.state.places import copy_folder
from streams.state.rocksdb import RocksDisk
from streams.topics import DEMAND_WINDOWS

pytestmark = pytest.mark.kafka


async def test_a_restore_finds_what_the_last_checkpoint_left(kafka_settings: Settings) -> None:
    await fill_inputs(kafka_settings, 3)
    emitter = emitter_of(kafka_settings)
    first = await restored(kafka_settings, emitter)
    assert first.marker is None
    assert not first.names
    cut = (CUT_KEY_PREFIX + b"carts|2", b"{}")
    one = await emitter.commit(checkpoint(1, ["A", "B", "C"]))
    two = await emitter.commit(checkpoint(2, ["B", "D"], cuts=[cut]))
    await emitter.stop()
    assert one.first_offsets == {DEMAND_WINDOWS: 0}
    assert two.first_offsets == {DEMAND_WINDOWS: 4}  # at 3 is the first transaction's marker

    from_copy = await taken(kafka_settings)
    assert from_copy.stats.copy_used
    assert from_copy.stats.changelog_records == 0
    assert levels(from_copy) == {"A": 1, "B": 2, "C": 1, "D": 2}
    assert from_copy.marker == checkpoint(2, []).marker
    assert from_copy.cuts == [cut]
    assert from_copy.history == [b"A at 1", b"B at 1", b"C at 1", b"B at 2", b"D at 2"]

    shutil.rmtree(copy_folder(kafka_settings, PARTITION))
    from_changelog = await taken(kafka_settings)
    assert not from_changelog.stats.copy_used
    assert from_changelog.stats.copy_problem is None
    assert contents(from_changelog) == contents(from_copy)
    again = await taken(kafka_settings)
    assert again.stats.copy_used
    assert contents(again) == contents(from_copy)


async def test_a_copy_left_behind_reads_only_what_it_lacks(kafka_settings: Settings) -> None:
    await fill_inputs(kafka_settings, 9)
    await commit_all(kafka_settings, [checkpoint(1, [f"S{i}" for i in range(50)])])
    folder = copy_folder(kafka_settings, PARTITION)
    shutil.copytree(folder, folder.with_name("older"))
    emitter = emitter_of(kafka_settings)
    await restored(kafka_settings, emitter)
    emitter.forget([b"S9"])
    await emitter.commit(checkpoint(2, ["S1", "S2"]))
    await emitter.stop()
    newest = await taken(kafka_settings)
    shutil.rmtree(folder)
    folder.with_name("older").rename(folder)
    behind = await taken(kafka_settings)
    assert behind.stats.copy_used
    assert behind.stats.changelog_records == 4  # S9 forgotten, S1, S2, the marker
    assert contents(behind) == contents(newest)
    assert "S9" not in levels(behind)


@pytest.mark.parametrize("harm", ["bytes", "manifest", "current", "old", "locked", "ahead"])
async def test_a_copy_that_cannot_be_trusted_is_read_anew_from_the_changelog(
    kafka_settings: Settings, harm: str
) -> None:
    await fill_inputs(kafka_settings, 9)
    await commit_all(kafka_settings, [checkpoint(1, [f"S{i}" for i in range(50)])])
    await commit_all(kafka_settings, [checkpoint(2, ["S1", "S2"])])
    folder = copy_folder(kafka_settings, PARTITION)
    later_ms = 0
    held = LocalCopy(RocksDisk(), folder)
    if harm == "bytes":
        table = max(folder.glob("*.sst"), key=lambda path: path.stat().st_size)
        data = bytearray(table.read_bytes())
        data[len(data) // 3 : len(data) // 3 + 8] = b"damaged!"
        table.write_bytes(data)
    elif harm == "manifest":
        next(folder.glob("MANIFEST-*")).write_bytes(b"garbage")
    elif harm == "current":
        (folder / "CURRENT").write_text("MANIFEST-999999\n")
    elif harm == "old":
        later_ms = 25 * 3_600_000
    else:
        held.open()
        if harm == "ahead":
            place = held.place(int(time.time() * 1_000), 60_000)
            assert place is not None
            held.write([], msgspec.structs.replace(place, offset=place.offset + 1_000))
            held.close()
    state = await taken(kafka_settings, later_ms)
    assert not state.stats.copy_used
    assert state.stats.copy_problem
    assert levels(state) == {f"S{i}": 2 if i in (1, 2) else 1 for i in range(50)}
    held.close()


@contextlib.contextmanager
def refusing_disk(folder: Path, how: str) -> Iterator[None]:
    """A disk that takes nothing (root may write anywhere, so not by permissions), or nothing more:
    no file may grow, which is what a full one says to a write.
    """
    if how == "taken":
        shutil.rmtree(folder.parent)
        folder.parent.write_text("a file where the folder should be")
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4_096, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("how", ["taken", "full"])
async def test_a_disk_that_refuses_the_copy_fails_no_checkpoint_and_no_restore(
    kafka_settings: Settings, how: str
) -> None:
    await fill_inputs(kafka_settings, 9)
    skus = [f"S{i}" for i in range(50)]
    await commit_all(kafka_settings, [checkpoint(1, skus)])
    emitter = emitter_of(kafka_settings)
    folder = copy_folder(kafka_settings, PARTITION)
    if how == "full":
        await restored(kafka_settings, emitter)
    with refusing_disk(folder, how):
        if how == "taken":
            state = await restored(kafka_settings, emitter)
            assert state.stats.copy_problem
            assert levels(state) == dict.fromkeys(skus, 1)
        for step in (2, 3):
            await emitter.commit(checkpoint(step, skus))
        await emitter.stop()
    assert emitter.copy_failures == (how == "full")
    if how == "taken":
        folder.parent.unlink()
    state = await taken(kafka_settings)
    assert not state.stats.copy_used
    assert levels(state) == dict.fromkeys(skus, 3)


async def test_a_copy_of_another_changelog_is_not_used(kafka_settings: Settings) -> None:
    await fill_inputs(kafka_settings, 9)
    await commit_all(kafka_settings, [checkpoint(1, ["A", "B"])])
    await commit_all(kafka_settings, [checkpoint(step, ["C"]) for step in (2, 3, 4)], OTHER)
    folder, other = copy_folder(kafka_settings, PARTITION), copy_folder(kafka_settings, OTHER)
    shutil.rmtree(other)
    shutil.move(folder, other)  # as on a disk that has served another cluster
    state = await taken(kafka_settings, partition=OTHER)
    assert not state.stats.copy_used
    assert "another changelog" in (state.stats.copy_problem or "")
    assert levels(state) == {"C": 4}
