"""The tools of an MCP server as LangChain tools that can be called without an event loop."""

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from utils.local_services import ServiceUnavailable

if TYPE_CHECKING:
    from langchain_core.tools import BaseTool
    from mcp import ClientSession
    from mcp.types import Tool

T = TypeVar("T")
CALL_SECONDS = 5


def load_mcp_tools(url: str) -> list["BaseTool"]:
    """Ask the server which tools it has. A tool whose server goes down later returns "error: …" to the model.

    Args:
        url: of the server's streamable HTTP endpoint, such as http://127.0.0.1:8000/mcp.

    Raises:
        ServiceUnavailable: no MCP server answers there within CALL_SECONDS.

    Source: https://modelcontextprotocol.io/docs/concepts/tools
    """
    return [_as_langchain(url, tool) for tool in _wait_for(url, _list(url))]


def _as_langchain(url: str, tool: "Tool") -> "BaseTool":
    from langchain_core.tools import StructuredTool

    def call(**arguments: Any) -> str:
        try:
            return _wait_for(url, _call(url, tool.name, arguments))
        except ServiceUnavailable:
            return f"error: the server of {tool.name} does not answer at {url}"

    return StructuredTool(name=tool.name, description=tool.description or "", args_schema=tool.inputSchema, func=call)


def _wait_for(url: str, asked: Coroutine[Any, Any, T]) -> T:
    """Run to the end; every way in which a server can fail to answer becomes ServiceUnavailable, and nothing else."""
    import httpx
    from mcp.shared.exceptions import McpError

    kinds = (httpx.HTTPError, McpError, TimeoutError, OSError)
    try:
        return asyncio.run(asked)
    except kinds as error:
        raise _unavailable(url) from error
    except BaseExceptionGroup as group:  # the client works in a task group
        if group.split(kinds)[1] is not None:
            raise
        raise _unavailable(url) from group


def _unavailable(url: str) -> ServiceUnavailable:
    return ServiceUnavailable(f"no MCP server answers at {url}", "start it, or go on without its tools")


async def _list(url: str) -> list["Tool"]:
    async with _session(url) as session:
        return (await session.list_tools()).tools


async def _call(url: str, name: str, arguments: dict[str, Any]) -> str:
    async with _session(url) as session:
        result = await session.call_tool(name, arguments)
    text = "\n".join(part.text for part in result.content if part.type == "text")
    return f"error: {text}" if result.isError and not text.startswith("error:") else text


@asynccontextmanager
async def _session(url: str) -> AsyncIterator["ClientSession"]:
    import httpx
    from mcp import ClientSession
    from mcp.client.streamable_http import streamable_http_client

    logging.getLogger("mcp.client.streamable_http").setLevel(logging.CRITICAL)  # it logs what is raised here
    async with (
        httpx.AsyncClient(timeout=CALL_SECONDS) as client,
        streamable_http_client(url, http_client=client) as (read, write, _),
        ClientSession(read, write, read_timeout_seconds=timedelta(seconds=CALL_SECONDS)) as session,
    ):
        await session.initialize()
        yield session
