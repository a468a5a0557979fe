"""What a training run is: its budget, its optimiser and its bookkeeping. All progress is counted in samples."""

from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

from drig.errors import DrigError

CHANGEABLE = frozenset(
    {"samples", "micro_batch", "recompute", "compile", "loader_workers", "log_every", "checkpoint_every", "keep"}
)
"""Fields that the same run may be continued with other values of; any other makes it another run."""


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """One loop trains both stages (SPEC 1); what tells them apart is `train_encoder` and the numbers."""

    samples: int
    """Total budget, samples seen; rounded up to whole batches."""
    batch: int
    """Samples of one optimiser step, over all workers."""
    learning_rate: float
    """Adam's step size between the warm-up and the cool-down."""
    train_encoder: bool
    """Train the encoder too (stage 1). False = the UNet alone; the encoder is in eval mode, BatchNorm too (stage 2)."""
    delta_rank: int | None = None
    """Train a delta of this rank over the rig instead of the rig (stage 2; `drig.diffusion.deltas`): a small file over
    a base that all share, for a learning rate of its own. None = the whole UNet, and weights of their own."""
    warmup: int = 0
    """Samples over which the learning rate rises from zero. 0 = none."""
    cooldown: int = 0
    """Samples before the end over which the learning rate falls to zero. 0 = none (the paper)."""
    ema_half_life: int | None = None
    """Samples after which a weight's share in the averaged weights has halved. None = no averaging (the paper)."""
    p2_k: float = 1.0
    """k of the loss weight 1 / (k + snr). 1 = the paper. 0 = the error of the image, alike at all timesteps: for rigs
    that predict the image, and budgets too short to learn the first sampling steps at the paper's tiny weight."""
    background_weight: float = 1.0
    """Weight in the loss of the pixels that the head does not cover, beside 1 for those that it does. 1 = the paper.
    Less, and a person's few photos are learnt for their face, not for their backgrounds."""
    borrowed_codes: float = 0.0
    """Share of the samples that have the global code of another photo of the data set (stage 2: of the same person); of
    these the pixels beside the head do not count. 0 = the paper, whose codes may then tell what a photo's light and
    expression were, and bring them into its edits."""
    gradient_clip: float | None = 1.0
    """Largest norm of the whole gradient; a longer one is scaled down to it. None = no limit."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Number type of the forward pass; weights stay float32. auto = bf16 where the hardware computes in it."""
    micro_batch: int | None = None
    """Most samples that a worker's UNet computes at once; the rest of its share is accumulated. None = its whole share.
    The encoder, a hundredth of the work, always computes all of it at once, for BatchNorm."""
    recompute: bool = False
    """Keep only the input of each of the UNet's blocks for the backward pass, which computes the rest again: half the
    memory at 256 px, for a third more time."""
    compile: bool = False
    """Compile the network before the first step (torch.compile): minutes, for faster steps on GPUs. Slower on CPUs."""
    loader_workers: int = 0
    """Processes that read and noise samples ahead, for each worker. 0 = the worker reads them itself."""
    log_every: int = 1_000
    """Report metrics every so many samples."""
    checkpoint_every: int = 10_000
    """Write a checkpoint every so many samples, and at the end."""
    keep: int = 2
    """Newest checkpoints to keep."""
    seed: int = 0
    """Seed of the order of the samples, their timesteps and noise, and dropout."""

    def __post_init__(self) -> None:
        for name in ("samples", "batch", "learning_rate", "log_every", "checkpoint_every", "keep"):
            self._require(name, getattr(self, name) > 0, "must be positive")
        self._require("p2_k", self.p2_k >= 0, "must be 0 or more")
        self._require("background_weight", self.background_weight > 0, "must be positive")
        self._require("borrowed_codes", 0 <= self.borrowed_codes <= 1, "must be between 0 and 1")
        self._require("borrowed_codes", not (self.borrowed_codes and self.train_encoder), "needs train_encoder false")
        self._require(
            "batch", self.batch > 1 or not self.train_encoder, "must be 2 or more for the encoder's BatchNorm"
        )
        for name in ("ema_half_life", "gradient_clip", "micro_batch", "delta_rank"):
            value = getattr(self, name)
            self._require(name, value is None or value > 0, "must be positive, or null for none")
        self._require("delta_rank", not (self.delta_rank and self.train_encoder), "needs train_encoder false")
        self._require("loader_workers", self.loader_workers >= 0, "must be 0 or more")
        for name, left in (("warmup", self.samples), ("cooldown", self.samples - self.warmup)):
            self._require(name, 0 <= getattr(self, name) <= left, f"must be between 0 and {left} of the samples")

    def _require(self, name: str, condition: bool, rule: str) -> None:
        if not condition:
            raise DrigError(f"training {name} is {getattr(self, name)}: it {rule}")

    @property
    def total(self) -> int:
        """The budget in whole batches, samples."""
        return -(-self.samples // self.batch) * self.batch

    def share(self, rank: int, world_size: int) -> range:
        """The places in each batch that this one of `world_size` workers computes; shares differ by one at most.

        Raises DrigError for more workers than samples.
        """
        if world_size > self.batch:
            raise DrigError(
                f"{world_size} workers cannot share a training batch of {self.batch}: each needs a sample. "
                f"Use at most {self.batch} workers, or a larger batch."
            )
        return range(rank * self.batch // world_size, (rank + 1) * self.batch // world_size)


_PAPER_STAGE2 = TrainingConfig(
    samples=20_000, batch=4, learning_rate=1e-5, train_encoder=False, log_every=200, checkpoint_every=4_000
)
_TINY_STAGE2 = TrainingConfig(  # benchmarks/stage2.py
    samples=1_800,
    batch=8,
    learning_rate=2e-4,
    train_encoder=False,
    warmup=80,
    ema_half_life=300,
    log_every=80,
    checkpoint_every=900,
)
_SMALL_STAGE1 = TrainingConfig(  # near the released base's, which had two parts (MODEL_CARD.md); as one not tried
    samples=152_000,
    batch=16,
    learning_rate=7e-4,
    train_encoder=True,
    warmup=1_600,
    cooldown=48_000,
    ema_half_life=5_000,
    p2_k=0.0,
    background_weight=0.3,
    log_every=800,
    checkpoint_every=8_000,
)
TRAINING_PRESETS = MappingProxyType(
    {
        # SPEC 1: 256 x 50,000 and 4 x 5,000 samples, Adam, no EMA, no warm-up.
        "paper-stage1": TrainingConfig(
            samples=12_800_000,
            batch=256,
            learning_rate=1e-4,
            train_encoder=True,
            loader_workers=8,
            log_every=2_560,
            checkpoint_every=128_000,
        ),
        "paper-stage2": _PAPER_STAGE2,
        # 7 MB a person at 256 px. The rate is scaled as the tiny rig's is; it was not tried at this size.
        "paper-stage2-delta": replace(_PAPER_STAGE2, delta_rank=8, learning_rate=1.5e-4),
        # Minutes on a CPU with the tiny rig: fewer, longer steps, steadied by warm-up and averaging.
        "tiny-stage1": TrainingConfig(
            samples=11_000,
            batch=16,
            learning_rate=1e-3,
            train_encoder=True,
            warmup=400,
            ema_half_life=800,
            p2_k=0.0,
            log_every=160,
            checkpoint_every=4_000,
        ),
        "small-stage1": _SMALL_STAGE1,
        # For a GPU, not tried on one: large batches, whose steps should cost hardly more than small ones'.
        "small-gpu": replace(
            _SMALL_STAGE1,
            samples=1_000_000,
            batch=256,
            learning_rate=1e-3,
            warmup=40_000,
            cooldown=500_000,
            ema_half_life=20_000,
            log_every=10_240,
            checkpoint_every=200_000,
        ),
        # More of it, on other photos: gently, since what it knows already should stay.
        "small-continue": replace(
            _SMALL_STAGE1,
            samples=4_000,
            learning_rate=1e-4,
            warmup=400,
            cooldown=2_000,
            ema_half_life=800,
            log_every=160,
            checkpoint_every=2_000,
        ),
        "tiny-stage2": _TINY_STAGE2,
        "tiny-stage2-delta": replace(
            _TINY_STAGE2,
            delta_rank=8,
            learning_rate=3e-3,
            p2_k=0.0,
            background_weight=0.1,
            borrowed_codes=0.1,
        ),
    }
)
