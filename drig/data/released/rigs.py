"""A released model: `modelNNNNNN.pt`, a plain state dict, and for a person `mean_shape.pkl` beside it (SPEC 8)."""

import io
import pickle
import re
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from drig import storage
from drig.diffusion.network import Rig, RigConfig
from drig.errors import DrigError
from drig.foreign.pickles import read_pickle
from drig.foreign.torch_files import ZIP_MAGIC, load_state, read_torch, tensors_in

MEAN_SHAPE = "mean_shape.pkl"
_SHAPES = 100  # FLAME's
_ATTENTION_SIZE = 16  # side of the feature maps that have attention in every released model (SPEC 2)
_UNET, _ENCODER = "denoisingUNet", "encoder"


def read_rig(path: Path, size: int | None = None) -> Rig:
    """The rig in a released model, in eval mode on the CPU.

    size: side of its images in pixels. None = that at which its attention sees feature maps of 16 x 16.
    Raises DrigError for a file that is damaged or no such model.
    """
    state = tensors_in(read_torch(path), str(path))
    try:
        config = config_of({name: tuple(tensor.shape) for name, tensor in state.items()}, size)
    except DrigError as error:
        raise DrigError(f"{path}: {error}") from error
    with torch.device("meta"):  # the shapes without the cost of initial weights
        rig = Rig(config)
    load_state(rig, state, str(path))
    return rig.eval()


def config_of(shapes: Mapping[str, tuple[int, ...]], size: int | None = None) -> RigConfig:
    """The configuration that a released model's keys and shapes tell. `size` as for `read_rig`.

    They do not tell dropout, which is the released 0.1.
    """
    try:
        base = shapes[f"{_UNET}.time_embed.0.weight"][1]
        count = len({match[1] for name in shapes if (match := re.match(rf"{_UNET}\.input_blocks\.(\d+)\.", name))})
        step = _entries_a_level(shapes, count)
        firsts = [f"{_UNET}.input_blocks.{entry}" for entry in range(1, count, step)]  # the first block of each level
        widths = [shapes[f"{first}.0.out_layers.3.weight"][0] for first in firsts]
        attention = [level for level, first in enumerate(firsts) if f"{first}.1.qkv.weight" in shapes]
        if size is None:
            if not attention:
                raise DrigError("it has no attention that tells the size of its images: give --size PIXELS.")
            size = _ATTENTION_SIZE * 2 ** attention[0]
        return RigConfig(
            size=size,
            base_channels=base,
            channel_mult=tuple(width // base if width % base == 0 else width / base for width in widths),
            blocks_per_level=step - 1,
            attention_size=size // 2 ** attention[0] if attention else 0,
            code_size=shapes[f"{_ENCODER}.fc.weight"][0],
            encoder_blocks=tuple(_encoder_blocks(shapes, level) for level in range(1, 5)),
            encoder_width=shapes[f"{_ENCODER}.conv1.weight"][0],
        )
    except (KeyError, IndexError, ZeroDivisionError) as error:
        raise DrigError(f"its weights are no released model's: {error} is missing or has another shape.") from error


def _entries_a_level(shapes: Mapping[str, tuple[int, ...]], count: int) -> int:
    """Blocks of a level and the one that changes its size. On the way up that one is the last member of its entry."""
    for entry in range(count):
        if any(f"{_UNET}.output_blocks.{entry}.{member}.in_layers.0.weight" in shapes for member in (1, 2)):
            return entry + 1
    return count


def _encoder_blocks(shapes: Mapping[str, tuple[int, ...]], level: int) -> int:
    blocks = 0
    while f"{_ENCODER}.layer{level}.{blocks}.conv1.weight" in shapes:
        blocks += 1
    return blocks


def read_mean_shape(path: Path) -> Tensor:
    """The album's mean shape (1, 100) that belongs to a personalised model. DrigError for any other content."""
    if not path.is_file():
        raise DrigError(f"no mean shape at {path}: check the path.")
    with path.open("rb") as file:
        zipped = file.read(len(ZIP_MAGIC)) == ZIP_MAGIC
    mean_shape = read_torch(path) if zipped else read_pickle(path)
    if not isinstance(mean_shape, Tensor) or mean_shape.shape != (1, _SHAPES) or not mean_shape.isfinite().all():
        raise DrigError(f"{path} is no mean shape: a (1, {_SHAPES}) tensor of finite numbers.")
    return mean_shape.float().contiguous()


def write_rig(path: Path, rig: Rig, mean_shape: Tensor | None) -> list[Path]:
    """Write a rig as a released model, and its mean shape beside it; the files.

    Raises DrigError for a rig that the released implementation cannot run.
    """
    if rig.config.prediction != "noise" or rig.config.patch != 1:
        raise DrigError(
            f"this rig predicts {rig.config.prediction} from {rig.config.patch} x {rig.config.patch} blocks of pixels; "
            "the released implementation only knows noise from pixels. Export a rig of another preset than tiny."
        )
    content = io.BytesIO()
    torch.save(OrderedDict(rig.state_dict()), content)
    storage.write_bytes(path, content.getvalue())
    if mean_shape is None:
        return [path]
    beside = path.with_name(MEAN_SHAPE)
    storage.write_bytes(beside, pickle.dumps(mean_shape.clone()))
    return [path, beside]
