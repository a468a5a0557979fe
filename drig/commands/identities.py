"""`drig identities`."""

from dataclasses import dataclass
from pathlib import Path

from drig.errors import DrigError


@dataclass(frozen=True, kw_only=True)
class IdentitiesConfig:
    """List the personalised identities, register weights as one, or delete one for good."""

    register: str | None = None
    """Name under which `drig edit` and `drig serve` are to find --weights: a person, or base for the base rig."""
    weights: Path | None = None
    """The weights to register, such as `drig import` makes."""
    delete: str | None = None
    """Name of an identity to delete, with all its versions and what training left; the photos are yours and stay."""
    runs: Path = Path("runs")
    """The folder of runs that holds them; MLFLOW_TRACKING_URI overrides it."""

    def __post_init__(self) -> None:
        if (self.register is None) != (self.weights is None):
            raise DrigError("--register and --weights belong together: give the name and the file")
        if self.register is not None and self.delete is not None:
            raise DrigError("--register or --delete: give one of the two")


def identities(config: IdentitiesConfig) -> None:
    """Print a table of identities, or change it."""
    from drig.forgetting import forget
    from drig.identities import BASE, Identities
    from drig.tracking import tracking_uri

    registry = Identities(tracking_uri(config.runs))
    if config.register is not None and config.weights is not None:
        base = config.register == BASE
        version = (
            registry.register_base(config.weights)
            if base
            else registry.register(config.register, config.weights, album_report=None)
        )
        print(f"registered {config.register}, version {version}")
        return
    if config.delete is not None:
        forgotten = forget(registry, config.delete)
        print(f"deleted {config.delete}:", *forgotten.removed, sep="\n  ")
        if forgotten.remains:
            raise DrigError(
                f"{len(forgotten.remains)} things of theirs are still there: {', '.join(forgotten.remains)}"
            )
        print("searched for the same content afterwards: nothing of theirs remains")
        return
    row = "{:<24} {:>7} {:>6} {:>6}  {}"
    print(row.format("identity", "version", "photos", "size", "created"))
    for info in registry.list():
        photos = "-" if info.photos is None else info.photos
        print(row.format(info.name, info.version, photos, info.size, f"{info.created:%Y-%m-%d %H:%M}"))
