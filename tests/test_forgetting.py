"""Forgetting a person, and finding what somebody kept all the same."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from mlflow.exceptions import MlflowException

from drig import storage
from drig.errors import DrigError
from drig.forgetting import forget
from drig.identities import FOLDER_TAG, Identities, UnknownIdentity
from drig.tracking import Run, Tracker, artifact_folder, connect
from tests.test_identities import rig_file


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('store')}/mlflow.db"


def trained(uri: str, name: str, folder: str, scratch: Path, parent: Run | None = None) -> tuple[Identities, Run]:
    """A person as `drig personalize` leaves them: a run with pictures, a folder, a version in the registry."""
    identities = Identities(uri, cache=scratch / "cache")
    weights = rig_file(scratch, float(sum(name.encode())))
    with Tracker(uri, "stage2").run(name, key=folder, tags={"identity": name}, parent=parent) as run:
        run.log_config({"samples": 5})
        run.log_image("sheet", np.full((8, 8, 3), sum(name.encode()) % 251, np.uint8))
        storage.upload_file(weights, storage.join(folder, "weights.safetensors"))
        storage.write_bytes(storage.join(folder, "result.json"), f'{{"name": "{name}"}}'.encode())
        identities.register(
            name, weights, album_report={"photos": 12, "who": name}, run_id=run.id, tags={FOLDER_TAG: folder}
        )
    return identities, run


def test_nothing_of_a_person_remains(uri: str, tmp_path: Path) -> None:
    people = tmp_path / "people"
    with Tracker(uri, "stage2").run("people") as other, Tracker(uri, "stage2").run("job of one") as parent:
        parent.log_config({"albums": ("adalovelace=photos",)})
    trained(uri, "bob", str(people / "bob"), tmp_path, other)
    identities, run = trained(uri, "adalovelace", str(people / "adalovelace"), tmp_path, parent)
    forgotten = forget(identities, "adalovelace")
    assert forgotten.remains == ()
    assert f"2 files in {people / 'adalovelace'}" in forgotten.removed
    assert not (people / "adalovelace").exists()
    with pytest.raises(UnknownIdentity):
        identities.get("adalovelace")
    client = connect(uri)
    for gone in (run, parent):
        with pytest.raises(MlflowException, match="not found"):
            client.get_run(gone.id)
    assert b"adalovelace" not in Path(uri.removeprefix("sqlite:///")).read_bytes()
    assert client.get_run(other.id).info.run_name == "people"
    assert identities.get("bob").photos == 12
    assert identities.fetch("bob").exists()
    assert len(storage.list_files(people / "bob")) == 2


def test_a_copy_that_somebody_kept_is_found(uri: str, tmp_path: Path) -> None:
    folder = tmp_path / "people" / "cleo"
    identities, run = trained(uri, "cleo", str(folder), tmp_path)
    weights, picture = tmp_path / "people" / "backup.bin", artifact_folder(uri)
    assert picture is not None
    shutil.copy(folder / "weights.safetensors", weights)
    shutil.copy(next((picture / run.id).rglob("sheet.png")), picture / "kept.png")
    remains = forget(identities, "cleo").remains
    assert set(remains) == {str(weights), str(picture / "kept.png")}


def test_on_s3(uri: str, bucket: str, tmp_path: Path) -> None:
    identities, _ = trained(uri, "dora", f"{bucket}/people/dora", tmp_path)
    storage.write_bytes(f"{bucket}/people/dorathea/result.json", b"another one")
    assert forget(identities, "dora").remains == ()
    assert storage.list_files(f"{bucket}/people") == [f"{bucket}/people/dorathea/result.json"]


def test_a_folder_that_is_not_theirs_stays(uri: str, tmp_path: Path) -> None:
    valuables = tmp_path / "valuables"
    identities, _ = trained(uri, "eve", str(valuables), tmp_path)
    assert forget(identities, "eve").remains  # it says so, and leaves it
    assert len(storage.list_files(valuables)) == 2


def test_nobody(uri: str, tmp_path: Path) -> None:
    with pytest.raises(UnknownIdentity):
        forget(Identities(uri), "nobody")
    with pytest.raises(DrigError, match="cannot name"):
        forget(Identities(uri), "../x")
