"""`drig keys`."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from deployments.access.keys import Scope, add_key, read_keys, revoke_key
from drig import config as configs
from drig.errors import DrigError


@dataclass(frozen=True, kw_only=True)
class KeysConfig:
    """List the API keys of `drig serve --keys FILE`, make one, or revoke one."""

    keys: str = "runs/keys.json"
    """The file of keys, a path or s3:// URI. It holds hashes: the keys themselves are shown once and kept nowhere."""
    add: str | None = None
    """Make a key and print it; whose it is, such as 'web shop'."""
    scopes: tuple[Literal["edit", "personalise", "delete", "admin"], ...] = ("edit",)
    """What the new key may do, any of: edit, personalise, delete, admin (all of these, with every identity)."""
    identities: tuple[str, ...] = ()
    """Which identities the new key is for; empty = all."""
    per_minute: int = 120
    """Requests that the new key may make in a minute."""
    revoke: str | None = None
    """Id of a key that is refused from now on."""

    def __post_init__(self) -> None:
        if self.add is not None and self.revoke is not None:
            raise DrigError("--add or --revoke: give one of the two")


def keys(config: KeysConfig) -> None:
    """Print a table of keys, or change it."""
    if config.add is not None:
        allowed = config.identities or None
        scopes = [Scope(scope) for scope in config.scopes]
        key, text = add_key(config.keys, config.add, scopes, identities=allowed, per_minute=config.per_minute)
        print(f"key {key.id} of {key.name}, in {config.keys}; this is the only time it is shown:")
        print(text)
        return
    if config.revoke is not None:
        gone = revoke_key(config.keys, config.revoke)
        print(f"revoked {gone.id} of {gone.name}; running servers refuse it within seconds")
        return
    known = read_keys(config.keys)
    row = "{:<10} {:<20} {:<30} {:>7}  {:<25}  {}"
    print(row.format("key", "of", "may", "/minute", "made", "identities"))
    for key in known:
        whom = "all" if key.identities is None else ", ".join(sorted(key.identities))
        print(row.format(key.id, key.name, ", ".join(sorted(key.scopes)), key.per_minute, key.created, whom))


def main(argv: Sequence[str] | None = None, *, prog: str = "keys") -> int:
    """The command line; returns the exit code."""
    return configs.run(KeysConfig, keys, argv, prog=prog, description=KeysConfig.__doc__ or "")


if __name__ == "__main__":
    sys.exit(main())
