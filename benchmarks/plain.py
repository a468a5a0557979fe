"""The method written down plainly, as a baseline to measure against: SPEC's formulas, one after another.

float32 (fp16 by autocast on a GPU), channels first, softmax attention spelled out, PyTorch's own convolutions, the two
modulations one after the other, Adam a parameter at a time, the loss read and the encoder run at every step. It
computes with the weights of a `Rig`, so that both do the same work; a test holds the two to the same numbers.

Legend: N batch, C channels, H W pixels, E width of the timestep embedding, Z width of the global code.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from drig.diffusion.blocks import AttentionBlock, Resample, ResidualBlock, timestep_embedding
from drig.diffusion.network import Rig
from drig.diffusion.schedule import Schedule
from drig.diffusion.unet import UNet


class PlainRig(nn.Module):
    """A rig's weights, computed with plainly. Rigs that predict the noise only."""

    def __init__(self, rig: Rig) -> None:
        super().__init__()
        self.rig = rig

    def encode(self, photo: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, Z)."""
        code: Tensor = self.rig.encoder(photo)
        return code

    def denoise(self, x_t: Tensor, t: Tensor, buffers: Tensor, code: Tensor) -> Tensor:
        """x_t (N, 3, H, W), t (N,), buffers (N, 9, H, W), code (N, Z) -> noise (N, 3, H, W)."""
        unet = self.rig.denoisingUNet
        embedding = unet.time_embed(timestep_embedding(t, unet.shape.base_channels))  # (N, E)
        h, skips = torch.cat([x_t, buffers], dim=1), []
        for layers in unet.input_blocks:
            h = _through(layers, h, embedding, code)
            skips.append(h)
        h = _through(unet.middle_block, h, embedding, code)
        for layers in unet.output_blocks:
            h = _through(layers, torch.cat([h, skips.pop()], dim=1), embedding, code)
        return _convolve(_output(unet), F.silu(_normalise(unet.out[0], h)))

    def losses(self, image: Tensor, buffers: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
        """SPEC 3's loss of each sample (N,), k = gamma = 1."""
        schedule = Schedule()
        code = self.encode(image)
        predicted = self.denoise(schedule.q_sample(image, timestep, noise), timestep, buffers, code)
        alpha_bar = schedule.at(timestep)
        weight = 1 / (1 + alpha_bar / (1 - alpha_bar))  # (N,)
        return (weight[:, None, None, None] * (noise - predicted.float()) ** 2).mean((1, 2, 3)).float()


@torch.no_grad()
def ddim(rig: PlainRig, noise: Tensor, buffers: Tensor, code: Tensor, steps: int) -> Tensor:
    """SPEC 3's sampler: start noise (N, 3, H, W) -> image (N, 3, H, W)."""
    schedule, x = Schedule(), noise
    kept = schedule.ddim_timesteps(steps)
    for i in reversed(range(steps)):
        t = torch.full((len(x),), kept[i], device=x.device)
        alpha_bar = schedule.alphas_bar[kept[i]].item()
        following = schedule.alphas_bar[kept[i - 1]].item() if i else 1.0
        eps = rig.denoise(x, t, buffers, code).float()
        x0 = ((x - (1 - alpha_bar) ** 0.5 * eps) / alpha_bar**0.5).clamp(-1, 1)
        eps = (x - alpha_bar**0.5 * x0) / (1 - alpha_bar) ** 0.5
        x = following**0.5 * x0 + (1 - following) ** 0.5 * eps
    return x


def optimiser(rig: Rig, learning_rate: float) -> torch.optim.Optimizer:
    """Adam, one parameter after the other."""
    trained = [parameter for parameter in rig.parameters() if parameter.requires_grad]
    return torch.optim.Adam(trained, lr=learning_rate, foreach=False)


def _through(layers: nn.Sequential, h: Tensor, embedding: Tensor, code: Tensor) -> Tensor:
    for layer in layers:
        if isinstance(layer, ResidualBlock):
            h = _residual(layer, h, embedding, code)
        elif isinstance(layer, AttentionBlock):
            h = _attention(layer, h)
        else:
            h = _convolve(layer, h)
    return h


def _residual(block: ResidualBlock, x: Tensor, embedding: Tensor, code: Tensor) -> Tensor:
    norm_in, _, conv_in = block.in_layers
    norm_out, _, dropout, conv_out = block.out_layers
    h = _convolve(conv_in, _resample(block.resample, F.silu(_normalise(norm_in, x))))
    h = _normalise(norm_out, h)
    for projection, condition in ((block.emb_layers, embedding), (block.cond_emb_layers, code)):
        scale, shift = projection(condition)[:, :, None, None].chunk(2, dim=1)
        h = h * (1 + scale) + shift
    h = _convolve(conv_out, dropout(F.silu(h)))
    skip: Tensor = block.skip_connection(_resample(block.resample, x))
    return skip + h


def _attention(block: AttentionBlock, x: Tensor) -> Tensor:
    n, c, height, width = x.shape
    q, k, v = block.qkv(_normalise(block.norm, x).reshape(n, c, -1)).chunk(3, dim=1)  # (N, C, H W) each
    scores = torch.einsum("nct,ncs->nts", q * c**-0.25, k * c**-0.25)
    weights = scores.float().softmax(dim=2).to(scores.dtype)
    h = block.proj_out(torch.einsum("nts,ncs->nct", weights, v))
    return x + h.reshape(n, c, height, width)


def _normalise(norm: nn.GroupNorm, x: Tensor) -> Tensor:
    normal = F.group_norm(x.float(), norm.num_groups, norm.weight, norm.bias, norm.eps)
    return normal.to(x.dtype)


def _convolve(layer: nn.Conv2d, x: Tensor) -> Tensor:
    return F.conv2d(x, layer.weight, layer.bias, padding=layer.padding)  # type: ignore[arg-type]


def _resample(how: Resample, x: Tensor) -> Tensor:
    if how is Resample.DOWN:
        return F.avg_pool2d(x, 2)
    if how is Resample.UP:
        return F.interpolate(x, scale_factor=2, mode="nearest")
    return x


def _output(unet: UNet) -> nn.Conv2d:
    layer = unet.out[2]
    assert isinstance(layer, nn.Conv2d)
    return layer
