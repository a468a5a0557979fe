"""8-bit planes as few bytes that are read fast: what the buffer store's records compress their pictures with.

Each row less the row above it leaves small numbers, whose bits are then sorted by significance: all lowest bits, then
all next ones. The highest are zeros, which LZ4 shrinks, and the lowest noise, which it leaves alone. On portraits the
result is as small as zstd's of the same differences, or a PNG, and is read in a third of zstd's time
(`benchmarks/store.py`): LZ4 only copies, and the bits are put together 64 at a time.

Legend: K planes, H rows, W columns, B = H / 8 bands of rows, rounded up.
"""

import numpy as np
import pyarrow as pa
from numba import njit
from numpy.typing import NDArray

_CODEC = pa.Codec("lz4_raw", 6)  # of 12 levels; the highest are 1% smaller and take ten times as long to write

Planes = NDArray[np.uint8]
Words = NDArray[np.uint64]


def compress(planes: Planes) -> Planes:
    """(K, H, W) -> frame, (n,) uint8."""
    count, height, width = planes.shape
    padded = np.zeros((count, -(-height // 8) * 8, -(-width // 8) * 8), np.uint8)
    padded[:, :height, :width] = planes
    padded[:, 1:height, :width] -= planes[:, :-1]
    signed = padded.view(np.int8)
    values = ((signed << 1) ^ (signed >> 7)).view(np.uint8)  # 0, -1, 1, -2, ... become 0, 1, 2, 3, ...
    eights = values.reshape(count, padded.shape[1] // 8, 8, padded.shape[2]).swapaxes(2, 3).copy()  # (K, B, W, 8)
    bits = [np.packbits(eights >> bit & 1, bitorder="little") for bit in range(8)]  # 8 x (K B W)
    return np.frombuffer(_CODEC.compress(np.stack(bits).tobytes()), np.uint8)


def expand(frame: Planes, shape: tuple[int, int, int]) -> Planes:
    """The inverse of `compress`: (n,) -> (K, H, W), the shape that was compressed. Damaged bytes may raise OSError."""
    count, height, width = shape
    bands, words = -(-height // 8), -(-width // 8)
    content = _CODEC.decompress(frame.data, 8 * count * bands * words * 8)
    planes = _planes_of(np.frombuffer(content, np.uint64).reshape(8, count, bands, words))
    return planes.view(np.uint8)[:, :height, :width]


@njit(cache=True, nogil=True)
def _planes_of(bits: Words) -> Words:
    """(8, K, B, W / 8) bits of eight columns to a word -> planes (K, 8 B, W / 8) with eight columns to a word."""
    _, count, bands, words = bits.shape
    lowest, highest = np.uint64(0x0101010101010101), np.uint64(0x8080808080808080)  # bit of each byte
    planes = np.empty((count, 8 * bands, words), np.uint64)
    for k in range(count):
        above = np.zeros(words, np.uint64)
        for band in range(bands):
            for row in range(8):
                for j in range(words):
                    value = np.uint64(0)
                    for bit in range(1, 8):
                        value |= (bits[bit, k, band, j] >> np.uint64(row) & lowest) << np.uint64(bit - 1)
                    difference = value ^ (bits[0, k, band, j] >> np.uint64(row) & lowest) * np.uint64(255)
                    # Eight sums modulo 256 in one: without the highest bits nothing carries into the next byte.
                    total = (above[j] & ~highest) + (difference & ~highest) ^ (above[j] ^ difference) & highest
                    above[j] = total
                    planes[k, 8 * band + row, j] = total
    return planes
