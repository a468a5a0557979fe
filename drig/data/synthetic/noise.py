"""Noise pictures: the irregularity of skin, cloth and rooms."""

import numpy as np

from drig.data.synthetic.arrays import Array


def spectral_noise(size: int, falloff: float, rng: np.random.Generator, *, smallest: float = 0.0) -> Array:
    """(size, size) float32 tileable noise of mean 0 and deviation 1 with amplitude frequency^-falloff.

    falloff 0 is white noise, 1 is cloud-like, 2 is soft. smallest: features under this many pixels are smoothed away.
    """
    fy = np.fft.fftfreq(size)[:, None]
    fx = np.fft.rfftfreq(size)[None]
    frequency = np.hypot(fx, fy)
    frequency[0, 0] = 1.0
    amplitude = frequency**-falloff * np.exp(-0.5 * (frequency * smallest) ** 2)
    amplitude[0, 0] = 0.0
    phase = rng.uniform(0, 2 * np.pi, amplitude.shape)
    picture = np.fft.irfft2(amplitude * np.exp(1j * phase), s=(size, size))
    even: Array = (picture / picture.std()).astype(np.float32)
    return even
