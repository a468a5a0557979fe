"""Forget a person: remove an identity and all that training left of them, then look whether anything remains.

The proof is a search, not a list of what was deleted: everything that was theirs is known by its content (size and
SHA-256) before it goes, and afterwards every folder where copies of it could be is gone through for the same content.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from drig import storage
from drig.identities import FOLDER_TAG, Identities, IdentityInfo, UnknownIdentity
from drig.tracking import artifact_folder, connect, purge_runs

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.store.artifact.artifact_repo import ArtifactRepository

SETTINGS = ("config.json", "config.yaml")
"""Files of a run that say nothing of a person, and are alike for many."""
FORGOTTEN = "forgotten"
"""The name of an MLflow run that was a person's, where it cannot be erased."""
_PARENT = "mlflow.parentRunId"

Content = tuple[int, str]
"""Size in bytes and SHA-256."""


@dataclass(frozen=True, kw_only=True)
class Forgotten:
    """What became of an identity."""

    name: str
    removed: tuple[str, ...]
    """A line for each kind of thing."""
    remains: tuple[str, ...]
    """What the search found of theirs afterwards; empty = nothing."""


def forget(identities: Identities, name: str, *, folders: Sequence[str] = ()) -> Forgotten:
    """Remove all versions of an identity, the runs that trained them with their files, and the folders of the training.

    The photos that somebody trained on stay where they are: they are not drig's.

    Args:
        folders: what else is the person's, local or s3://.

    Raises UnknownIdentity where there is no such identity, and DrigError for the base while there are deltas over it.
    """
    versions = identities.versions(name)
    runs = _runs(identities, name, versions)
    trained_in = sorted({info.tags[FOLDER_TAG] for info in versions if FOLDER_TAG in info.tags})
    # A tag can say anything: nothing is deleted that does not bear the person's name.
    theirs = sorted({*folders, *(folder for folder in trained_in if PurePosixPath(folder).name == name)})
    known = {content for folder in theirs for content in _contents(folder)}
    known |= {content for run in runs for content in _contents_of_run(identities, run)}
    known |= {content for info in versions for content in _contents(str(identities.cached(info)))}

    identities.delete(name)  # first: from now on nobody can be given what goes next
    removed = [_count(len(versions), "version") + " in the registry, with weights and reports"]
    files = sum(_forget_run(identities, run) for run in runs)
    erased = purge_runs(identities.tracking_uri, [run.info.run_id for run in runs])
    kept = "" if erased else ", whose numbers stay, without a name, until somebody runs `mlflow gc`"
    removed.append(f"{_count(files, 'file')} of {_count(len(runs), 'run')} in MLflow{kept}")
    removed += [f"{_count(storage.remove(folder), 'file')} in {folder}" for folder in theirs]
    remains = [
        *_search_registry(identities, name, runs),
        *_search_files(_places(identities, [*theirs, *trained_in]), theirs, known),
    ]
    return Forgotten(name=name, removed=tuple(removed), remains=tuple(remains))


def _runs(identities: Identities, name: str, versions: Sequence[IdentityInfo]) -> "list[Run]":
    """The MLflow runs that are about this person: those that say so, and those that only hold one of the versions."""
    client = connect(identities.tracking_uri)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    about = {run.info.run_id: run for run in client.search_runs(experiments, f"tags.identity = '{name}'")}
    for info in versions:
        run = client.get_run(info.run_id)
        if run.data.tags.get("identity", name) == name:
            about[info.run_id] = run
    alone = [run for run in _parents(identities, experiments, about) if run.info.run_id not in about]
    return [*about.values(), *alone]


def _parents(identities: Identities, experiments: list[str], about: "Mapping[str, Run]") -> "Iterator[Run]":
    """The runs above these that were about nobody else: of a training that was asked for one person."""
    client = connect(identities.tracking_uri)
    for parent in {run.data.tags[_PARENT] for run in about.values() if _PARENT in run.data.tags}:
        children = client.search_runs(experiments, f"tags.`{_PARENT}` = '{parent}'")
        if all(child.info.run_id in about for child in children):
            yield client.get_run(parent)


def _forget_run(identities: Identities, run: "Run") -> int:
    """Delete a run's files and whatever names the person; gives how many files there were."""
    client, repository = connect(identities.tracking_uri), _repository(identities, run)
    files = len(list(_walk(repository)))
    repository.delete_artifacts()  # type: ignore[no-untyped-call]
    for tag in run.data.tags:
        if not tag.startswith("mlflow."):
            client.delete_tag(run.info.run_id, tag)
    client.update_run(run.info.run_id, name=FORGOTTEN)
    client.delete_run(run.info.run_id)
    return files


def _search_registry(identities: Identities, name: str, runs: "Sequence[Run]") -> Iterator[str]:
    """What MLflow still knows of the person."""
    from mlflow.entities import ViewType

    with suppress(UnknownIdentity):
        yield f"{len(identities.versions(name))} versions of {name} in the registry"
    client = connect(identities.tracking_uri)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    for run in client.search_runs(experiments, f"tags.identity = '{name}'", run_view_type=ViewType.ALL):
        yield f"the MLflow run {run.info.run_id}"
    for run in runs:
        files = len(list(_walk(_repository(identities, run))))
        if files:
            yield f"{_count(files, 'file')} of the MLflow run {run.info.run_id}"


def _search_files(places: Sequence[str], theirs: Sequence[str], known: set[Content]) -> Iterator[str]:
    """Files with the content of one of theirs, and files in a folder of theirs, in these places."""
    sizes = {size for size, _ in known}
    for place in places:
        if not storage.exists(place):
            continue
        for file, size in storage.file_sizes(place).items():
            inside = any(file.startswith(folder.rstrip("/") + "/") for folder in theirs)
            if inside or (size in sizes and (size, storage.sha256(file)) in known):
                yield file


def _places(identities: Identities, folders: Sequence[str]) -> list[str]:
    """Where copies could be: the store's files, if they are here, the cache, and these folders and what is beside."""
    beside = {folder.rstrip("/").rpartition("/")[0] for folder in folders}
    store = artifact_folder(identities.tracking_uri)
    return sorted({*beside, str(identities.cache), *([str(store)] if store else [])})


def _contents(place: str) -> Iterator[Content]:
    """Of the files in a place that say something of a person; none where there is no such place."""
    if storage.exists(place):
        for file, size in storage.file_sizes(place).items():
            if Path(file).name not in SETTINGS and size:
                yield size, storage.sha256(file)


def _contents_of_run(identities: Identities, run: "Run") -> Iterator[Content]:
    repository = _repository(identities, run)
    for path in _walk(repository):
        if PurePosixPath(path).name not in SETTINGS:
            file = Path(repository.download_artifacts(path))  # type: ignore[no-untyped-call]
            yield file.stat().st_size, storage.sha256(str(file))


def _walk(repository: "ArtifactRepository", folder: str | None = None) -> Iterator[str]:
    """Paths of the files in a store of MLflow's."""
    entries: list[Any] = repository.list_artifacts(folder)
    for entry in entries:
        if entry.is_dir:
            yield from _walk(repository, entry.path)
        else:
            yield entry.path


def _repository(identities: Identities, run: "Run") -> "ArtifactRepository":
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    return get_artifact_repository(str(run.info.artifact_uri), tracking_uri=identities.tracking_uri)


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"
