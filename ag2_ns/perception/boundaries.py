"""Where regions of an image end, without learned weights.

For every pixel and orientation, the means of two half discs are compared, in CIELAB and in a texture channel, relative
to the variance inside them: a step in colour counts, the grain of granite or the leaves of a bush do not. This is the
idea of the oriented gradients of Pb (Martin, Fowlkes, Malik, PAMI 2004) and gPb (Arbelaez et al., PAMI 2011), with a
Fisher-like ratio instead of histogram distances so that it costs a handful of filters.
"""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
from jaxtyping import Float, UInt8
from numpy import ndarray as Array
from scipy import fft

from ag2_ns.ops.jit import jit

ORIENTATIONS = 8
"""Half discs are turned by multiples of 180 / 8 degrees."""

NOISE_VARIANCE = 12.0
"""Variance below which a difference is not told from sensor noise, in squared channel units."""

CHANNEL_SCALE = (0.6, 1.3, 1.3, 12.0)
"""Weights of L, a, b and texture energy."""


def image_channels(image: UInt8[Array, "H W 3"]) -> Float[Array, "H W 4"]:
    """CIELAB and the logarithm of local high-frequency energy, scaled by `CHANNEL_SCALE`, float32."""
    lab = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    lightness = np.ascontiguousarray(lab[..., 0])
    detail = np.abs(lightness - cv2.GaussianBlur(lightness, (0, 0), 2.0))
    texture = np.log1p(cv2.GaussianBlur(detail, (0, 0), 2.5))
    return np.concatenate([lab, texture[..., None]], -1) * np.array(CHANNEL_SCALE, np.float32)


def half_disc_difference(angle: float, radius: float) -> Float[Array, "K K"]:
    """A kernel that subtracts the mean of one half disc from that of the other; the two touch at `angle` (radians)."""
    reach = int(np.ceil(2.0 * radius))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(np.float32)
    across, along = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    weight = np.exp(-0.5 * (across / (0.6 * radius)) ** 2 - 0.5 * (along / (0.9 * radius)) ** 2)
    one, other = weight * (across > 0.3), weight * (across < -0.3)
    return (one / one.sum() - other / other.sum()).astype(np.float32)


def boundary_at_scale(channels: Float[Array, "H W C"], radius: float) -> Float[Array, "H W"]:
    """The strongest difference over orientations, in standard deviations of what is inside the half discs."""
    mean = cv2.GaussianBlur(channels, (0, 0), 0.8 * radius)
    variance = cv2.GaussianBlur(channels * channels, (0, 0), 0.8 * radius) - mean * mean
    strongest = np.zeros(channels.shape[:2], np.float32)
    kernels = np.stack([half_disc_difference(np.pi * k / ORIENTATIONS, radius) for k in range(ORIENTATIONS)])
    for difference in _correlations(channels, kernels):
        _raise_to_ratio(difference, variance, strongest)
    return np.sqrt(strongest)


def _correlations(channels: Float[Array, "H W C"], kernels: Float[Array, "O K K"]) -> Iterator[Float[Array, "C H W"]]:
    """The channels correlated with each kernel, mirrored at the border: one transform serves all kernels."""
    height, width, reach = *channels.shape[:2], kernels.shape[1] // 2
    padded = cv2.copyMakeBorder(channels, reach, reach, reach, reach, cv2.BORDER_REFLECT)
    size = [fft.next_fast_len(n, True) for n in padded.shape[:2]]
    spectrum = fft.rfft2(np.ascontiguousarray(padded.transpose(2, 0, 1)), size)
    for kernel in kernels:
        yield fft.irfft2(spectrum * np.conj(fft.rfft2(kernel, size)), size)[:, :height, :width]


@jit
def _raise_to_ratio(difference, variance, strongest):
    """Raise `strongest` to the squared differences over the variances inside the half discs, summed over channels."""
    noise, quarter, zero = np.float32(NOISE_VARIANCE), np.float32(0.25), np.float32(0.0)
    for y in range(strongest.shape[0]):
        for x in range(strongest.shape[1]):
            total = zero
            for c in range(difference.shape[0]):
                squared = difference[c, y, x] * difference[c, y, x]
                # The step itself adds a quarter of its square to the variance.
                total += squared / (noise + max(variance[y, x, c] - quarter * squared, zero))
            strongest[y, x] = max(strongest[y, x], total)


def boundary_map(channels: Float[Array, "H W C"]) -> Float[Array, "H W"]:
    """Boundary strength averaged over two scales: radii of 3 and 7 pixels, the second at half resolution."""
    height, width = channels.shape[:2]
    fine = boundary_at_scale(channels, 3.0)
    half = cv2.resize(channels, (max(width // 2, 1), max(height // 2, 1)), interpolation=cv2.INTER_AREA)
    coarse = cv2.resize(boundary_at_scale(half, 3.5), (width, height), interpolation=cv2.INTER_LINEAR)
    return 0.5 * (fine + coarse)
