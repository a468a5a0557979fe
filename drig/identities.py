"""Identities in the MLflow registry: a person's personalised weights (the mean shape inside) and album report.

Each identity is a registered model `drig-<name>` with numbered versions; the alias `live` names the one that is served.
The base rig is kept the same way under the reserved name `base`. Weights may be a delta over one of its versions, which
is found by the hash of its tensors: new ones can be registered while people of old ones are served.
"""

import difflib
import json
import os
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drig import storage
from drig.errors import DrigError
from drig.shipped_base import SHIPPED_BASE
from drig.tracking import connect, experiment_id, store_errors
from drig.weights_file import base_of, rig_size

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.store.artifact.artifact_repo import ArtifactRepository

BASE = "base"
"""The name of the base rig: stage 1 alone, nobody's identity."""
LIVE = "live"
"""The alias of the version that is served."""
_PREFIX = "drig-"  # of registered models, so that an identity never meets a model of the user's own
_OURS = "drig.kind"  # the tag that tells our registered models from others with that prefix
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_BASE_HASH = "drig.base"  # the tag of a base's own hash, and of the one that a delta is over
_REPORT = "album.json"
FOLDER_TAG = "folder"
"""The tag of a version that says where its training left files, a local path or s3:// URI."""

CONSENT_BY, CONSENT_AT = "consent_by", "consent_at"
"""Tags of a version: who said that the person has agreed, and when (UTC, ISO 8601)."""


class UnknownIdentity(DrigError):
    """There is no identity, or no version of it, by that name."""


@dataclass(frozen=True)
class IdentityInfo:
    """One version of an identity."""

    name: str
    version: int
    created: datetime
    run_id: str
    """The MLflow run that trained it, or that recorded it."""
    photos: int | None
    """Photos in the album; None for the base rig."""
    size: int
    """Side of its portraits in pixels."""
    sha256: str
    """Of the weights file."""
    base: str | None
    """`content_hash` of a base rig's tensors: the base's own, or that of the base of a delta. None = a whole rig."""
    tags: Mapping[str, str]
    """What the caller of `register` added."""
    place: str
    """URI of the store's folder with its files."""
    file: str
    """Name of the weights file there."""


