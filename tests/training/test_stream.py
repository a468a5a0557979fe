import torch
from torch import Tensor

from drig.data.resident import ResidentDataset
from drig.training.stream import Item, SampleStream, worker_batches
from tests.training.conftest import small_training


def stream_of(dataset: list[dict[str, Tensor]], seed: int = 0) -> SampleStream:
    return SampleStream(dataset, len(dataset), 1000, seed)  # type: ignore[arg-type]


def test_every_pass_is_a_new_order_of_the_whole_dataset(dataset: list[dict[str, Tensor]]) -> None:
    stream = stream_of(dataset)
    passes = [[stream[6 * epoch + i]["index"] for i in range(6)] for epoch in range(4)]
    assert all(sorted(indices) == list(range(6)) for indices in passes)
    assert len({tuple(indices) for indices in passes}) > 1
    item = stream[7]
    assert torch.equal(item["image"], dataset[item["index"]]["image"])
    assert torch.equal(item["buffers"], dataset[item["index"]]["buffers"])


def test_an_item_carries_whatever_the_dataset_gives() -> None:
    packed = [{"image": torch.zeros(3, 8, 8, dtype=torch.uint8), "light": torch.ones(9, 3)}]
    item = stream_of(packed)[0]
    assert item.keys() == {"image", "light", "noise", "timestep", "index", "code_of"}
    assert item["image"].dtype == torch.uint8
    assert item["noise"].shape == (3, 8, 8)
    assert item["noise"].dtype == torch.float32


def test_an_item_depends_on_seed_and_position_alone(dataset: list[dict[str, Tensor]]) -> None:
    one, other = stream_of(dataset), stream_of(dataset)
    backwards = {position: other[position] for position in reversed(range(20))}
    for position in range(20):
        item = one[position]
        assert (item["index"], item["timestep"]) == (backwards[position]["index"], backwards[position]["timestep"])
        assert torch.equal(item["noise"], backwards[position]["noise"])
    assert not torch.equal(one[3]["noise"], stream_of(dataset, seed=1)[3]["noise"])
    assert not torch.equal(one[3]["noise"], one[3 + 6]["noise"])


def test_codes_are_borrowed_from_other_photos(dataset: list[dict[str, Tensor]]) -> None:
    def pairs(share: float, count: int = 6) -> list[tuple[int, int]]:
        stream = SampleStream(dataset[:count], count, 1000, 0, share)  # type: ignore[arg-type]
        return [(stream[position]["index"], stream[position]["code_of"]) for position in range(200)]

    assert all(index == code for index, code in pairs(0))
    assert 70 < sum(index != code for index, code in pairs(0.5)) < 130
    assert pairs(0.5) == pairs(0.5)
    assert all(index != code for index, code in pairs(1))
    assert {code for index, code in pairs(1) if index == 2} == {0, 1, 3, 4, 5}
    assert all(index == code for index, code in pairs(1, count=1))


def test_timesteps_are_uniform_and_noise_is_standard_normal(dataset: list[dict[str, Tensor]]) -> None:
    items = [stream_of(dataset)[position] for position in range(400)]
    timesteps = torch.tensor([item["timestep"] for item in items])
    assert torch.histc(timesteps.double(), 4, 0, 1000).sub(100).abs().max() < 35  # 4 standard deviations
    noise = torch.stack([item["noise"] for item in items])
    assert abs(noise.mean()) < 0.02
    assert abs(noise.std() - 1) < 0.02


def test_workers_divide_the_same_batches_and_a_later_start_continues_them(dataset: list[dict[str, Tensor]]) -> None:
    stream, config = stream_of(dataset), small_training(samples=22, batch=4, train_encoder=False)

    def noises(start: int, world_size: int) -> Tensor:
        loaders = [
            worker_batches(stream, config, start, rank=rank, world_size=world_size, pin_memory=False)
            for rank in range(world_size)
        ]
        return torch.cat([batch["noise"] for batches in zip(*loaders, strict=True) for batch in batches])

    assert len(noises(0, 1)) == 24  # 22 in whole batches
    assert torch.equal(noises(0, 1), noises(0, 2))
    assert torch.equal(noises(0, 1), noises(0, 4))
    assert torch.equal(noises(0, 1)[8:], noises(8, 2))


def test_loader_processes_yield_the_same_items(dataset: list[dict[str, Tensor]]) -> None:
    def first(loader_workers: int) -> Tensor:
        config = small_training(samples=4, loader_workers=loader_workers)
        loader = worker_batches(stream_of(dataset), config, 0, rank=0, world_size=1, pin_memory=False)
        noise: Tensor = next(iter(loader))["noise"]
        return noise

    assert torch.equal(first(0), first(1))


def test_a_resident_data_set_is_seen_in_the_same_order_whoever_shares_the_batches(
    dataset: list[dict[str, Tensor]],
) -> None:
    resident = ResidentDataset(dataset, "cpu", mirror=True)  # type: ignore[arg-type]
    stream = SampleStream(resident, len(resident), 1000, 0)
    config = small_training(samples=28, batch=4, train_encoder=False)

    def batches(start: int, rank: int = 0, world_size: int = 1) -> list[Item]:
        return list(worker_batches(stream, config, start, rank=rank, world_size=world_size, pin_memory=False))

    alone, first, second, continued = batches(0), batches(0, 0, 2), batches(0, 1, 2), batches(12)
    order = [stream[position]["index"] for position in range(28)]
    assert torch.cat([batch["index"] for batch in alone]).tolist() == order
    assert sorted(order[:12]) == list(range(12))
    for batch, one, other in zip(alone, first, second, strict=True):
        assert batch.keys() == {"image", "buffers", "noise", "timestep", "index", "code_of"}
        for name, tensor in batch.items():
            assert torch.equal(tensor, torch.cat([one[name], other[name]]))
    for batch, again in zip(alone[3:], continued, strict=True):
        assert all(torch.equal(tensor, again[name]) for name, tensor in batch.items())
    noise, timesteps = (torch.cat([batch[name] for batch in alone]) for name in ("noise", "timestep"))
    assert abs(noise.mean()) < 0.05
    assert abs(noise.std() - 1) < 0.05
    assert len(set(timesteps.tolist())) > 20
