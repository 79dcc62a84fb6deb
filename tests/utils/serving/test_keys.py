"""Keys: stored as hashes, compared in constant time, revoked while the service runs."""

import ast
import asyncio
import json
import stat
from pathlib import Path

import pytest

import utils.serving.keys as module
from tests.utils.serving.caller import call, hello
from utils.errors import InputError
from utils.serving.keys import KeyGuard, KeyRing
from utils.serving.record import CURRENT


@pytest.fixture
def ring(tmp_path: Path) -> KeyRing:
    return KeyRing(tmp_path / "state" / "keys.json")


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def test_the_file_holds_hashes_and_nobody_else_may_read_it(ring):
    key = ring.add("ada")
    text = ring.path.read_text()
    assert key not in text and len(key) >= 43 and json.loads(text)[0]["name"] == "ada"
    assert stat.S_IMODE(ring.path.stat().st_mode) == 0o600
    assert [path.name for path in ring.path.parent.iterdir()] == ["keys.json"]


def test_a_key_finds_its_owner_and_nothing_else_does(ring):
    ada, bob = ring.add("ada"), ring.add("bob")
    assert ada != bob
    assert (ring.find(ada).name, ring.find(bob).name) == ("ada", "bob")
    for wrong in ("", " ", ada[:-1], f"{ada}x", ada.swapcase(), "ada", ring.keys[0].sha256, "é", "\udcff"):
        assert ring.find(wrong) is None


def test_hashes_are_compared_in_constant_time_and_all_of_them():
    """Asserted on the code: a clock on a busy machine shows nothing."""
    tree = ast.parse(Path(module.__file__).read_text())
    (find,) = [node for node in ast.walk(tree) if getattr(node, "name", "") == "find"]
    compared = [
        node for node in ast.walk(find) if isinstance(node, ast.Call) and "compare_digest" in ast.dump(node.func)
    ]
    (loop,) = [node for node in ast.walk(find) if isinstance(node, ast.For)]
    assert len(compared) == 1 and not [node for node in ast.walk(find) if isinstance(node, ast.Compare)]
    assert not [node for node in ast.walk(loop) if isinstance(node, ast.Return | ast.Break)]


def test_a_running_service_sees_what_another_process_adds_and_revokes(ring):
    running = KeyRing(ring.path)
    guard = KeyGuard(hello, running)
    key = ring.add("ada")
    assert asyncio.run(call(guard, headers=bearer(key))).status == 200
    ring.revoke("ada")
    answer = asyncio.run(call(guard, headers=bearer(key)))
    assert answer.status == 403 and "ada was revoked" in answer.body["detail"]


@pytest.mark.parametrize(
    "headers",
    [{}, {"authorization": ""}, {"authorization": "Bearer"}, {"authorization": "Bearer wrong"},
     {"authorization": "Basic KEY"}, {"authorization": "KEY"}, {"x-api-key": "KEY"}],
)  # fmt: skip
def test_without_a_known_key_it_is_401(ring, headers):
    key = ring.add("ada")
    answer = asyncio.run(call(KeyGuard(hello, ring), headers={n: v.replace("KEY", key) for n, v in headers.items()}))
    assert answer.status == 401 and answer.headers["www-authenticate"] == "Bearer" and key not in str(answer.body)


def test_the_name_of_the_key_goes_into_the_record_and_health_needs_none(ring):
    key, seen = ring.add("ada"), []

    async def app(scope, receive, send):
        seen.append(CURRENT.get().key)
        await hello(scope, receive, send)

    assert asyncio.run(call(KeyGuard(app, ring), headers=bearer(key))).status == 200
    assert asyncio.run(call(KeyGuard(app, ring), path="/health")).status == 200
    assert asyncio.run(call(KeyGuard(app, ring), path="/healthy")).status == 401
    assert seen == ["ada", ""]


@pytest.mark.parametrize("name", ["", " ", "a b", "../x", "x" * 65, "ä", "-x"])
def test_names_that_are_none(ring, name):
    with pytest.raises(InputError):
        ring.add(name)
    assert not ring.path.exists()


def test_a_name_that_was_revoked_is_not_given_again(ring):
    assert ring.free_name("local") == "local"
    ring.add("local")
    ring.revoke("local")
    assert ring.free_name("local") == "local-2"


def test_a_name_twice_a_name_nobody_has_and_a_broken_file(ring):
    ring.add("ada")
    with pytest.raises(InputError, match="already"):
        ring.add("ada")
    with pytest.raises(InputError, match="no key bob"):
        ring.revoke("bob")
    for text in ("", "{}x", '[{"name": "ada"}]', "[3]"):
        ring.path.write_text(text)
        with pytest.raises(InputError, match="holds no keys"):
            KeyRing(ring.path)
