"""Faults on demand, decided by a hash, so that a run with faults can be repeated and a retry can succeed."""

import hashlib
from collections import OrderedDict
from dataclasses import dataclass, field
from threading import Lock

KINDS = ("429", "timeout", "500", "garbage")
_MAX_REMEMBERED = 200_000  # requests whose attempts are counted; 20 MB at most


def parse_faults(text: str) -> dict[str, float]:
    """Read `429:0.2,timeout:0.05,500:0.05,garbage:0.1` as shares of requests (0 to 1).

    `500@mock-small:1` is about the requests to one model only.

    Raises:
        ValueError: an unknown kind, a share that is no number from 0 to 1, or shares that add up to more than
        1.
    """
    shares: dict[str, float] = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        kind, colon, value = item.partition(":")
        kind = kind.strip()
        if kind.partition("@")[0] not in KINDS or kind.endswith("@") or not colon:
            raise ValueError(f"Unknown fault {item!r}: write KIND:SHARE with KIND one of {', '.join(KINDS)}.")
        if kind in shares:
            raise ValueError(f"The fault {kind!r} is given twice.")
        shares[kind] = _share(kind, value.strip())
    if sum(shares.values()) > 1 + 1e-9:
        raise ValueError(
            f"The fault shares add up to {sum(shares.values()):g}; they are shares of all requests, at " f"most 1."
        )
    return shares


def _share(kind: str, value: str) -> float:
    try:
        share = float(value)
    except ValueError:
        raise ValueError(f"The share of fault {kind!r} is {value!r}, which is no number.") from None
    if not 0 <= share <= 1:
        raise ValueError(f"The share of fault {kind!r} is {value}; it must lie between 0 and 1.")
    return share


def unit_hash(*parts: object) -> float:
    """A number from 0 to 1 that depends on the parts alone: the same on every machine and in every
    process."""
    digest = hashlib.blake2b("\x1f".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


@dataclass
class FaultPlan:
    """Which request fails, and how. `shares` as from `parse_faults`."""

    shares: dict[str, float]
    seed: int = 0
    _attempts: OrderedDict[bytes, int] = field(default_factory=OrderedDict)
    _lock: Lock = field(default_factory=Lock)

    def decide(self, body: bytes, model: str = "") -> str | None:
        """The fault for this request to a model, or None. The n-th sending of the same body is its n-th attempt."""
        if not self.shares:
            return None
        key = hashlib.blake2b(body, digest_size=16).digest()
        draw = unit_hash(self.seed, key.hex(), self._count(key))
        for fault, share in self.shares.items():
            kind, _, only = fault.partition("@")
            if only and only != model:
                continue
            draw -= share
            if draw < 0:
                return kind
        return None

    def _count(self, key: bytes) -> int:
        with self._lock:
            attempt = self._attempts.pop(key, 0) + 1
            self._attempts[key] = attempt
            if len(self._attempts) > _MAX_REMEMBERED:
                self._attempts.popitem(last=False)
            return attempt
