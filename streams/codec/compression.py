"""Compressed record batches made plain: gzip, snappy (raw and Java's block format), lz4, zstd; and
those to produce compressed.
"""

from struct import Struct
from typing import Any, Final

import cramjam

from streams.codec import plain
from streams.codec.plain import Batch
from streams.codec.write import RecordBatch
from streams.errors import CodecError
from streams.settings import Compression

BATCH_BYTES_MAX: Final = 64 * 2**20  # a few kilobytes can decompress to gigabytes
_GUESS: Final = 32  # times as large as compressed; doubled until it suffices
_GUESS_MIN: Final = 65_536
_XERIAL: Final = b"\x82SNAPPY\x00"  # then version and compatible version, 4 bytes each, then blocks
_XERIAL_BYTES: Final = 16
_UINT32: Final = Struct(">I")
_LENGTH_AT: Final = 8
_INT32: Final = Struct(">i")
_ATTRIBUTES: Final = Struct(">h")

_NAMES: Final = {1: "gzip", 2: "snappy", 3: "lz4", 4: "zstd"}
_CODECS: Final = {name: codec for codec, name in _NAMES.items()}
_WORTH_BYTES: Final = 1_024  # of records; smaller batches stay as they are
_LZ4_LEVEL: Final = 0  # the fastest: counts and JSON shrink seven times already
_ZSTD_LEVEL: Final = 1


def compressed(batch: RecordBatch, name: Compression) -> RecordBatch:
    """The same records, compressed where that saves anything. Lets go of the interpreter."""
    if name == "none" or len(batch.body) < _WORTH_BYTES:
        return batch
    if name == "lz4":
        # Java reads no blocks that depend on each other
        stream = cramjam.lz4.Compressor(_LZ4_LEVEL, content_checksum=False, block_linked=False)
        stream.compress(batch.body)
        packed = bytes(stream.finish())
    else:
        packed = bytes(cramjam.zstd.compress(batch.body, _ZSTD_LEVEL))
    return (
        RecordBatch(packed, batch.count, _CODECS[name]) if len(packed) < len(batch.body) else batch
    )


def decompressed(data: memoryview, batch: Batch) -> bytes:
    """`batch` with its records uncompressed and its header saying so; the CRC stays as it was.

    Raises CodecError, naming the offset, for an unknown codec, torn bytes, and records of more
    than BATCH_BYTES_MAX.
    """
    codec = batch.attributes & plain.CODEC_MASK
    name = _NAMES.get(codec)
    if name is None:
        raise CodecError(f"batch at offset {batch.base_offset}: unknown compression {codec}")
    packed = data[batch.at + plain.HEADER_BYTES : batch.end]
    try:
        records = _snappy(packed) if name == "snappy" else _stream(getattr(cramjam, name), packed)
    except (cramjam.DecompressionError, _TooLargeError, ValueError) as error:
        raise CodecError(
            f"batch at offset {batch.base_offset} cannot be decompressed ({name}): {error}"
        ) from None
    header = bytearray(data[batch.at : batch.at + plain.HEADER_BYTES])
    length = plain.HEADER_BYTES - plain.LENGTH_END + len(records)
    _INT32.pack_into(header, _LENGTH_AT, length)
    _ATTRIBUTES.pack_into(header, plain.CRC_START, batch.attributes & ~plain.CODEC_MASK)
    return bytes(header) + records


class _TooLargeError(Exception):
    def __init__(self) -> None:
        super().__init__(f"more than {BATCH_BYTES_MAX} bytes of records")


def _stream(codec: Any, packed: memoryview) -> bytes:
    size = min(max(_GUESS_MIN, _GUESS * len(packed)), BATCH_BYTES_MAX)
    while True:
        out = bytearray(size)
        try:
            return bytes(memoryview(out)[: codec.decompress_into(packed, out)])
        except cramjam.DecompressionError as error:
            if "whole buffer" not in str(error):
                raise
            if size >= BATCH_BYTES_MAX:
                raise _TooLargeError from None
            size = min(2 * size, BATCH_BYTES_MAX)


def _snappy(packed: memoryview) -> bytes:
    if bytes(packed[: len(_XERIAL)]) != _XERIAL:
        return _snappy_block(packed, BATCH_BYTES_MAX)
    blocks: list[bytes] = []
    at, room = _XERIAL_BYTES, BATCH_BYTES_MAX
    while at < len(packed):
        if at + _UINT32.size > len(packed):
            raise ValueError("a block's length is cut off")
        (length,) = _UINT32.unpack_from(packed, at)
        at += _UINT32.size
        if length > len(packed) - at:
            raise ValueError(f"a block of {length} bytes is cut off")
        blocks.append(_snappy_block(packed[at : at + length], room))
        room -= len(blocks[-1])
        at += length
    return b"".join(blocks)


def _snappy_block(packed: memoryview, room: int) -> bytes:
    if cramjam.snappy.decompress_raw_len(packed) > room:
        raise _TooLargeError
    return bytes(cramjam.snappy.decompress_raw(packed))
