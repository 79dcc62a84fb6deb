"""The first bytes of a GGUF file: whether it is one, whether it is whole, and how much memory it will take.

Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from utils.model_servers import BackendUnavailable

MAGIC = b"GGUF"
VERSIONS = (2, 3)
STRING, ARRAY = 8, 9
# type → how struct reads it (little-endian)
NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
CACHE_BYTES = 2  # of a number in the context, which is kept as float16
LONGEST_TEXT = 1 << 20  # bytes; what the header says of the model is short


@dataclass(frozen=True)
class ModelFile:
    """A GGUF file.

    bytes: its size. basename: of the model, such as Qwen2.5-Coder; empty where it is not named. context_tokens: that
    it was trained for; 0 where it does not say. bytes_per_token: memory that each token of context takes; 0 likewise.
    """

    path: Path
    bytes: int
    architecture: str
    basename: str
    context_tokens: int
    bytes_per_token: int


def read_header(path: Path) -> ModelFile:
    """Read what stands before the vocabulary.

    Raises:
        BackendUnavailable: the file cannot be read, is no GGUF, or ends too early.
    """
    try:
        with path.open("rb") as file:
            facts = _read_facts(file, path)
            return _model_file(path, path.stat().st_size, facts)
    except OSError as error:
        raise BackendUnavailable(f"{path} cannot be read ({error.strerror})", "check the file's rights") from error
    except (struct.error, UnicodeDecodeError, OverflowError) as error:
        raise BackendUnavailable(f"{path} begins like a GGUF file and ends too early", "fetch it again") from error


def _read_facts(file: BinaryIO, path: Path) -> dict[str, Any]:
    """The key-value pairs up to the first array: the vocabulary, which comes after everything that is read here."""
    start = file.read(8)
    if start[:4] != MAGIC:
        problem = f"{path} is no GGUF file (it begins with {start[:4]!r})"
        raise BackendUnavailable(problem, "--model FILE.gguf, a file that llama.cpp can read")
    (version,) = struct.unpack("<I", start[4:])
    if version not in VERSIONS:
        problem = f"{path} is GGUF of version {version}; versions {VERSIONS[0]} and {VERSIONS[1]} can be read"
        raise BackendUnavailable(problem, "convert the model again with a llama.cpp of today")
    _tensors, pairs = struct.unpack("<QQ", file.read(16))
    facts: dict[str, Any] = {}
    for _ in range(pairs):
        name = _text(file)
        (kind,) = struct.unpack("<I", file.read(4))
        if kind == ARRAY:
            break
        facts[name] = _text(file) if kind == STRING else _number(file, kind)
    return facts


def _text(file: BinaryIO) -> str:
    (length,) = struct.unpack("<Q", file.read(8))
    if length > LONGEST_TEXT:
        raise OverflowError(length)
    found = file.read(length)
    if len(found) < length:
        raise struct.error("too short")
    return found.decode("utf-8")


def _number(file: BinaryIO, kind: int) -> Any:
    if kind not in NUMBERS:
        raise struct.error(f"type {kind}")
    form = f"<{NUMBERS[kind]}"
    (value,) = struct.unpack(form, file.read(struct.calcsize(form)))
    return value


def _model_file(path: Path, size: int, facts: dict[str, Any]) -> ModelFile:
    architecture = str(facts.get("general.architecture", ""))

    def fact(name: str) -> int:
        return int(facts.get(f"{architecture}.{name}", 0))

    heads = fact("attention.head_count")
    of_head = fact("attention.key_length") or (fact("embedding_length") // heads if heads else 0)
    in_cache = fact("attention.head_count_kv") or heads
    return ModelFile(
        path=path,
        bytes=size,
        architecture=architecture,
        basename=str(facts.get("general.basename", "")),
        context_tokens=fact("context_length"),
        bytes_per_token=2 * fact("block_count") * in_cache * of_head * CACHE_BYTES,  # keys and values
    )