class Identities:
    """The identities of one MLflow store. Picklable.

    Args:
        tracking_uri: as `tracking.connect` takes it.
        cache: folder for weights downloaded from a remote store, by content; the user's cache folder by default.
    """

    def __init__(self, tracking_uri: str, *, cache: Path | None = None) -> None:
        self.tracking_uri = tracking_uri
        self.cache = cache or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "drig" / "weights"

    def check(self) -> None:
        """Ask the store something small. Raises DrigError if it cannot be used; the first call takes seconds."""
        client = connect(self.tracking_uri)
        with store_errors(self.tracking_uri):
            client.search_registered_models(max_results=1)

    def register(
        self,
        name: str,
        weights: Path,
        *,
        album_report: Mapping[str, Any] | None,
        files: Sequence[Path] = (),
        run_id: str | None = None,
        tags: Mapping[str, str] | None = None,
        live: bool = True,
    ) -> int:
        """Upload a person's weights as a new version, make it live and return its number.

        A version appears with all that belongs to it or not at all. The same weights are registered once, also by
        several processes at the same time, so that a repeated command changes nothing.

        Args:
            name: 1 to 64 letters, digits, - or _, the first a letter or digit.
            album_report: JSON object about the album; its `photos` is the number of photos used. None = not known.
            files: what else is kept with the version: pictures, measures.
            run_id: the run that trained the weights, which then holds them; None makes a run for the purpose.
            live: False leaves another version live, if one is.

        Raises DrigError for another name, the name `base`, a file that is not a rig's weights, and for a delta over a
        base that is not registered.
        """
        if name == BASE:
            raise DrigError(f"the name {BASE!r} is kept for the base rig; choose another name for this person")
        version = self._add_version(name, weights, files, run_id, tags or {}, album_report)
        if live or not self._has_live(name):
            self._set_live(name, version)
        return version

    def register_base(self, weights: Path, *, run_id: str | None = None, tags: Mapping[str, str] | None = None) -> int:
        """As `register`, for the base rig."""
        version = self._add_version(BASE, weights, (), run_id, tags or {}, None)
        self._set_live(BASE, version)
        return version

    def ensure_base(self) -> IdentityInfo:
        """The live base rig. In a store that has none yet, the one that drig ships becomes it."""
        try:
            return self.get(BASE)
        except UnknownIdentity:
            self.register_base(SHIPPED_BASE)
            return self.get(BASE)

    def list(self) -> list[IdentityInfo]:
        """The live version of every identity, the base rig first, then by name."""
        client = connect(self.tracking_uri)
        ours = f"tags.`{_OURS}` = 'identity'"
        live = {
            (model.name, int(model.aliases[LIVE]))
            for model in _pages(lambda token: client.search_registered_models(ours, page_token=token))
            if LIVE in model.aliases
        }
        versions = _pages(lambda token: client.search_model_versions(ours, page_token=token))
        infos = [_info(version) for version in versions if (version.name, int(version.version)) in live]
        return sorted(infos, key=lambda info: (info.name != BASE, info.name))

    def get(self, name: str, version: int | str = LIVE) -> IdentityInfo:
        """A version of an identity. Raises UnknownIdentity, with names that are near."""
        return _info(self._version(name, version))

    def versions(self, name: str) -> "Sequence[IdentityInfo]":
        """All of an identity, the oldest first. Raises UnknownIdentity."""
        self._version(name, LIVE)  # known, and ours
        return sorted((_info(found) for found in self._all_versions(name)), key=lambda info: info.version)

    def fetch(self, name: str, version: int | str = LIVE) -> Path:
        """The weights of a version as a local file; downloaded once, and checked, if the store is elsewhere.

        The file belongs to the store or the cache: read it, don't change it.
        Raises UnknownIdentity, and DrigError where the store has lost or changed the file.
        """
        return self.fetch_known(_info(self._version(name, version)))

    def fetch_known(self, info: IdentityInfo) -> Path:
        """As `fetch`, of what `get` or `list` told: the registry is not asked again, only where the files are."""
        from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

        files = self._place(info.place)
        if isinstance(files, LocalArtifactRepository):
            return _read(files, info.file, None)
        cached = self.cached(info)
        if not cached.exists():
            self.cache.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=self.cache) as folder:
                downloaded = _read(files, info.file, folder)
                if storage.sha256(downloaded) != info.sha256:
                    raise DrigError(
                        f"the weights of {info.name} version {info.version} changed after they were registered"
                    )
                downloaded.replace(cached)
        return cached

    def cached(self, info: IdentityInfo) -> Path:
        """Where `fetch` keeps the weights of a version that come from elsewhere."""
        return self.cache / f"{info.sha256}.safetensors"

    def drop_known(self, info: IdentityInfo) -> None:
        """Remove this machine's copy of weights that were deleted elsewhere, if it has one."""
        self.cached(info).unlink(missing_ok=True)

    def fetch_base(self, name: str, version: int | str = LIVE) -> Path | None:
        """As `fetch`, the weights of the base rig that a version is a delta over; None where it is a whole rig."""
        found = self._version(name, version)
        if name == BASE or _BASE_HASH not in found.tags:
            return None
        return self.fetch_known(_info(self._base(found.tags[_BASE_HASH])))

    def check_base(self, base: str) -> None:
        """Raise DrigError unless the base rig of that `content_hash` is registered, for deltas over it."""
        self._base(base)

    def album_report(self, name: str, version: int | str = LIVE) -> dict[str, Any]:
        """The album report that a version was registered with; empty for the base rig."""
        files = self._files(self._version(name, version))
        with tempfile.TemporaryDirectory() as folder:
            return dict(json.loads(_read(files, _REPORT, folder).read_text()))

    def delete(self, name: str) -> None:
        """Remove an identity for good: the weights and reports of all its versions, then its entry.

        Raises DrigError for the base while there are deltas over it.
        """
        client = connect(self.tracking_uri)
        self._version(name, LIVE)  # known, and ours
        over_it = [info.name for info in self.list() if name == BASE != info.name and info.base]
        if over_it:
            raise DrigError(
                f"{len(over_it)} identities are deltas over the base rig ({', '.join(over_it[:5])}) and useless "
                "without it; delete these first"
            )
        for version in self._all_versions(name):
            self._files(version).delete_artifacts()  # type: ignore[no-untyped-call]
            self.cached(_info(version)).unlink(missing_ok=True)
        client.delete_registered_model(_PREFIX + name)

    def _add_version(
        self,
        name: str,
        weights: Path,
        files: Sequence[Path],
        run_id: str | None,
        tags: Mapping[str, str],
        report: Mapping[str, Any] | None,
    ) -> int:
        """The number of the version that has these weights, made if there is none."""
        check_name(name)
        size, sha256, base = rig_size(weights), storage.sha256(weights), _base_hash(name, weights)
        if base and name != BASE:
            self._base(base)
        if same := self._versions(name, sha256, base):
            return int(same[0].version)
        self._create(name)
        client = connect(self.tracking_uri)
        if run_id is None:
            experiment = experiment_id(self.tracking_uri, "drig-identities")
            run_id = str(client.create_run(experiment, run_name=name).info.run_id)
            client.set_terminated(run_id)
        folder = f"identities/{name}/{sha256[:16]}"
        for file in (weights, *files):
            client.log_artifact(run_id, str(file), folder)
        client.log_text(run_id, json.dumps(report or {}, indent=2, default=str), f"{folder}/{_REPORT}")
        photos = {} if report is None else {"drig.photos": str(report["photos"])}
        labels = {
            _OURS: "identity",
            "drig.file": weights.name,
            "drig.sha256": sha256,
            "drig.size": str(size),
            **photos,
            **({} if base is None else {_BASE_HASH: base}),
        }
        made = client.create_model_version(
            _PREFIX + name,
            source=f"{client.get_run(run_id).info.artifact_uri}/{folder}",
            run_id=run_id,
            tags={**tags, **labels},
        )
        return self._keep_first(name, made, self._versions(name, sha256, base))

    def _keep_first(self, name: str, made: "ModelVersion", same: "Sequence[ModelVersion]") -> int:
        """Of versions with the same weights, which processes made at the same time, all keep the first."""
        first = same[0]
        if int(first.version) < int(made.version):
            connect(self.tracking_uri).delete_model_version(_PREFIX + name, made.version)
            if made.source != first.source:
                self._files(made).delete_artifacts()  # type: ignore[no-untyped-call]
        return int(first.version)

    def _all_versions(self, name: str) -> "Sequence[ModelVersion]":
        client = connect(self.tracking_uri)
        return _pages(lambda token: client.search_model_versions(f"name = '{_PREFIX}{name}'", page_token=token))

    def _versions(self, name: str, sha256: str, base: str | None) -> "Sequence[ModelVersion]":
        """Those with these weights, the oldest first."""
        client = connect(self.tracking_uri)
        wanted = f"name = '{_PREFIX}{name}' AND tags.`drig.sha256` = '{sha256}'"
        found = _pages(lambda token: client.search_model_versions(wanted, page_token=token))
        same = [version for version in found if version.tags.get(_BASE_HASH) == base]
        return sorted(same, key=lambda version: int(version.version))

    def _has_live(self, name: str) -> bool:
        try:
            self._version(name, LIVE)
        except UnknownIdentity:
            return False
        return True

    def _set_live(self, name: str, version: int) -> None:
        from mlflow.exceptions import MlflowException

        client = connect(self.tracking_uri)
        try:
            client.set_registered_model_alias(_PREFIX + name, LIVE, str(version))
        except MlflowException:
            # Two processes that both make the alias: one is told that it exists, and from then on it can be moved.
            client.set_registered_model_alias(_PREFIX + name, LIVE, str(version))

    def _create(self, name: str) -> None:
        from mlflow.exceptions import MlflowException

        try:
            connect(self.tracking_uri).create_registered_model(_PREFIX + name, tags={_OURS: "identity"})
        except MlflowException as error:
            # Left by a registration that was cut short, or made by one that runs at the same time.
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    def _version(self, name: str, version: int | str) -> "ModelVersion":
        check_name(name)
        client = connect(self.tracking_uri)
        from mlflow.exceptions import MlflowException

        try:
            if version == LIVE:
                found = client.get_model_version_by_alias(_PREFIX + name, LIVE)
            else:
                found = client.get_model_version(_PREFIX + name, str(version))
        except MlflowException as error:
            # The first where the model is missing, the second where it has no such alias.
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise
            raise self._unknown(name, version) from None
        if _OURS not in found.tags:
            raise self._unknown(name, version)
        return found

    def _base(self, base: str) -> "ModelVersion":
        """The version of the base rig whose tensors have that hash."""
        found = [version for version in self._all_versions(BASE) if version.tags.get(_BASE_HASH) == base]
        if not found:
            raise DrigError(
                f"the base rig {base[:16]}.., which the delta is over, is not registered; register it: "
                f"drig identities --register {BASE} --weights FILE"
            )
        return found[0]

    def _unknown(self, name: str, version: int | str) -> UnknownIdentity:
        names = [info.name for info in self.list()]
        if name in names:
            return UnknownIdentity(f"{name} has no version {version}; give the number of an existing one, or {LIVE!r}")
        near = difflib.get_close_matches(name, names, n=3) or names[:5]
        known = (
            f"did you mean {', '.join(near)}?" if near else "none is registered yet: train and personalise a rig first"
        )
        return UnknownIdentity(f"no identity is called {name!r}; {known}")

    def _files(self, version: "ModelVersion") -> "ArtifactRepository":
        """The folder of the store that holds a version's weights and report."""
        return self._place(str(version.source))

    def _place(self, uri: str) -> "ArtifactRepository":
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        return get_artifact_repository(uri, tracking_uri=self.tracking_uri)


