"""CRC-32C, the checksum of event files (Castagnoli's polynomial, RFC 3720, appendix B.4)."""

from __future__ import annotations

import numpy as np

from ag2_ns.ops.jit import jit

POLYNOMIAL = 0x82F63B78
"""Castagnoli's, lowest bit first."""


def _table() -> np.ndarray:
    rows = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        rows = (rows >> np.uint32(1)) ^ np.where(rows & 1, np.uint32(POLYNOMIAL), np.uint32(0))
    return rows


TABLE = _table()


@jit
def _run(data, table):
    crc = np.uint32(0xFFFFFFFF)
    for byte in data:
        crc = table[(crc ^ byte) & np.uint32(0xFF)] ^ (crc >> np.uint32(8))
    return crc ^ np.uint32(0xFFFFFFFF)


def crc32c(data: bytes) -> int:
    """CRC-32C of some bytes, without the interpreter lock: a thread that writes files halts no other."""
    return int(_run(np.frombuffer(data, dtype=np.uint8), TABLE))


def masked_crc32c(data: bytes) -> int:
    """The same, rotated and shifted as records of event files hold it (TensorFlow, lib/hash/crc32c.h)."""
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
