"""The loop that trains both stages, alone or as one of several workers of a process group."""

import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import Dataset

from drig import logs
from drig.config import to_dict
from drig.data.items import unpacked
from drig.diffusion.deltas import Delta, attached, save_delta
from drig.diffusion.dropout import seed_dropout
from drig.diffusion.network import Rig
from drig.diffusion.precision import autocast_dtype
from drig.diffusion.weights import save_weights
from drig.errors import DrigError
from drig.memory import peak_memory, reuse_freed_memory
from drig.randomness import derive_seed, torch_generator
from drig.training import checkpoints
from drig.training.batch_norm import share_statistics
from drig.training.checkpoints import State, trained_parameters
from drig.training.config import TrainingConfig
from drig.training.ema import Ema
from drig.training.guard import FiniteGuard
from drig.training.meters import Window
from drig.training.objective import Objective, frozen_codes
from drig.training.stream import Item, SampleStream, worker_batches

WEIGHTS = "weights.safetensors"

OnProgress = Callable[[int, dict[str, float]], None]
OnCheckpoint = Callable[[Path | None, int, dict[str, float]], None]


@dataclass(frozen=True)
class TrainingResult:
    """What a call of `train` came to."""

    weights: Path | None
    """The trained rig or, with `delta_rank`, the delta over the one given (the averaged weights if the run averages).
    None when stopped before the end of the budget."""
    samples_seen: int
    metrics: dict[str, float]
    """The last report: loss, loss_quarter_1..4 by timestep, gradient_norm, samples_per_second, wait_share (of the time,
    waiting for data), learning_rate, memory_gb (the most so far, of the GPU or else of the process)."""