def consent_tags(by: str | None) -> dict[str, str]:
    """The tags of a version that somebody vouches for, now; none where nobody does."""
    return {} if by is None else {CONSENT_BY: by, CONSENT_AT: datetime.now(UTC).isoformat(timespec="seconds")}


def check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise DrigError(
            f"{name!r} cannot name an identity; use 1 to 64 letters, digits, - and _, the first a letter or a digit"
        )


def _name(version: "ModelVersion") -> str:
    return str(version.name).removeprefix(_PREFIX)


def _info(version: "ModelVersion") -> IdentityInfo:
    tags: dict[str, str] = version.tags
    return IdentityInfo(
        name=_name(version),
        version=int(version.version),
        created=datetime.fromtimestamp(version.creation_timestamp / 1000, UTC),
        run_id=str(version.run_id),
        photos=int(tags["drig.photos"]) if "drig.photos" in tags else None,
        size=int(tags["drig.size"]),
        sha256=tags["drig.sha256"],
        base=tags.get(_BASE_HASH),
        tags={name: value for name, value in tags.items() if not name.startswith("drig.")},
        place=str(version.source),
        file=tags["drig.file"],
    )


def _pages(search: Callable[[str | None], Any]) -> list[Any]:
    """All results of one of MLflow's paged searches."""
    page = search(None)
    results = list(page)
    while page.token:
        page = search(page.token)
        results += page
    return results


def _read(files: "ArtifactRepository", name: str, folder: str | None) -> Path:
    from mlflow.exceptions import MlflowException

    try:
        return Path(files.download_artifacts(name, dst_path=folder))  # type: ignore[no-untyped-call]
    except (OSError, MlflowException) as error:
        raise DrigError(f"the store has lost {name} of {files.artifact_uri} ({error}); register it again") from error


def _base_hash(name: str, weights: Path) -> str | None:
    """What ties deltas and their base together: a delta's header names its base, a base's tensors are hashed."""
    over = base_of(weights)
    if name != BASE:
        return over
    if over is not None:
        raise DrigError(f"{weights} is a delta and cannot be the base rig; give the weights of a whole rig")
    from drig.diffusion.deltas import content_hash  # brings PyTorch, which an ingress does without
    from drig.diffusion.weights import EXTRA, in_full, read_file

    _, tensors = read_file(weights)
    return content_hash({name: tensor for name, tensor in in_full(tensors).items() if not name.startswith(EXTRA)})
