"""What a client of a model needs to know, and the clients: LangChain, LlamaIndex and the OpenAI SDK on one endpoint."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel
    from llama_index.core.llms import LLM
    from openai import OpenAI

DUMMY_KEY = "not-needed"  # clients insist on a key; mock, llama.cpp and Ollama do not look at it
CONTEXT_TOKENS = 4096  # what LlamaIndex fits its prompts into
# A small model that has lost its way repeats itself until its context is full: minutes, on a CPU.
ANSWER_TOKENS = 1024


@dataclass(frozen=True)
class BackendSettings:
    """All that is needed to build a client, in a Spark worker too. Neither print nor a trace shows its key."""

    llm_type: str
    model: str
    base_url: str  # OpenAI's API, up to and with /v1
    temperature: float = 0.0
    request_timeout: float = 60.0  # seconds
    ollama_url: str | None = None
    # MLflow writes all fields of a traced function's arguments into its span: the key is one that prints as stars.
    secret: SecretStr = field(default_factory=lambda: SecretStr(DUMMY_KEY))

    @property
    def api_key(self) -> str:
        """The key in plain text, for a client."""
        return self.secret.get_secret_value()

    @property
    def no_retries(self) -> dict[str, int]:
        """For callers that retry by themselves: what keeps LangChain's client from doing it, too."""
        return {} if self.llm_type == "ollama" else {"max_retries": 0}

    def chat_model(self, **overrides: Any) -> "BaseChatModel":
        """LangChain: ChatOllama for ollama, ChatOpenAI for everything that speaks OpenAI's API."""
        if self.llm_type == "ollama":
            from langchain_ollama import ChatOllama

            from utils.http_clients import CountedTransport

            arguments: dict[str, Any] = {
                "model": self.model,
                "base_url": self.ollama_url,
                "num_predict": ANSWER_TOKENS,
                "client_kwargs": {"timeout": self.request_timeout},
                "sync_client_kwargs": {"transport": CountedTransport()},
            }
            return ChatOllama(**{**arguments, "temperature": self.temperature, **overrides})
        from langchain_openai import ChatOpenAI

        from utils.http_clients import AsyncMaskingClient, MaskingClient

        # stream_usage: a custom base URL reports no tokens while streaming unless it is asked to.
        arguments = {
            "model": self.model,
            "base_url": self.base_url,
            "api_key": self.api_key,
            "stream_usage": True,
            "max_completion_tokens": ANSWER_TOKENS,
            "http_client": MaskingClient(),
            "http_async_client": AsyncMaskingClient(),
        }
        return ChatOpenAI(
            **{**arguments, "temperature": self.temperature, "timeout": self.request_timeout, **overrides}
        )

    def llama_index(self, *, streaming: bool = False, **overrides: Any) -> "LLM":
        """LlamaIndex: Ollama for ollama, OpenAILike otherwise. `streaming=True` asks for token counts in streams."""
        if self.llm_type == "ollama":
            from llama_index.llms.ollama import Ollama

            # Left to itself the client takes the model's whole window, for which Ollama then reserves memory.
            arguments = {
                "model": self.model,
                "base_url": self.ollama_url,
                "request_timeout": self.request_timeout,
                "context_window": CONTEXT_TOKENS,
                "additional_kwargs": {"num_predict": ANSWER_TOKENS},
            }
            return Ollama(**{**arguments, "temperature": self.temperature, **overrides})
        from llama_index.llms.openai_like import OpenAILike

        from utils.http_clients import AsyncMaskingClient, MaskingClient

        usage: dict[str, Any] = {"stream_options": {"include_usage": True}} if streaming else {}
        endpoint: dict[str, Any] = {"model": self.model, "api_base": self.base_url, "api_key": self.api_key}
        kind = {"is_chat_model": True, "is_function_calling_model": True, "context_window": CONTEXT_TOKENS}
        limits = {
            "temperature": self.temperature,
            "timeout": self.request_timeout,
            "max_tokens": ANSWER_TOKENS,
            "additional_kwargs": usage,
        }
        clients = {"http_client": MaskingClient(), "async_http_client": AsyncMaskingClient()}
        return OpenAILike(**{**endpoint, **kind, **limits, **clients, **overrides})

    def openai_client(self, **overrides: Any) -> "OpenAI":
        """The OpenAI SDK on the same endpoint (Ollama answers it under /v1)."""
        from openai import OpenAI

        from utils.http_clients import MaskingClient

        arguments: dict[str, Any] = {"base_url": self.base_url, "api_key": self.api_key}
        arguments |= {"timeout": self.request_timeout, "http_client": MaskingClient()}
        return OpenAI(**{**arguments, **overrides})

    def judge(self) -> dict[str, str]:
        """Keyword arguments for mlflow.genai.judges.make_judge: the full path, since plain /v1 answers 404."""
        return {"model": f"openai:/{self.model}", "base_url": f"{self.base_url}/chat/completions"}
