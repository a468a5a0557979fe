"""The mark that a picture is an edit: a signed C2PA manifest inside the file, read by viewers that know Content
Credentials.

It says which program made the picture, that a trained model composed it, and what was asked for; nothing about whose
photo it was. It names its signer and breaks when the file is changed. Whoever strips metadata removes it: a mark for
the honest, not a lock.
"""

import io
import json
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from drig import __version__, storage
from drig.errors import DrigError

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
CHAIN, KEY = "chain.pem", "key.pem"
_YEARS = 10
_NO_THUMBNAIL = {"builder": {"thumbnail": {"enabled": False}}}  # it would be larger than the picture


@dataclass(frozen=True)
class Mark:
    """What a file says of how it was made."""

    intact: bool
    """Nothing was changed since it was signed, by whomever."""
    signer: str
    """The name in the certificate, which nobody has checked unless it is in a list of trusted ones."""
    made_by: str
    source_type: str
    """IPTC's digital source type."""
    edit: Mapping[str, Any]
    """What was asked for."""


class Marker:
    """Signs pictures and videos.

    Args:
        folder: of `chain.pem`, the signer's certificate and those above it, and `key.pem`, its ES256 key. A folder
            without them gets a certificate of this machine's own, which nobody else trusts. None = the user's.

    Raises DrigError where they cannot be used.
    """

    def __init__(self, folder: Path | None = None) -> None:
        import c2pa  # here, because it loads 30 MB that most programs do without

        folder = folder or own_folder()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with FileLock(folder / ".lock"):  # several replicas start at once
            if not (folder / CHAIN).exists() and not (folder / KEY).exists():
                _make_own(folder)
        try:
            chain, key = (folder / CHAIN).read_text(), (folder / KEY).read_text()
            info = c2pa.C2paSignerInfo(c2pa.C2paSigningAlg.ES256, chain.encode(), key.encode(), None)
            self._signer = c2pa.Signer.from_info(info)
        except (OSError, c2pa.C2paError) as error:
            raise DrigError(
                f"{folder} does not hold a certificate chain ({CHAIN}) and an ES256 key ({KEY}) to sign with: {error}"
            ) from error
        self._settings = c2pa.Context.from_dict(_NO_THUMBNAIL)

    def mark(self, content: bytes, media_type: str, edit: Mapping[str, Any]) -> bytes:
        """The same PNG (image/png) or MP4 (video/mp4) with a manifest: 3 kB more, the pixels untouched.

        edit: what was asked for, JSON; it can be read by everybody.
        """
        import c2pa

        made = {
            "action": "c2pa.created",
            "digitalSourceType": SOURCE_TYPE,
            "softwareAgent": {"name": "drig", "version": __version__},
            "description": "a portrait that was edited: it shows what was not photographed",
            "parameters": {"drig.edit": dict(edit)},
        }
        manifest = {
            "claim_generator_info": [{"name": "drig", "version": __version__}],
            "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": [made]}}],
        }
        signed = io.BytesIO()
        with c2pa.Builder(manifest, self._settings) as builder:
            builder.sign(self._signer, media_type, io.BytesIO(content), signed)
        return signed.getvalue()


def read_mark(content: bytes, media_type: str) -> Mark | None:
    """What a file says of how it was made; None for one without a manifest."""
    import c2pa

    try:
        with c2pa.Reader(media_type, io.BytesIO(content)) as reader:
            told = json.loads(reader.json())
    except c2pa.C2paError.ManifestNotFound:
        return None
    manifest = told["manifests"][told["active_manifest"]]
    actions = [
        action
        for assertion in manifest["assertions"]
        if assertion["label"].startswith("c2pa.actions")
        for action in assertion["data"]["actions"]
    ]
    first = actions[0] if actions else {}
    return Mark(
        intact=told["validation_state"] in ("Valid", "Trusted"),
        signer=manifest.get("signature_info", {}).get("common_name", ""),
        made_by=manifest["claim_generator_info"][0]["name"],
        source_type=first.get("digitalSourceType", ""),
        edit=first.get("parameters", {}).get("drig.edit", {}),
    )


def write_edit(place: Path, content: bytes, media_type: str, changed: Collection[str], *, mark: bool) -> None:
    """Write an edited picture or video, marked with what was changed unless that is not wanted."""
    storage.write_bytes(place, Marker().mark(content, media_type, {"changed": sorted(changed)}) if mark else content)


def own_folder() -> Path:
    """Of the certificate that this machine has made for itself."""
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "drig" / "credentials"


def _make_own(folder: Path) -> None:
    """An authority whose key is forgotten at once, and a certificate of it: C2PA takes none that signed itself."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    above, own = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority = _certificate("drig on this machine: authority", above, above, None)
    certificate = _certificate("drig on this machine", own, above, authority)
    key = own.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    storage.write_bytes(folder / KEY, key)
    (folder / KEY).chmod(0o600)
    chain = [one.public_bytes(serialization.Encoding.PEM) for one in (certificate, authority)]
    storage.write_bytes(folder / CHAIN, b"".join(chain))


def _certificate(
    name: str, key: "EllipticCurvePrivateKey", signs: "EllipticCurvePrivateKey", above: "x509.Certificate | None"
) -> "x509.Certificate":
    """Of an authority where nothing is above it, else one that may sign content (C2PA 14.5)."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, name), x509.NameAttribute(NameOID.ORGANIZATION_NAME, "drig")]
    subject, now, authority = x509.Name(attributes), datetime.now(UTC), above is None
    usage = dict.fromkeys(
        (
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "encipher_only",
            "decipher_only",
        ),
        False,
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(above.subject if above else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))  # clocks differ
        .not_valid_after(now + timedelta(days=365 * _YEARS))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(
            x509.KeyUsage(digital_signature=True, key_cert_sign=authority, crl_sign=authority, **usage), critical=True
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signs.public_key()), critical=False)
    )
    if not authority:
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False)
    return builder.sign(signs, hashes.SHA256())
