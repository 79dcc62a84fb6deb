"""Every embedding type: what it returns, and how it fails when a model, a folder or a server is missing."""

import json
import os
import pickle
import shutil
import subprocess
import sys
import threading
import time
import warnings
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from socket import socket
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from utils import embeddings
from utils.embeddings import EMBED_TYPES, EmbeddingUnavailable, default_embed_type, open_embedding
from utils.errors import UserError
from utils.lexical import LEXICAL_DIMENSIONS, TEXTS_PER_SLICE, embed_lexically
from utils.loader import MissingExtra

MINILM = Path(__file__).resolve().parents[2] / "../shared/models/all-MiniLM-L6-v2-onnx"
FAILS_WITHIN = 5  # seconds, promised to the user
needs_minilm = pytest.mark.skipif(not MINILM.is_dir(), reason="no downloaded model beside the checkout")


def similarity(first, second):
    return float(np.dot(first, second))


# Lexical


def test_lexical_vectors_have_length_one():
    vectors = embed_lexically(["A refund takes 30 days.", "", "!?", "the of and", "日本語"])
    assert vectors.shape == (5, LEXICAL_DIMENSIONS)
    assert vectors.dtype == np.float32
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text(max_size=80), min_size=1, max_size=6))
def test_lexical_vectors_do_not_depend_on_the_batch(texts):
    together = embed_lexically(texts)
    for i, text in enumerate(texts):
        assert np.array_equal(together[i], embed_lexically([text])[0])


def test_lexical_vectors_do_not_depend_on_the_slice():
    texts = [f"row number {i} of the table" for i in range(TEXTS_PER_SLICE + 3)]
    vectors = embed_lexically(texts)
    assert np.array_equal(vectors[-3:], embed_lexically(texts[-3:]))


def test_lexical_vectors_are_the_same_in_another_process():
    code = "from utils.lexical import embed_lexically as f; print(f(['the same text'])[0].tobytes().hex())"
    environment = {**os.environ, "PYTHONHASHSEED": "4711"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == embed_lexically(["the same text"])[0].tobytes().hex()


def test_lexical_similarity_follows_the_words():
    question, right, wrong = embed_lexically(
        [
            "How long do refunds take?",
            "A refund is paid within 30 days of the return.",
            "The office opens at nine on weekdays.",
        ]
    )
    assert similarity(question, right) > similarity(question, wrong) + 0.1


def test_lexical_vectors_see_negation_word_order_and_typing_errors():
    safe, unsafe, forward, backward, typo, name = embed_lexically(
        [
            "is it safe",
            "is it not safe",
            "dog bites man",
            "man bites dog",
            "classificaton of documents",
            "classification of documents",
        ]
    )
    assert similarity(safe, unsafe) < 0.95
    assert similarity(forward, backward) < 0.99
    assert similarity(typo, name) > 0.7


def test_a_text_without_words_resembles_no_other():
    empty, marks, text = embed_lexically(["", "... !", "some words"])
    assert similarity(empty, text) == 0
    assert similarity(empty, marks) == pytest.approx(1)
    assert embed_lexically([]).shape == (0, LEXICAL_DIMENSIONS)


def test_a_text_of_function_words_only_is_still_told_apart():
    first, second = embed_lexically(["what is it", "who are you"])
    assert similarity(first, second) < 0.5


def test_the_lexical_embedding_is_a_llamaindex_one_that_survives_pickling():
    from llama_index.core.base.embeddings.base import BaseEmbedding

    model = open_embedding("lexical")
    assert isinstance(model, BaseEmbedding)
    expected = embed_lexically(["a text"])[0].tolist()
    copy: Any = pickle.loads(pickle.dumps(model))
    assert np.array_equal(copy.embed_array(["a text"])[0], np.float32(expected))
    for each in (model, copy):
        assert each.get_text_embedding("a text") == expected
        assert each.get_query_embedding("a text") == expected
        assert each.get_text_embedding_batch(["another", "a text"])[1] == expected


def test_a_lexical_index_finds_the_document():
    from llama_index.core import Document, VectorStoreIndex

    texts = ["Refunds take 30 days.", "The office opens at nine.", "Passwords have 12 characters."]
    documents = [Document(text=text) for text in texts]
    index = VectorStoreIndex.from_documents(documents, embed_model=open_embedding("lexical"))
    found = index.as_retriever(similarity_top_k=1).retrieve("When does the office open?")
    assert found[0].text == texts[1]


def test_lexical_warns_of_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        embed_lexically(["a text", ""])


# fastembed


@needs_minilm
def test_a_model_folder_is_loaded_offline():
    model: Any = open_embedding("fastembed", str(MINILM))
    vectors = model.embed_array(["Refunds take 30 days.", "How long until I get my money back?", "Cats purr."])
    assert vectors.shape == (3, 384)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-4)
    assert similarity(vectors[0], vectors[1]) > similarity(vectors[0], vectors[2]) + 0.1
    assert model.get_query_embedding("Cats purr.") == pytest.approx(vectors[2].tolist(), abs=0.05)


