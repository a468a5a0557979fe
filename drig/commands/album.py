"""`drig album build` and `drig album check`."""

from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from drig import config as configs
from drig.errors import DrigError


@dataclass(frozen=True, kw_only=True)
class AlbumBuildConfig:
    """Make an album of one person: the best and most different of any photos and videos, aligned."""

    sources: tuple[str, ...]
    """Photos, videos, and folders of either."""
    out: Path
    """Folder for the portraits (00.png, 01.png, ..), album.json and sheet.png. An album that is there is replaced."""
    like: Path | None = None
    """A photo of the person. None = whoever is in the most photos."""
    least: int = 10
    """With fewer usable photos no album is made."""
    most: int = 20
    """The paper personalises with 10 to 20."""
    size: int = 256
    """Side of the portraits in pixels."""

    def __post_init__(self) -> None:
        if not 2 <= self.least <= self.most <= 100:
            raise DrigError(f"--least is {self.least} and --most {self.most}; give 2 <= least <= most <= 100")
        if self.size < 64:
            raise DrigError(f"--size is {self.size}; give 64 or more")


def album_build(config: AlbumBuildConfig) -> None:
    """Build the album, and say who and what was left out."""
    from drig.data.albums import building
    from drig.data.albums.loading import SHEET
    from drig.data.photos import read_photo
    from drig.faces.estimators import load_estimator
    from drig.faces.head import load_head

    building.check_free(config.out, config.sources)
    like = None if config.like is None else read_photo(config.like)
    head = load_head("open")
    with tqdm(unit="picture") as bar:

        def advance(step: str, done: int, total: int) -> None:
            if not bar.desc.startswith(step):
                bar.reset(total)
                bar.set_description(step)
            bar.update(done - bar.n)

        builder = building.AlbumBuilder(head=head, estimator=load_estimator("fit", head), on_progress=advance)
        found = builder.find(config.sources, config.size)
        built = builder.choose(found, least=config.least, most=config.most, like=like)
    building.write_album(built, config.out)
    for reason, count in building.count_reasons(built.left_out):
        print(f"left out {count}: {reason}")
    for note in built.notes:
        print(f"note: {note}")
    for verdict in built.check.verdicts:
        print(f"{verdict.level}: {verdict.text}")
    strangers = "1 other person was" if built.others == 1 else f"{built.others} other people were"
    others = f"; {strangers} left out" if built.others else ""
    print(f"{len(built.candidates)} portraits in {config.out}{others}. {built.check.summary}")
    print(f"look at {config.out / SHEET}; a folder of such folders is what personalize takes:")
    print(f"  drig personalize --albums {config.out.parent} --aligned")


@dataclass(frozen=True, kw_only=True)
class AlbumCheckConfig:
    """Say whether an album is fit to be trained on, and what to do about it. Exit code 0: it is, perhaps with remarks;
    1: it should not be trained on."""

    album: str
    """A folder of photos of one person, one that `drig album build` made, or a video."""
    dataset: Path | None = None
    """Buffer store that the base rig was trained on, to compare the photos with. None = the head's own statistics."""
    out: Path | None = None
    """Folder for report.html and check.json. None = the album's folder, or beside the video."""
    size: int = 256
    """Side of the portraits in pixels."""
    aligned: bool = False
    """The photos are FFHQ crops already; albums that `drig album build` made are known to be."""

    def __post_init__(self) -> None:
        if self.out is None and self.album.startswith("s3://"):
            raise DrigError(f"the report on {self.album} needs a local folder: give --out FOLDER")


def album_check(config: AlbumCheckConfig) -> int:
    """Print the findings, write them as a page and as JSON; the exit code."""
    import json

    from drig import storage
    from drig.data.albums import doctor, load_album
    from drig.data.albums.loading import ALBUM
    from drig.data.albums.page import write_page
    from drig.data.albums.typical import load_training
    from drig.data.photos import is_video
    from drig.faces.estimators import load_estimator
    from drig.faces.head import load_head
    from drig.faces.identity_embedding import IdentityEmbedder
    from drig.faces.landmarks import LandmarkDetector

    head = load_head("open")
    training = load_training(config.dataset, head)
    aligned = config.aligned or storage.exists(storage.join(config.album, ALBUM))
    album = load_album(config.album, LandmarkDetector(), config.size, aligned=aligned)
    with tqdm(total=len(album.portraits), unit="portrait", desc="fit") as bar:
        codes = doctor.fit_portraits(
            album.portraits, load_estimator("fit", head), lambda done: bar.update(done - bar.n)
        )
    check = doctor.examine(album, codes, head, IdentityEmbedder(), training)
    print(doctor.table(check))
    out = config.out or (Path(config.album).parent if is_video(config.album) else Path(config.album))
    storage.write_bytes(out / "check.json", json.dumps(check.report(), indent=1).encode())
    write_page(out / "report.html", Path(config.album).name, check, head, configs.to_yaml(config))
    print(f"report: {out / 'report.html'}")
    return 0 if check.passes else 1
