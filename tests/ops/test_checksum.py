"""Checksums, against the standard's example and TensorBoard's own loop."""

import pytest
from tensorboard.compat.tensorflow_stub import pywrap_tensorflow

from ag2_ns.ops.checksum import crc32c, masked_crc32c


def test_the_standard_example():
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA  # RFC 3720, B.4


@pytest.mark.parametrize("length", [0, 1, 8, 77, 4096])
def test_equal_to_tensorboard(length):
    data = bytes((7 * k * k + 3) % 256 for k in range(length))
    assert masked_crc32c(data) == pywrap_tensorflow.masked_crc32c(data)
