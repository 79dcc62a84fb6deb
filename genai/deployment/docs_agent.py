"""The agent of module 7, as MLflow logs it: this file is the model, and is run again wherever a version is loaded.

A version holds a prompt (by its number), the documents (as an artifact), how they are cut and searched, and the model
with its settings. It names no port and holds no key.
"""

from collections.abc import Generator, Iterator
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any
from uuid import uuid4

import mlflow
from mlflow.entities import SpanType
from mlflow.models import ModelConfig
from mlflow.pyfunc import ResponsesAgent
from mlflow.types.responses import ResponsesAgentRequest, ResponsesAgentResponse, ResponsesAgentStreamEvent

from utils.document_index import DocumentIndex, Passage, open_index
from utils.errors import InputError
from utils.kept_backends import kept_backend
from utils.llm_backends import Backend, BackendUnavailable
from utils.options import BackendOptions, EmbedOptions

DEFAULTS: dict[str, Any] = {
    "backend": {},  # fields of BackendOptions
    "embedding": {},  # fields of EmbedOptions
    "prompt": "prompts:/docs-agent-answer/1",  # a version, never an alias: an alias would change what was tested
    "chunk_tokens": 160,
    "overlap_tokens": 20,
    "top_k": 3,
    "characters": 2000,  # of a question
    "seconds": 30.0,  # for a call to the model
}


class DocsAgent(ResponsesAgent):
    """Answers from the documents that it was registered with. Raises what breaks: whoever serves it says so."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = {**DEFAULTS, **config}
        self.folder = Path()

    def load_context(self, context: Any) -> None:
        """The index is built here, not by the first request; a model server may be missing until then."""
        self.folder = Path(context.artifacts["documents"])
        mlflow.openai.autolog(silent=True)
        with suppress(BackendUnavailable):
            _ = self.index, self.client

    def predict(self, request: ResponsesAgentRequest) -> ResponsesAgentResponse:
        passages, messages = self.prepare(request)
        reply = self.client.chat.completions.create(model=self.llm.model, messages=messages, temperature=self.warmth)
        item = self.create_text_output_item(reply.choices[0].message.content or "", uuid4().hex)
        return ResponsesAgentResponse(output=[item], custom_outputs=sources_of(passages))

    def predict_stream(self, request: ResponsesAgentRequest) -> Generator[ResponsesAgentStreamEvent, None, None]:
        passages, messages = self.prepare(request)
        item_id, said = uuid4().hex, ""
        for piece in self.pieces(messages):
            said += piece
            yield ResponsesAgentStreamEvent(**self.create_text_delta(piece, item_id))
        yield ResponsesAgentStreamEvent(
            type="response.output_item.done",
            item=self.create_text_output_item(said, item_id),
            custom_outputs=sources_of(passages),
        )

    def pieces(self, messages: list[Any]) -> Iterator[str]:
        """The answer as it comes. A caller that leaves closes the connection, and the model stops."""
        stream = self.client.chat.completions.create(
            model=self.llm.model, messages=messages, temperature=self.warmth, stream=True,
            stream_options={"include_usage": True},
        )  # fmt: skip
        try:
            for chunk in stream:
                if chunk.choices and (text := chunk.choices[0].delta.content):
                    yield text
        finally:
            stream.close()

    def prepare(self, request: ResponsesAgentRequest) -> tuple[list[Passage], list[Any]]:
        """The passages of a question, and what the model reads.

        Raises:
            InputError: there is no question, or it is too long.
        """
        question = text_of(request).strip()
        if not 0 < len(question) <= self.config["characters"]:
            problem = f"the question has {len(question)} characters"
            raise InputError(problem, f"ask with 1 to {self.config['characters']}")
        with mlflow.start_span("retrieve", span_type=SpanType.RETRIEVER) as span:
            span.set_inputs({"query": question, "top_k": self.config["top_k"]})
            passages = self.index.retrieve(question, self.config["top_k"])
            span.set_outputs([passage.as_page() for passage in passages])
        prompt = mlflow.genai.load_prompt(self.config["prompt"])  # in the trace: linked to the version
        context = "\n\n".join(passage.text for passage in passages)
        return passages, [{"role": "user", "content": prompt.format(context=context, question=question)}]

    @property
    def warmth(self) -> float:
        return self.llm.settings.temperature

    @cached_property
    def llm(self) -> Backend:
        return kept_backend(BackendOptions(**self.config["backend"]))

    @cached_property
    def client(self) -> Any:
        """One for all requests; whoever waits for an answer decides about another try."""
        return self.llm.openai_client(max_retries=0, timeout=self.config["seconds"])

    @cached_property
    def index(self) -> DocumentIndex:
        embedding = EmbedOptions(**self.config["embedding"])
        sizes = {"chunk_tokens": self.config["chunk_tokens"], "overlap_tokens": self.config["overlap_tokens"]}
        return open_index(self.folder, self.llm, embedding, **sizes)


def sources_of(passages: list[Passage]) -> dict[str, list[str]]:
    return {"sources": list(dict.fromkeys(passage.document for passage in passages))}


def text_of(request: ResponsesAgentRequest) -> str:
    """The newest message of the request, its parts joined."""
    content = request.input[-1].model_dump().get("content") if request.input else ""
    parts = content if isinstance(content, list) else [{"text": content or ""}]
    return "\n".join(str(part.get("text") or "") for part in parts)


mlflow.models.set_model(DocsAgent(ModelConfig(development_config=DEFAULTS).to_dict()))
