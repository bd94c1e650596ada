"""Text packed as bgzip does: gzip in blocks, which any gunzip reads.

Blocks of always the same length make equal texts equal files, however they were written.

Source: the SAM specification, 4.1.
"""

import struct
import zlib

BLOCK = 0xFF00
"""Bytes of text in a block, as bgzip has them."""
_HEAD = bytes.fromhex("1f8b08040000000000ff060042430200")
_LEVEL = 6


def packed_block(text: bytes) -> bytes:
    """One block of a text of at most `BLOCK` bytes."""
    deflate = zlib.compressobj(_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
    packed = deflate.compress(text) + deflate.flush()
    size = len(_HEAD) + 2 + len(packed) + 8
    check = struct.pack("<II", zlib.crc32(text), len(text))
    return _HEAD + struct.pack("<H", size - 1) + packed + check