@needs_minilm
def test_a_model_folder_gives_the_vectors_of_the_model_that_fastembed_knows():
    from fastembed import TextEmbedding

    known = TextEmbedding("sentence-transformers/all-MiniLM-L6-v2", specific_model_path=str(MINILM))
    expected = next(iter(known.embed(["a text"])))
    assert open_embedding("fastembed", str(MINILM)).get_text_embedding("a text") == pytest.approx(
        expected.tolist(), abs=1e-6
    )


@needs_minilm
def test_a_folder_embedding_survives_pickling_and_opens_twice():
    model = open_embedding("fastembed", str(MINILM))
    again = pickle.loads(pickle.dumps(model))
    assert again.get_text_embedding("a text") == model.get_text_embedding("a text")


@needs_minilm
def test_a_folder_without_pooling_is_known_by_its_name_or_refused(tmp_path):
    named = copy_model(tmp_path / "all-MiniLM-L6-v2-onnx", config={"hidden_size": 384})
    expected = open_embedding("fastembed", str(MINILM)).get_text_embedding("a text")
    assert open_embedding("fastembed", str(named)).get_text_embedding("a text") == pytest.approx(expected, abs=1e-6)

    nameless = copy_model(tmp_path / "some-model", config={"hidden_size": 384})
    with pytest.raises(EmbeddingUnavailable, match="does not say how its token vectors are pooled"):
        open_embedding("fastembed", str(nameless))


@needs_minilm
def test_the_layout_of_sentence_transformers_is_read(tmp_path):
    folder = copy_model(tmp_path / "some-model", config={"hidden_size": 384}, onnx_file="onnx/model.onnx")
    pooling = {
        "word_embedding_dimension": 384,
        "pooling_mode_mean_tokens": True,
        "pooling_mode_cls_token": False,
    }
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling), encoding="utf-8")
    expected = open_embedding("fastembed", str(MINILM)).get_text_embedding("a text")
    assert open_embedding("fastembed", str(folder)).get_text_embedding("a text") == pytest.approx(expected, abs=1e-6)


@needs_minilm
@pytest.mark.parametrize("missing", ["model.onnx", "tokenizer.json", "tokenizer_config.json"])
def test_a_folder_that_lacks_a_file_says_which(tmp_path, missing):
    folder = copy_model(tmp_path / "model")
    (folder / missing).unlink()
    with pytest.raises(EmbeddingUnavailable) as caught:
        open_embedding("fastembed", str(folder))
    assert f"it has no {missing}" in caught.value.problem
    assert "--embed-type lexical" in caught.value.cure


