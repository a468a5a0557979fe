"""A person's own skin: what a photo's albedo and light are, given that many photos of the person tell the albedo.

One photo hardly tells dark skin in bright light from light skin in dim light. An album does: the mean of its estimates
is kept, as that of its shapes is (SPEC 6), and each photo's light becomes the one that lights that skin as brightly.
Beyond the paper, which keeps every photo's albedo; for the open head alone.
"""

from torch import Tensor

from drig.faces.codes import FaceCodes
from drig.faces.open_head import OpenHead

DOUBT = 0.08
"""Logarithm of the most by which a light is changed. Estimates of one person's skin differ by half of it (standard
deviation; `benchmarks/fit.py`), those of people by 0.20: a photo that asks for more shows somebody else."""


def with_skin(head: OpenHead, codes: FaceCodes, tex: Tensor) -> FaceCodes:
    """Codes of N photos with the texture codes (1, K), their lights scaled by what each colour of the skin gains."""
    own = codes.replace(tex=tex.expand_as(codes.tex))
    gain = (head.skin_colour(codes) / head.skin_colour(own)).log().clamp(-DOUBT, DOUBT).exp()  # (N, 3)
    return own.replace(light=codes.light * gain[:, None])
