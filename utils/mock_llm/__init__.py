"""A small honest teacher: a deterministic rule-based model behind an OpenAI-compatible server.

It reads its prompt (instructions, passages, tools, schema) and answers by rules, so the same prompt gets the
same answer on every machine, and a changed prompt may get another. Every answer is marked as a mock's: header
`x-mock-llm`, and `system_fingerprint` in the body.

    with MockServer(MockSettings(latency_ms=100)) as server:
        client = openai.OpenAI(base_url=server.base_url, api_key="mock")
"""

from .counts import Counts
from .embedding import embed
from .faults import parse_faults
from .model import Usage, complete, usage_of
from .reply import Call, Reply
from .server import MockServer, MockSettings
from .tokens import count_tokens

MODELS = ("mock-small", "mock-large", "mock-embedding")

__all__ = [
    "MODELS", "Call", "Counts", "MockServer", "MockSettings", "Reply", "Usage", "complete", "count_tokens",
    "embed", "parse_faults", "usage_of",
]  # fmt: skip