def train(
    config: TrainingConfig,
    rig: Rig,
    dataset: Dataset[dict[str, Tensor]],
    *,
    workdir: Path,
    rank: int = 0,
    world_size: int = 1,
    on_progress: OnProgress | None = None,
    on_checkpoint: OnCheckpoint | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> TrainingResult:
    """Train `rig` in place, on the device it is on, and write `workdir`/weights.safetensors.

    With `delta_rank` the rig stays as it is, frozen, and the file is that of a delta over it.

    dataset: map-style with a length, of training items (`drig.data.items`): as the network takes them, or packed.
    workdir: holds the checkpoints; calling again with the same arguments goes on from the newest, and a finished run
        returns at once. Only rank 0 writes; every rank needs the newest checkpoint in its `workdir` when resuming.
    rank, world_size: of the workers that train this rig together; more than one need an initialised process group.
    on_progress(samples_seen, metrics): every `log_every` samples, on rank 0.
    on_checkpoint(folder, samples_seen, metrics): after every checkpoint, on every rank; folder is None but on rank 0.
    should_stop: asked on every rank at each report; if one says yes, all write a checkpoint and return.

    An interrupted and resumed run equals an uninterrupted one, bit for bit in float32 on a CPU. The number of workers
    and `micro_batch` change nothing but float rounding: samples, timesteps, noise and dropout belong to positions in
    the stream, and the encoder's BatchNorm sees the whole batch (the paper's saw each worker's share).

    Raises DrigError for contradictory settings, a checkpoint of another run, an unwritable folder, and when the loss or
    its gradient stops being finite: it is told with the next report, and the weights stay as they were before.
    """
    device = next(rig.parameters()).device
    if device.type == "cpu":
        reuse_freed_memory()
    with torch.random.fork_rng(devices=[]):  # of which loaders draw a seed that nothing depends on
        worker = _Worker(config, rig, dataset, workdir, rank, world_size)
        with attached(rig, worker.state.delta):
            return worker.run(on_progress, on_checkpoint, should_stop)


class _Worker:
    def __init__(
        self,
        config: TrainingConfig,
        rig: Rig,
        dataset: Dataset[dict[str, Tensor]],
        workdir: Path,
        rank: int,
        world_size: int,
    ) -> None:
        # Config
        self.config, self.workdir, self.rank, self.world_size = config, workdir, rank, world_size
        self.share = config.share(rank, world_size)
        self.device = next(rig.parameters()).device
        if world_size > 1 and not dist.is_initialized():
            raise DrigError(
                f"world_size is {world_size} and this process is in no process group. "
                "Call torch.distributed.init_process_group (Ray Train does), or train with world_size 1."
            )
        # Data
        self.dataset, self.dataset_size = dataset, _length(dataset)
        # Model
        delta = None
        if config.delta_rank is not None:
            delta = Delta.start(rig, config.delta_rank, torch_generator(config.seed, "delta"))
        trained = rig if delta is None else delta
        self.objective = Objective(
            rig,
            train_encoder=config.train_encoder,
            autocast=autocast_dtype(config.precision, self.device),
            p2_k=config.p2_k,
            background_weight=config.background_weight,
            delta=delta,
        )
        rig.denoisingUNet.recompute = config.recompute
        if world_size > 1 and config.train_encoder:
            share_statistics(rig.encoder)
        # Optimizer
        self.parameters = list(trained_parameters(trained).values())
        optimizer = torch.optim.Adam(self.parameters, lr=config.learning_rate, fused=True)
        self.guard = FiniteGuard(optimizer, self.device)
        ema = Ema(trained, config.ema_half_life, train_encoder=config.train_encoder) if config.ema_half_life else None
        self.state = State(rig, delta, ema, optimizer, config, self.dataset_size, samples_seen=0, metrics={})

    def run(
        self,
        on_progress: OnProgress | None,
        on_checkpoint: OnCheckpoint | None,
        should_stop: Callable[[], bool] | None,
    ) -> TrainingResult:
        state, config = self.state, self.config
        # Restore
        self._prepare_folder()
        checkpoints.restore(self.workdir, state)
        self._require_same_start()
        if state.samples_seen >= config.total:
            return self._finish()
        if state.samples_seen:
            logs.event("training_continued", folder=str(self.workdir), samples=state.samples_seen)
        # Loop
        forward = self._forward()
        steps = self.objective.schedule.steps
        stream = SampleStream(self.dataset, self.dataset_size, steps, config.seed, config.borrowed_codes)
        codes = None if config.train_encoder else frozen_codes(state.rig, self.dataset, len(self.share))
        window = Window(stream.steps, self.device)
        self.objective.train()
        batches = worker_batches(
            stream,
            config,
            state.samples_seen,
            rank=self.rank,
            world_size=self.world_size,
            pin_memory=self.device.type == "cuda",
        )
        for batch in window.timed(batches):
            self._step(forward, self._to_device(batch, codes), window)
            # Report
            stop, report, save = False, self._passed(config.log_every), self._passed(config.checkpoint_every)
            if report or save:
                self._require_finite()
            if report:
                stop = self._agree(should_stop is not None and should_stop())
                state.metrics = {
                    **window.report(self.world_size),
                    "learning_rate": self._learning_rate(),
                    "memory_gb": peak_memory(self.device),
                }
                if on_progress and self.rank == 0:
                    on_progress(state.samples_seen, state.metrics)
            if stop or save:
                folder = checkpoints.save(self.workdir, state) if self.rank == 0 else None
                if on_checkpoint:
                    on_checkpoint(folder, state.samples_seen, state.metrics)
            if stop and state.samples_seen < config.total:
                return TrainingResult(None, state.samples_seen, state.metrics)
        return self._finish()

    def _step(self, forward: nn.Module, batch: dict[str, Tensor], window: Window) -> None:
        """One optimiser step over this worker's share of a batch."""
        config, state = self.config, self.state
        for group in state.optimizer.param_groups:
            group["lr"] = self._learning_rate()
        state.optimizer.zero_grad()
        losses = self._backward(forward, batch, window)
        # The gradient is a mean over the workers, so what is not finite on one stops all.
        norm = nn.utils.clip_grad_norm_(self.parameters, config.gradient_clip or math.inf)
        self.guard.see(losses.mean(), norm)
        state.optimizer.step()
        state.samples_seen += config.batch
        if state.ema:
            state.ema.update(config.batch, state.samples_seen)
        window.add_step(norm, config.batch)

    def _backward(self, forward: nn.Module, batch: dict[str, Tensor], window: Window) -> Tensor:
        """Bring the gradient of the mean loss to the parameters, in micro-batches; the last one's losses (n,)."""
        config, state = self.config, self.state
        seeds = [derive_seed(config.seed, "dropout", state.samples_seen + place) for place in self.share]
        # The encoder sees the whole share at once, for BatchNorm. Each micro-batch leaves its gradient at a copy of the
        # codes, and the last carries them all on to the encoder.
        codes = batch.pop("code") if "code" in batch else self.objective.encode(batch["image"])  # (n, Z)
        copy = codes.detach().requires_grad_(codes.requires_grad)
        count, size = len(seeds), config.micro_batch or len(seeds)
        for start in range(0, count, size):
            part, last = slice(start, start + size), start + size >= count
            values = {name: tensor[part] for name, tensor in batch.items()}
            seed_dropout(state.rig.denoisingUNet, seeds[part])
            # Workers exchange gradients once a step, with the last micro-batch.
            with forward.no_sync() if isinstance(forward, DistributedDataParallel) and not last else nullcontext():
                losses: Tensor = forward(**values, code=(codes if last else copy)[part])  # (micro-batch,)
                loss = losses.sum() * self.world_size / config.batch  # the mean over workers is that over the batch
                if last and copy.grad is not None:
                    loss = loss + (codes * copy.grad).sum()
                loss.backward()
            window.add(losses, values["timestep"])
        return losses.detach()

    def _learning_rate(self) -> float:
        """The rate of the coming step: linear in the samples seen while it rises and while it falls."""
        config, seen = self.config, self.state.samples_seen
        rising = (seen + config.batch) / config.warmup if config.warmup else 1.0
        falling = (config.total - seen) / config.cooldown if config.cooldown else 1.0
        return config.learning_rate * min(1.0, rising, falling)

    def _require_finite(self) -> None:
        """Raise if a step was not taken because its gradient was not finite."""
        if skipped := self.guard.skipped:
            loss, norm = self.guard.failure
            raise DrigError(
                f"training stopped after {self.state.samples_seen - skipped * self.config.batch:,} samples: loss "
                f"{loss}, gradient norm {norm}. The checkpoints in {self.workdir} are from before. Start a new run, "
                f"from their weights or afresh, with a learning_rate lower than {self.config.learning_rate} or with "
                "precision fp32."
            )

    def _passed(self, interval: int) -> bool:
        """Whether the last step reached or passed a multiple of `interval` samples, or the end."""
        seen, batch = self.state.samples_seen, self.config.batch
        return seen // interval > (seen - batch) // interval or seen >= self.config.total

    def _forward(self) -> nn.Module:
        """The objective, compiled if that is asked for, under DDP where there are several workers."""
        if self.config.compile:
            self.objective.compile()
        if self.world_size == 1:
            return self.objective
        ids = [self.device] if self.device.type == "cuda" else None
        return DistributedDataParallel(self.objective, device_ids=ids, broadcast_buffers=False)

    def _to_device(self, batch: Item, codes: Tensor | None) -> dict[str, Tensor]:
        index, code_of = batch.pop("index"), batch.pop("code_of")
        tensors = unpacked({name: tensor.to(self.device, non_blocking=True) for name, tensor in batch.items()})
        if codes is not None:
            tensors["code"] = codes[code_of.to(codes.device)]
        if self.config.borrowed_codes:
            tensors["borrowed"] = (code_of != index).to(self.device)
        return tensors

    def _agree(self, stop: bool) -> bool:
        """Whether any worker wants to stop."""
        if self.world_size == 1:
            return stop
        wish = torch.tensor([float(stop)], device=self.device)
        dist.all_reduce(wish)
        return bool(wish.item() > 0)

    def _prepare_folder(self) -> None:
        try:
            self.workdir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DrigError(f"cannot make the run's folder {self.workdir}: {error}. Choose a writable one.") from error

    def _require_same_start(self) -> None:
        """Raise unless all workers found the same checkpoint."""
        if self.world_size > 1:
            seen = torch.zeros(self.world_size, dtype=torch.int64, device=self.device)
            seen[self.rank] = self.state.samples_seen
            dist.all_reduce(seen)
            if len(set(seen.tolist())) > 1:
                raise DrigError(
                    f"the workers found checkpoints of {seen.tolist()} samples, by rank. "
                    f"Give every worker the newest checkpoint in {self.workdir}, or use a folder that they share."
                )

    def _finish(self) -> TrainingResult:
        state, path = self.state, self.workdir / WEIGHTS
        if self.rank == 0:
            metadata = {
                "training": to_dict(self.config),
                "samples_seen": state.samples_seen,
                "metrics": state.metrics,
            }
            network = state.ema.average if state.ema else state.trained
            if isinstance(network, Delta):
                save_delta(path, network, metadata=metadata)
            else:
                save_weights(path, network, metadata=metadata)
        if self.world_size > 1:
            dist.barrier()
        return TrainingResult(path, state.samples_seen, state.metrics)


def _length(dataset: Dataset[dict[str, Tensor]]) -> int:
    """The number of samples; DrigError for none."""
    length = len(dataset)  # type: ignore[arg-type]
    if length == 0:
        raise DrigError("the training dataset is empty. Extract buffers from at least one usable photo first.")
    return length
