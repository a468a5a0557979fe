from pathlib import Path

import pytest

from drig import storage
from drig.errors import DrigError
from tests.s3 import FaultyS3, Kind


@pytest.fixture(params=["local", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "root") if request.param == "local" else str(request.getfixturevalue("bucket"))


def test_what_is_written_is_read_back_from_either_kind_of_place(root: str) -> None:
    place = storage.join(root, "people", "ada.json")
    assert not storage.exists(place)
    storage.write_bytes(place, b"first")
    storage.write_bytes(place, b"second")
    assert storage.read_bytes(place) == b"second"
    assert storage.exists(place)
    assert storage.exists(storage.join(root, "people"))
    assert not storage.exists(storage.join(root, "peop"))


def test_listing_is_sorted_full_and_recursive_on_request(root: str) -> None:
    for name in ("b.png", "a.png", "deep/c.png"):
        storage.write_bytes(storage.join(root, name), b"x")
    everything = [storage.join(root, name) for name in ("a.png", "b.png", "deep/c.png")]
    assert storage.list_files(root) == everything
    assert storage.list_files(root, recursive=False) == everything[:2]


def test_sizes_are_those_of_all_files_below_or_of_the_one(root: str) -> None:
    files = {storage.join(root, *name.split("/")): len(name) for name in ("ann/0.png", "ann/deep/1.png", "anna.mp4")}
    for file, size in files.items():
        storage.write_bytes(file, b"x" * size)
    assert storage.file_sizes(root) == files
    video = storage.join(root, "anna.mp4")
    assert storage.file_sizes(video) == {video: files[video]}
    assert len(storage.file_sizes(storage.join(root, "ann"))) == 2
    with pytest.raises(DrigError, match="absent"):
        storage.file_sizes(storage.join(root, "absent"))


def test_a_folder_survives_upload_and_download(root: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "shards").mkdir(parents=True)
    (source / "manifest.json").write_text("{}")
    (source / "shards" / "0.lmdb").write_bytes(bytes(range(256)))
    storage.upload_folder(source, storage.join(root, "store"))
    storage.download_folder(storage.join(root, "store"), tmp_path / "copy")
    assert (tmp_path / "copy" / "shards" / "0.lmdb").read_bytes() == bytes(range(256))
    assert (tmp_path / "copy" / "manifest.json").read_text() == "{}"
    with pytest.raises(DrigError, match="already exists"):
        storage.download_folder(storage.join(root, "store"), tmp_path / "copy")


def test_a_folder_is_copied_however_its_path_is_spelt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage.write_bytes(tmp_path / "store" / "shards" / "0.lmdb", b"x")
    monkeypatch.chdir(tmp_path)
    storage.download_folder("./store/", tmp_path / "copy")
    assert (tmp_path / "copy" / "shards" / "0.lmdb").read_bytes() == b"x"


def test_manifests_are_uploaded_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a_manifest.json", "shards/0.lmdb"):
        storage.write_bytes(tmp_path / "source" / name, b"x")
    order: list[str] = []
    monkeypatch.setattr(storage, "_copy", lambda source, target: order.append(target.name))
    storage.upload_folder(tmp_path / "source", tmp_path / "target")
    assert order == ["0.lmdb", "a_manifest.json"]


def test_missing_things_are_named(root: str, tmp_path: Path) -> None:
    storage.write_bytes(storage.join(root, "there"), b"x")
    with pytest.raises(DrigError, match="absent"):
        storage.read_bytes(storage.join(root, "absent"))
    with pytest.raises(DrigError, match="absent"):
        storage.list_files(storage.join(root, "absent"))
    with pytest.raises(DrigError, match="absent"):
        storage.download_folder(storage.join(root, "absent"), tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
    assert not list(tmp_path.glob(".*"))


@pytest.mark.usefixtures("bucket")
def test_a_missing_bucket_is_named() -> None:
    for call in (storage.read_bytes, storage.list_files, storage.exists):
        with pytest.raises(DrigError, match="s3://no-such-bucket/key: the bucket does not exist"):
            call("s3://no-such-bucket/key")
    with pytest.raises(DrigError, match="bucket"):
        storage.write_bytes("s3://no-such-bucket/key", b"x")
    with pytest.raises(DrigError, match="names no bucket"):
        storage.read_bytes("s3://")


def test_missing_credentials_are_named(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    storage._new_client.cache_clear()
    with pytest.raises(DrigError, match="credentials"):
        storage.read_bytes(bucket + "/key")
    storage._new_client.cache_clear()


def test_a_write_that_fails_leaves_the_old_content_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "weights"
    storage.write_bytes(place, b"old")

    def full_disk(path: Path, content: bytes) -> int:
        with path.open("wb") as file:
            file.write(content[:1])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(DrigError, match="No space left"):
        storage.write_bytes(place, b"new")
    assert place.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["weights"]


def test_a_place_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DrigError, match="cannot write"):
        storage.write_bytes(tmp_path / "file" / "out.png", b"x")


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that were asked for, instead of made."""
    pauses: list[float] = []
    monkeypatch.setattr("time.sleep", pauses.append)
    return pauses


LARGE = bytes(range(256)) * 36 * 1024
"""9 MiB: two parts of an upload."""


@pytest.mark.parametrize("kind", ["throttle", "reset"])
def test_a_request_that_s3_refuses_or_breaks_is_repeated_after_growing_pauses(
    s3: FaultyS3, bucket: str, no_pauses: list[float], kind: Kind
) -> None:
    place = f"{bucket}/ada.json"
    for method in ("PUT", "GET"):
        s3.fail(kind, method, "ada.json", times=3)
    storage.write_bytes(place, b"ada")
    assert storage.read_bytes(place) == b"ada"
    assert [fault for _, path, fault in s3.requests if path.endswith("ada.json")] == [*[kind] * 3, "", *[kind] * 3, ""]
    assert len(no_pauses) == 6
    s3.fail(kind, "GET", "list-type", times=2)
    assert storage.list_files(bucket) == [place]


def test_an_answer_that_breaks_off_is_asked_for_again(s3: FaultyS3, bucket: str, no_pauses: list[float]) -> None:
    storage.write_bytes(f"{bucket}/photo.png", LARGE)
    s3.fail("cut answer", "GET", "photo.png", times=2)
    assert storage.read_bytes(f"{bucket}/photo.png") == LARGE
    assert len(no_pauses) == 2
    s3.fail("cut answer", "GET", "photo.png", times=100)
    with pytest.raises(DrigError, match=r"photo\.png: .*reading from response stream"):
        storage.read_bytes(f"{bucket}/photo.png")


def test_a_download_that_breaks_off_is_whole_or_not_there(
    s3: FaultyS3, bucket: str, tmp_path: Path, no_pauses: list[float]
) -> None:
    storage.write_bytes(f"{bucket}/store/0.lmdb", LARGE)
    s3.fail("cut answer", "GET", "0.lmdb", times=2)
    storage.download_folder(f"{bucket}/store", tmp_path / "copy")
    assert (tmp_path / "copy" / "0.lmdb").read_bytes() == LARGE
    s3.fail("cut answer", "GET", "0.lmdb", times=1000)
    with pytest.raises(DrigError, match=r"0\.lmdb"):
        storage.download_folder(f"{bucket}/store", tmp_path / "other")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy"]


def test_a_write_whose_answer_was_lost_is_written_once_more_and_whole(
    s3: FaultyS3, bucket: str, no_pauses: list[float]
) -> None:
    s3.fail("lost answer", "PUT", "partNumber=2")
    s3.fail("lost answer", "PUT", "partNumber=1")
    storage.write_bytes(f"{bucket}/weights", LARGE)
    assert storage.read_bytes(f"{bucket}/weights") == LARGE
    assert len(no_pauses) == 2


@pytest.mark.parametrize("how", ["bytes", "folder"])
def test_a_large_write_that_fails_shows_the_old_content_and_leaves_no_parts(
    s3: FaultyS3, bucket: str, tmp_path: Path, how: str
) -> None:
    import boto3

    place = f"{bucket}/run/weights"
    storage.write_bytes(place, b"old")
    s3.fail("denied", "PUT", "partNumber=2", times=100)
    storage.write_bytes(tmp_path / "run" / "weights", LARGE)
    write = {
        "bytes": lambda: storage.write_bytes(place, LARGE),
        "folder": lambda: storage.upload_folder(tmp_path / "run", f"{bucket}/run"),
    }
    with pytest.raises(DrigError, match=r"run/weights: .*(AccessDenied|access denied)"):
        write[how]()
    assert storage.read_bytes(place) == b"old"
    assert "Uploads" not in boto3.client("s3").list_multipart_uploads(Bucket=bucket.removeprefix("s3://"))


def test_a_folder_whose_upload_fails_shows_no_manifest(s3: FaultyS3, bucket: str, tmp_path: Path) -> None:
    for name in ("manifest.json", "shards/0.lmdb", "shards/1.lmdb"):
        storage.write_bytes(tmp_path / name, b"x")
    s3.fail("denied", "PUT", "1.lmdb")
    with pytest.raises(DrigError, match=r"1\.lmdb"):
        storage.upload_folder(tmp_path, f"{bucket}/store")
    assert storage.list_files(f"{bucket}/store") == [f"{bucket}/store/shards/0.lmdb"]
    storage.upload_folder(tmp_path, f"{bucket}/store")
    assert len(storage.list_files(f"{bucket}/store")) == 3


def test_the_users_own_number_of_attempts_counts(s3: FaultyS3, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    s3.fail("throttle", "GET", "key")
    with pytest.raises(DrigError, match="SlowDown"):
        storage.read_bytes(f"{bucket}/key")