@needs_minilm
@pytest.mark.parametrize("broken", ["model.onnx", "tokenizer.json", "config.json"])
def test_a_damaged_file_is_an_error_in_two_lines(tmp_path, broken):
    folder = copy_model(tmp_path / "model")
    (folder / broken).unlink()
    (folder / broken).write_text("not what it should be", encoding="utf-8")
    with pytest.raises(EmbeddingUnavailable) as caught:
        open_embedding("fastembed", str(folder))
    assert str(folder) in caught.value.problem
    assert "\n" not in caught.value.problem


def test_an_empty_folder_and_a_missing_folder(tmp_path):
    with pytest.raises(EmbeddingUnavailable, match=r"no model\.onnx and no tokenizer\.json"):
        open_embedding("fastembed", str(tmp_path))
    for missing in (str(tmp_path / "nowhere"), "./nowhere/at/all"):
        with pytest.raises(EmbeddingUnavailable, match="there is no folder"):
            open_embedding("fastembed", missing)


def test_a_model_that_fastembed_does_not_know():
    with pytest.raises(EmbeddingUnavailable, match="fastembed has no model someone/some-model"):
        open_embedding("fastembed", "someone/some-model")


def test_a_model_that_cannot_be_downloaded_fails_in_time(monkeypatch, tmp_path):
    monkeypatch.setenv("FASTEMBED_CACHE_PATH", str(tmp_path))
    with silent_server() as silent:
        for endpoint in (f"http://127.0.0.1:{free_port()}", silent):
            monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", endpoint)
            monkeypatch.setattr("huggingface_hub.hf_api.api.endpoint", endpoint)
            started = time.monotonic()
            with pytest.raises(EmbeddingUnavailable) as caught:
                open_embedding("fastembed")
            assert time.monotonic() - started < FAILS_WITHIN
            assert "BAAI/bge-small-en-v1.5 is neither on this disk nor can it be downloaded" in caught.value.problem
            assert caught.value.cure == "--embed-model FOLDER of a downloaded model, or --embed-type lexical"


def test_a_call_that_never_returns_is_given_up():
    never = threading.Event()
    started = time.monotonic()
    with pytest.raises(TimeoutError):
        embeddings._within(0.2, never.wait)
    never.set()
    assert time.monotonic() - started < FAILS_WITHIN


@needs_minilm
def test_a_downloaded_model_is_opened_without_the_hub(monkeypatch, tmp_path):
    snapshot = tmp_path / "models--qdrant--all-MiniLM-L6-v2-onnx" / "snapshots" / "abc"
    copy_model(snapshot)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("abc", encoding="utf-8")
    monkeypatch.setenv("FASTEMBED_CACHE_PATH", str(tmp_path))
    monkeypatch.setattr(embeddings, "_require_hub", lambda *_: pytest.fail("the hub was asked"))
    model = open_embedding("fastembed", "sentence-transformers/all-MiniLM-L6-v2")
    assert len(model.get_text_embedding("a text")) == 384
    assert pickle.loads(pickle.dumps(model)).get_text_embedding("a text") == model.get_text_embedding("a text")


# OpenAI's API


def test_openai_embeds_at_any_base_url_with_any_model_name(server):
    model = open_embedding("openai", "my-embedder", base_url=server.url, api_key="secret-1")
    assert model.get_text_embedding("abc") == [3.0, 1.0]
    assert model.get_text_embedding_batch(["a", "abcd"]) == [[1.0, 1.0], [4.0, 1.0]]
    assert model.get_query_embedding("ab") == [2.0, 1.0]
    assert {request["model"] for request in server.requests} == {"my-embedder"}
    assert set(server.keys) == {"Bearer secret-1"}


