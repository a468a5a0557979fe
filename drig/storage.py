"""Local paths and s3:// URIs the same way.

A place is a local path or `s3://bucket/key`. S3 goes through boto3, whose own settings apply: credentials from the
usual chain, `AWS_ENDPOINT_URL` for MinIO, moto and the like. Writes are atomic: readers see the old content or the new.
What S3 refuses for the moment, and what breaks on the way, is tried again, with growing pauses.
"""

import functools
import hashlib
import io
import itertools
import os
import random
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from drig.errors import DrigError, MissingFile

ATTEMPTS = 8
"""Of one request to S3, the pauses between them growing to 20 s; AWS_MAX_ATTEMPTS overrides it."""
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 20.0

_S3_CODES = {  # what S3 answers -> what the user can do about it
    "NoSuchBucket": "the bucket does not exist; create it or correct its name",
    "NoSuchKey": "there is no such object; check the key",
    "404": "there is no such object or bucket; check the name",
    "403": "access denied; check the credentials and the bucket policy",
    "AccessDenied": "access denied; check the credentials and the bucket policy",
    "InvalidAccessKeyId": "the access key is unknown there; check AWS_ACCESS_KEY_ID and AWS_ENDPOINT_URL",
    "SignatureDoesNotMatch": "the secret key is wrong; check AWS_SECRET_ACCESS_KEY",
}


def is_s3(place: str | Path) -> bool:
    return str(place).startswith("s3://")


def join(folder: str | Path, *names: str) -> str:
    """`folder/name/...` for either kind of folder."""
    return "/".join([str(folder).rstrip("/"), *names]) if is_s3(folder) else str(Path(folder, *names))


def read_bytes(place: str | Path) -> bytes:
    """The content of a file or object. Raises MissingFile where there is none, DrigError where it may not be read."""
    if is_s3(place):
        bucket, key = _split(place)
        with _s3_errors(place):
            return _read_object(bucket, key)
    with _os_errors(place, "read"):
        return Path(place).read_bytes()


def write_bytes(place: str | Path, content: bytes) -> None:
    """Write a file or object whole or not at all; missing parent folders are made. Raises DrigError."""
    if is_s3(place):
        bucket, key = _split(place)
        with _s3_errors(place):
            # Larger contents go in parts; where one fails, S3 is told to forget the others.
            _client().upload_fileobj(io.BytesIO(content), bucket, key)
        return
    path = Path(place)
    with _os_errors(place, "write"):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
        try:
            temporary.write_bytes(content)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def sha256(place: str | Path) -> str:
    """Of the content of a file or object, in hexadecimal digits. Raises MissingFile and DrigError as `read_bytes`."""
    if is_s3(place):
        return hashlib.sha256(read_bytes(place)).hexdigest()
    with _os_errors(place, "read"), Path(place).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def exists(place: str | Path) -> bool:
    """Whether a file, a folder, an object or anything under an S3 prefix is there."""
    if not is_s3(place):
        return Path(place).exists()
    bucket, key = _split(place)
    with _s3_errors(place):
        first = _client().list_objects_v2(Bucket=bucket, Prefix=key, MaxKeys=1).get("Contents", [])
        if first and first[0]["Key"] == key:  # a key sorts before everything that it begins
            return True
        folder = key.rstrip("/") + "/" if key else ""
        return bool(_client().list_objects_v2(Bucket=bucket, Prefix=folder, MaxKeys=1).get("Contents"))


def list_files(folder: str | Path, *, recursive: bool = True) -> list[str]:
    """Full paths or URIs of the files in a folder, sorted. Raises DrigError where there is no such folder.

    S3 has no folders: a prefix under which nothing lies is a missing folder.
    """
    if is_s3(folder):
        names = sorted(_s3_names(folder, recursive))
        if not names:
            raise DrigError(f"{folder}: nothing is stored under this prefix; check the bucket and the key.")
        return [join(folder, name) for name in names]
    path = Path(folder)
    if not path.is_dir():
        what = "is a file, not a folder" if path.exists() else "does not exist"
        raise DrigError(f"{folder} {what}; give the path of a folder.")
    with _os_errors(folder, "list"):
        return sorted(str(file) for file in (path.rglob("*") if recursive else path.iterdir()) if file.is_file())


def file_sizes(folder: str | Path) -> dict[str, int]:
    """Bytes of every file in a folder and below, by full path or URI, sorted; from one listing where that is S3.

    Of a place that is a file or an object, its own. Raises DrigError where there is nothing.
    """
    if not is_s3(folder):
        files = [str(folder)] if Path(folder).is_file() else list_files(folder)
        with _os_errors(folder, "list"):
            return {file: Path(file).stat().st_size for file in files}
    bucket, key = _split(folder)
    prefix = key.rstrip("/") + "/" if key else ""
    with _s3_errors(folder):
        pages = _client().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        found = [(entry["Key"], entry["Size"]) for page in pages for entry in page.get("Contents", [])]
        if not found:
            found = [(key, _client().head_object(Bucket=bucket, Key=key)["ContentLength"])]
    return {f"s3://{bucket}/{name}": size for name, size in sorted(found) if not name.endswith("/")}


