"""LangChain and LlamaIndex on the mock: tokens, streaming, structured output, and LlamaIndex's own
templates."""

from typing import Literal

import pytest
from langchain_core.prompts import ChatPromptTemplate
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from llama_index.core import Document, MockEmbedding, SummaryIndex, VectorStoreIndex
from llama_index.core.chat_engine.types import ChatMode
from llama_index.llms.openai_like import OpenAILike
from pydantic import BaseModel, SecretStr

from utils.mock_llm import MockServer


@pytest.fixture(scope="module")
def server():
    with MockServer() as running:
        yield running


def chat_model(server, **options):
    return ChatOpenAI(model="mock-large", base_url=server.base_url, api_key=SecretStr("mock"), temperature=0, **options)


def test_langchain_chain_batch_and_stream(server):
    prompt = ChatPromptTemplate.from_messages(
        [("system", "Answer with one word: positive, negative or neutral."), ("user", "{review}")]
    )
    chain = prompt | chat_model(server, stream_usage=True)
    answers = chain.batch([{"review": "I love it"}, {"review": "I hate it"}])
    assert [answer.content for answer in answers] == ["positive", "negative"]
    assert answers[0].usage_metadata["total_tokens"] > 0
    chunks = list(chain.stream({"review": "I love it"}))
    assert "".join(chunk.content for chunk in chunks) == "positive"
    assert (
        sum(chunk.usage_metadata["output_tokens"] for chunk in chunks if chunk.usage_metadata)
        == answers[0].usage_metadata["output_tokens"]
    )


class Verdict(BaseModel):
    sentiment: Literal["neutral", "positive", "negative"]
    reason: str


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_langchain_structured_output(server, method):
    structured = chat_model(server).with_structured_output(Verdict, method=method)
    assert structured.invoke("Classify this review: The soup was cold and awful.").sentiment == "negative"


def test_langchain_embeddings(server):
    embeddings = OpenAIEmbeddings(
        model="mock-embedding",
        base_url=server.base_url,
        api_key=SecretStr("mock"),
        check_embedding_ctx_length=False,
    )
    first, second = embeddings.embed_documents(["leave of employees", "employees on leave"])
    assert len(first) == 256 and sum(a * b for a, b in zip(first, second, strict=True)) > 0.8


DOCUMENTS = [
    Document(text="Employees receive 25 days of leave per year.", metadata={"file_name": "leave.md"}),
    Document(text="Flights are booked by the office in Bonn.", metadata={"file_name": "travel.md"}),
]


@pytest.mark.parametrize("mode", ["compact", "refine", "tree_summarize", "simple_summarize"])
def test_llama_index_templates(server, mode):
    llm = OpenAILike(
        model="mock-large", api_base=server.base_url, api_key="mock", is_chat_model=True, context_window=4000
    )
    index = VectorStoreIndex.from_documents(DOCUMENTS, embed_model=MockEmbedding(embed_dim=8))
    engine = index.as_query_engine(llm=llm, response_mode=mode, similarity_top_k=2)
    assert "25 days" in str(engine.query("How many days of leave do employees receive?"))
    assert str(engine.query("Who designed the cathedral?")).startswith("I do not know")


def test_llama_index_chat_condenses_the_follow_up(server):
    llm = OpenAILike(
        model="mock-large", api_base=server.base_url, api_key="mock", is_chat_model=True, context_window=4000
    )
    index = SummaryIndex.from_documents(DOCUMENTS)
    engine = index.as_chat_engine(llm=llm, chat_mode=ChatMode.CONDENSE_QUESTION)
    assert "office" in str(engine.chat("Who books flights?"))
    assert "Bonn" in str(engine.chat("In which city are they booked?"))
