from collections.abc import Iterator
from pathlib import Path

import pytest

from drig import storage
from drig.errors import DrigError


@pytest.fixture(scope="module")
def s3_endpoint() -> Iterator[str]:
    """An S3 server of our own on a free loopback port."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URI of a new, empty bucket; the environment points boto3 at the test server."""
    import boto3

    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "tester")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    storage._new_client.cache_clear()
    client = boto3.client("s3")
    names = {entry["Name"] for entry in client.list_buckets()["Buckets"]}
    name = f"albums-{len(names)}"
    client.create_bucket(Bucket=name)
    return f"s3://{name}"


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