def test_openai_takes_endpoint_and_key_from_the_environment(server, monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    monkeypatch.setenv("OPENAI_API_KEY", "secret-2")
    assert open_embedding("openai").get_text_embedding("abc") == [3.0, 1.0]
    assert set(server.keys) == {"Bearer secret-2"}


@pytest.mark.parametrize(
    ("listed", "chosen"),
    [
        (["text-embedding-3-small", "my-embedder"], "text-embedding-3-small"),
        (["mock-small", "mock-embedding"], "mock-embedding"),
        (["a-embed", "b-embed"], "text-embedding-3-small"),
        ([], "text-embedding-3-small"),
    ],
)
def test_the_default_model_is_openais_or_the_only_one_of_the_server(server, listed, chosen):
    server.models = listed
    assert open_embedding("openai", base_url=server.url, api_key="k").model_name == chosen


def test_the_key_is_never_shown(server):
    model = open_embedding("openai", "m", base_url=server.url, api_key="secret-3")
    shown = [
        repr(model),
        str(model),
        json.dumps(model.to_dict(), default=str),
        json.dumps(model.to_payload()),
    ]
    server.status = 401
    with pytest.raises(EmbeddingUnavailable) as caught:
        open_embedding("openai", "m", base_url=server.url, api_key="secret-3")
    shown += [str(caught.value), caught.value.problem, caught.value.cure]
    assert not [text for text in shown if "secret-3" in text]
    assert "refuses the key" in caught.value.problem


def test_a_pickled_endpoint_embedding_works_elsewhere(server):
    model = open_embedding("openai", "m", base_url=server.url, api_key="secret-4")
    assert pickle.loads(pickle.dumps(model)).get_text_embedding("abc") == [3.0, 1.0]
    assert server.keys[-1] == "Bearer secret-4"


def test_an_unknown_model_is_named_with_what_there_is(server):
    server.status, server.models = 404, ["other-model"]
    with pytest.raises(EmbeddingUnavailable, match=r"no embedding model m \(it has: other-model\)"):
        open_embedding("openai", "m", base_url=server.url, api_key="k")


def test_the_mock_server_embeds_through_the_same_path():
    from utils.mock_llm import MockServer, MockSettings

    with MockServer(MockSettings()) as mock:
        model = open_embedding("openai", base_url=mock.base_url, api_key="mock")
        assert model.model_name == "mock-embedding"
        first, same = model.get_text_embedding_batch(["some words", "some words"])
        assert first == same and len(first) > 1


@pytest.mark.parametrize("status", [429, 500])
def test_a_busy_server_is_not_a_missing_one(server, status):
    server.status = status
    assert open_embedding("openai", "m", base_url=server.url, api_key="k").model_name == "m"


def test_openai_without_a_key(monkeypatch):
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_API_BASE"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(EmbeddingUnavailable, match="OPENAI_API_KEY is not set"):
        open_embedding("openai")


def test_a_local_server_needs_no_key(server, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    assert open_embedding("openai", "m", base_url=server.url).get_text_embedding("abc") == [3.0, 1.0]


@pytest.mark.parametrize("embed_type", ["openai", "ollama"])
def test_no_server_fails_in_time(embed_type):
    with silent_server() as silent:
        for url in (f"http://127.0.0.1:{free_port()}", silent):
            started = time.monotonic()
            with pytest.raises(EmbeddingUnavailable) as caught:
                open_embedding(embed_type, "m", base_url=f"{url}/v1", api_key="k", ollama_url=url)
            assert time.monotonic() - started < FAILS_WITHIN
            assert url in caught.value.problem


# Ollama, Hugging Face, choices


def test_ollama_embeds(server):
    server.models = ["nomic-embed-text:latest"]
    model = open_embedding("ollama", ollama_url=server.root)
    assert model.get_text_embedding("abc") == [3.0, 1.0]
    assert server.requests[-1]["model"] == "nomic-embed-text"


def test_ollama_without_the_model_says_what_to_pull(server):
    server.models = ["llama3.2:latest"]
    with pytest.raises(EmbeddingUnavailable) as caught:
        open_embedding("ollama", ollama_url=server.root)
    assert caught.value.problem == "Ollama has no model nomic-embed-text (it has: llama3.2:latest)"
    assert caught.value.cure == "ollama pull nomic-embed-text"


def test_huggingface_names_its_extra():
    if find_spec("llama_index.embeddings.huggingface"):
        pytest.skip("the extra is installed")
    with pytest.raises(MissingExtra) as caught:
        open_embedding("huggingface")
    assert caught.value.cure == "uv sync --extra huggingface"


def test_huggingface_looks_on_disk_first_and_asks_the_hub_next(monkeypatch, tmp_path):
    calls = []

    def open_model(model_name, cache_folder, local_files_only=False):
        calls.append(local_files_only)
        if local_files_only:
            raise OSError("not on this disk")
        return model_name

    asked = []
    monkeypatch.setattr(embeddings, "require", lambda *_: SimpleNamespace(HuggingFaceEmbedding=open_model))
    monkeypatch.setattr(embeddings, "_require_hub", lambda model, repository: asked.append(repository))
    assert open_embedding("huggingface", "some/model") == "some/model"
    assert (calls, asked) == ([True, False], ["some/model"])
    with pytest.raises(EmbeddingUnavailable, match="is no sentence-transformers model"):
        open_embedding("huggingface", str(tmp_path))


def test_the_default_follows_the_backend():
    assert default_embed_type("mock") == "lexical"
    assert {default_embed_type(name) for name in ("local", "ollama", "openai")} == {"fastembed"}
    assert {"lexical", "fastembed"} <= set(EMBED_TYPES)


def test_an_unknown_type_is_a_user_error():
    with pytest.raises(UserError, match="no embedding type word2vec"):
        open_embedding("word2vec")


@pytest.mark.parametrize("module", ["utils.embeddings", "utils.lexical"])
def test_importing_loads_no_heavy_library(module):
    heavy = ("numpy", "sklearn", "llama_index.core", "fastembed", "httpx", "mlflow")
    check = f"import sys, {module}; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# Stand-ins for servers and model folders


def copy_model(folder, config=None, onnx_file="model.onnx"):
    """The small model in another folder, with another config.json or another place for its weights."""
    folder.mkdir(parents=True)
    for source in MINILM.iterdir():
        target = folder / (onnx_file if source.name == "model.onnx" else source.name)
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(source, target)
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def free_port():
    with socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def silent_server():
    """Accepts connections and never answers."""
    with socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


class StubServer:
    """OpenAI's and Ollama's embedding calls; the vector of a text is [its length, 1]."""

    def __init__(self, port):
        self.root = f"http://127.0.0.1:{port}"
        self.url = f"{self.root}/v1"
        self.models, self.status = [], 200
        self.requests, self.keys = [], []

    def answer(self, path, body):
        if path == "/v1/models":
            return 200, {"data": [{"id": name} for name in self.models]}
        if path == "/api/tags":
            return 200, {"models": [{"name": name} for name in self.models]}
        texts = body["input"] if isinstance(body["input"], list) else [body["input"]]
        vectors = [[float(len(text)), 1.0] for text in texts]
        if path == "/api/embed":
            return 200, {"model": body["model"], "embeddings": vectors}
        assert path == "/v1/embeddings"
        data = [{"object": "embedding", "index": i, "embedding": v} for i, v in enumerate(vectors)]
        return self.status, {
            "object": "list",
            "model": body["model"],
            "data": data,
            "usage": {"prompt_tokens": 1},
        }


@pytest.fixture
def server():
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.reply(None)

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            stub.requests.append(body)
            stub.keys.append(self.headers.get("Authorization"))
            self.reply(body)

        def reply(self, body):
            status, content = stub.answer(self.path, body)
            payload = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        def log_message(self, *args):
            """Keep the test's output quiet."""

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    stub = StubServer(listening.server_address[1])
    thread = threading.Thread(target=listening.serve_forever, daemon=True)
    thread.start()
    yield stub
    listening.shutdown()
    listening.server_close()
    thread.join()
