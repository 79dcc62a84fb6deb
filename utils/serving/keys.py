"""Keys of those who may ask: several, each with a name, stored as hashes, revocable while the service runs."""

import hashlib
import hmac
import json
import os
import re
import secrets
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from itertools import chain, count
from pathlib import Path

import click

from utils.errors import InputError
from utils.serving.record import CURRENT, OPEN_PATHS, App, Receive, Scope, Send, header, say_no

NAME = re.compile(r"[A-Za-z0-9][\w.@-]{0,63}")
SCHEME = {"www-authenticate": "Bearer"}


@dataclass(frozen=True)
class Key:
    """sha256: of the key, in hex. A key has 256 random bits, so that a fast hash cannot be searched backwards."""

    name: str
    sha256: str
    created: str
    revoked: bool = False


class KeyRing:
    """The keys in a file, read again whenever the file has changed."""

    def __init__(self, path: Path) -> None:
        """
        Raises:
            InputError: the file is there and holds no keys that can be read.
        """
        self.path = path
        self._seen: tuple[int, int] | None = None
        self._keys: tuple[Key, ...] = ()
        self.refresh()

    def refresh(self) -> None:
        """Read the file if it has changed.

        Raises:
            InputError: it cannot be read; the keys stay those of the last time.
        """
        try:
            found = self.path.stat()
        except FileNotFoundError:
            self._seen, self._keys = None, ()
            return
        seen = (found.st_mtime_ns, found.st_size)
        if seen == self._seen:
            return
        try:
            self._keys = tuple(Key(**row) for row in json.loads(self.path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise InputError(f"{self.path} holds no keys that can be read ({error})", "--keys FILE") from error
        self._seen = seen

    @property
    def keys(self) -> tuple[Key, ...]:
        return self._keys

    def add(self, name: str) -> str:
        """A new key, which is given out once and never stored.

        Raises:
            InputError: the name is no name, or taken.
        """
        if not NAME.fullmatch(name):
            raise InputError(f"{name!r} is no name for a key", "letters, digits, and . _ @ - between them")
        self.refresh()
        if any(key.name == name for key in self._keys):
            raise InputError(f"there is a key {name} already", f"--revoke-key {name}, or another name")
        key = secrets.token_urlsafe(32)
        created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self._write((*self._keys, Key(name, fingerprint(key), created)))
        return key

    def free_name(self, name: str) -> str:
        """This name, or the first of name-2, name-3, … that no key has had: a revoked one keeps its name."""
        self.refresh()
        taken = {key.name for key in self._keys}
        return next(each for each in chain([name], (f"{name}-{n}" for n in count(2))) if each not in taken)

    def revoke(self, name: str) -> None:
        """The key stays in the file, so that its owner is told 403 and not 401.

        Raises:
            InputError: there is no such key.
        """
        self.refresh()
        if all(key.name != name for key in self._keys):
            have = ", ".join(key.name for key in self._keys) or "none"
            raise InputError(f"there is no key {name} (there is: {have})", "--revoke-key NAME")
        self._write(tuple(replace(key, revoked=True) if key.name == name else key for key in self._keys))

    def find(self, presented: str) -> Key | None:
        """The key with this text. Every key is compared, in constant time: how long it takes says nothing."""
        wanted, found = fingerprint(presented), None
        for key in self._keys:
            if hmac.compare_digest(key.sha256, wanted):
                found = key
        return found

    def _write(self, keys: tuple[Key, ...]) -> None:
        """All or nothing, and readable by its owner only."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=self.path.parent, prefix=".keys-")  # mkstemp makes it 0600
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump([asdict(key) for key in keys], file, indent=1)
        Path(name).replace(self.path)
        self.refresh()


def fingerprint(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


class KeyGuard:
    """401 without a key that is known, 403 with one that was revoked; the key's name goes into the record."""

    def __init__(self, app: App, ring: KeyRing) -> None:
        self.app, self.ring, self.told = app, ring, False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in OPEN_PATHS:
            await self.app(scope, receive, send)
            return
        scheme, _, presented = header(scope, "authorization").partition(" ")
        try:
            self.ring.refresh()
        except InputError as error:  # the keys of before go on; whoever spoilt the file reads it here
            if not self.told:
                click.echo(
                    f"error: {error.problem}\ntry:   mend the file; until then the keys of before count", err=True
                )
            self.told = True
        else:
            self.told = False
        key = self.ring.find(presented.strip()) if scheme.lower() == "bearer" else None
        if key is None:
            await say_no(send, 401, "a key is needed: Authorization: Bearer KEY", SCHEME)
        elif key.revoked:
            await say_no(send, 403, f"the key {key.name} was revoked")
        else:
            CURRENT.get().key = key.name
            await self.app(scope, receive, send)