def remove(place: str | Path) -> int:
    """Delete a file, an object, or all of a folder or S3 prefix; gives how many files went. Raises DrigError."""
    files = list(file_sizes(place)) if exists(place) else []
    if not is_s3(place):
        with _os_errors(place, "delete"):
            shutil.rmtree(place) if Path(place).is_dir() else Path(place).unlink(missing_ok=True)
        return len(files)
    with _s3_errors(place):
        for start in range(0, len(files), 1000):  # the most that S3 deletes at once
            bucket, _ = _split(place)
            keys = [{"Key": _split(file)[1]} for file in files[start : start + 1000]]
            answer = _client().delete_objects(Bucket=bucket, Delete={"Objects": keys, "Quiet": True})
            if failed := answer.get("Errors"):
                raise DrigError(f"{len(failed)} files of {place} could not be deleted: {failed[0].get('Message')}")
    return len(files)


def upload_folder(folder: Path, place: str | Path) -> None:
    """Copy a local folder to an S3 prefix or another folder.

    JSON files at the top of the folder go last: manifests lie there, and must not be seen before what they list.
    """
    names = [str(Path(file).relative_to(folder)) for file in list_files(folder)]
    for name in sorted(names, key=lambda name: (len(Path(name).parts) == 1, name.endswith(".json"), name)):
        upload_file(folder / name, join(place, *Path(name).parts))


def upload_file(file: Path, place: str | Path) -> None:
    """Copy a local file to an object or another file, which appears complete. Raises DrigError."""
    if is_s3(place):
        bucket, key = _split(place)
        with _s3_errors(place), _os_errors(file, "read"):
            _client().upload_file(str(file), bucket, key)
    else:
        _copy(file, Path(place))


def download_file(place: str | Path, file: Path) -> None:
    """Copy an object or a file to a local file; missing folders are made. Raises DrigError."""
    if is_s3(place):
        bucket, key = _split(place)
        with _s3_errors(place), _os_errors(file, "write"):
            file.parent.mkdir(parents=True, exist_ok=True)
            _client().download_file(bucket, key, str(file))
    else:
        _copy(Path(place), file)


def download_folder(place: str | Path, folder: Path) -> None:
    """Copy what lies under an S3 prefix or in another folder into a new local folder, which appears complete.

    Raises DrigError if `folder` already holds something.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DrigError(f"{folder} already exists; name a new folder to download {place} into.")
    files = list_files(place)
    temporary = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.tmp")
    try:
        for file in files:
            target = temporary / (file[len(join(place)) + 1 :] if is_s3(place) else Path(file).relative_to(place))
            download_file(file, target)
        with _os_errors(folder, "write"):
            temporary.replace(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _copy(source: Path, target: Path) -> None:
    with _os_errors(target, "write"):
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
        try:
            shutil.copyfile(source, temporary)
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)


def _split(place: str | Path) -> tuple[str, str]:
    bucket, _, key = str(place).removeprefix("s3://").partition("/")
    if not bucket:
        raise DrigError(f"{place} names no bucket; write s3://bucket/key.")
    return bucket, key


def _s3_names(folder: str | Path, recursive: bool) -> Iterator[str]:
    """Keys under a prefix, relative to it."""
    bucket, key = _split(folder)
    prefix = key.rstrip("/") + "/" if key else ""
    with _s3_errors(folder):
        for page in _client().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            for entry in page.get("Contents", []):
                name = entry["Key"][len(prefix) :]
                if name and not name.endswith("/") and (recursive or "/" not in name):
                    yield name


def _read_object(bucket: str, key: str) -> bytes:
    """All of an object. boto3 repeats a request that fails, but not one whose answer breaks off."""
    from botocore.exceptions import (
        FlexibleChecksumError,
        IncompleteReadError,
        ReadTimeoutError,
        ResponseStreamingError,
    )

    for attempt in itertools.count(1):
        answer = _client().get_object(Bucket=bucket, Key=key)["Body"]
        try:
            content: bytes = answer.read()
            return content
        except (IncompleteReadError, ReadTimeoutError, ResponseStreamingError, FlexibleChecksumError):
            if attempt == ATTEMPTS:
                raise
        time.sleep(random.random() * min(_FIRST_PAUSE_S * 2**attempt, _LONGEST_PAUSE_S))
    raise AssertionError("the loop only ends inside")


def _client() -> Any:
    """One boto3 client a process (a forked one must not share sockets) and endpoint."""
    return _new_client(os.getpid(), os.environ.get("AWS_ENDPOINT_URL"))


@functools.lru_cache(maxsize=4)
def _new_client(process: int, endpoint: str | None) -> Any:
    import boto3  # takes 0.3 s to import, and local paths never need it
    from botocore.config import Config

    retries = {
        "mode": os.environ.get("AWS_RETRY_MODE", "standard"),
        "total_max_attempts": int(os.environ.get("AWS_MAX_ATTEMPTS", ATTEMPTS)),
    }
    return boto3.session.Session().client("s3", config=Config(retries=retries))


@contextmanager
def _s3_errors(place: str | Path) -> Iterator[None]:
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

    try:
        yield
    except NoCredentialsError as error:
        raise DrigError(
            f"{place}: no AWS credentials were found; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile."
        ) from error
    except (ClientError, BotoCoreError, Boto3Error) as error:
        cause = error if isinstance(error, ClientError) else error.__context__  # of a failed transfer
        if isinstance(cause, ClientError):
            code = cause.response.get("Error", {}).get("Code", "")
            kind = MissingFile if code == "NoSuchKey" else DrigError
            raise kind(f"{place}: {_S3_CODES.get(code, cause)}") from error
        raise DrigError(f"{place}: {error}") from error  # an endpoint that does not answer


@contextmanager
def _os_errors(place: str | Path, verb: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise MissingFile(f"{place} does not exist; check the path.") from error
    except OSError as error:
        raise DrigError(f"cannot {verb} {place}: {error.strerror or error}.") from error
