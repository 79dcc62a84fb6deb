"""A price list of models as an MCP server of its own process: a tool that is not part of the agent's program.

    with price_server() as url: ...   # http://127.0.0.1:PORT/mcp

It serves one tool, model_price, from utils/pricing.py. It ends when its standard input is closed, which also happens
when the process that started it is killed.
"""

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from utils.local_services import HOST, ServiceUnavailable, listen
from utils.pricing import PRICES, price_of

if TYPE_CHECKING:
    from mcp.server.fastmcp import FastMCP

STOP_SECONDS = 5
TOOL = "model_price"


def price_text(model: str) -> str:
    """The prices of a model in a sentence, or "error: …" for a model that is not in the list."""
    price = price_of(model.strip())
    if price is None:
        return f"error: there is no model {model.strip()[:60]!r} in the price list; it has {', '.join(PRICES)}"
    note = "a price invented for this curriculum" if price.fictional else f"list price of {price.date}"
    return (
        f"A million input tokens of {price.model} cost {price.input_usd:.2f} USD and a million output tokens "
        f"{price.output_usd:.2f} USD ({note})."
    )


def build_server() -> "FastMCP":
    """The server with its tool; what a client sees of it is the name, the description and the argument."""
    from mcp.server.fastmcp import FastMCP

    server = FastMCP("price-list", stateless_http=True, json_response=True, log_level="ERROR")

    @server.tool(name=TOOL, structured_output=False)
    def model_price(model: str) -> str:
        """Price list of language models: USD for a million input and output tokens of a model, such as gpt-4o."""
        return price_text(model)

    return server


@contextmanager
def price_server() -> Iterator[str]:
    """Start the server as a process on a free port of 127.0.0.1; yields its address, and stops it by its id.

    Raises:
        ServiceUnavailable: it ends before it listens.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "utils.price_server"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin and process.stdout
    try:
        url = process.stdout.readline().strip()
        if not url:
            raise ServiceUnavailable("the price server does not start", "run the command again")
        yield url
    finally:
        process.stdin.close()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


def closed_address() -> str:
    """An address of this machine at which nothing listens: a server that is down."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return f"http://{HOST}:{probe.getsockname()[1]}/mcp"


def serve() -> None:
    import uvicorn

    listening = listen(0)
    server = uvicorn.Server(uvicorn.Config(build_server().streamable_http_app(), log_level="error"))

    def stop_with_parent() -> None:
        sys.stdin.read()
        server.should_exit = True

    threading.Thread(target=stop_with_parent, daemon=True).start()
    sys.stdout.write(f"http://{HOST}:{listening.getsockname()[1]}/mcp\n")
    sys.stdout.flush()
    server.run([listening])


if __name__ == "__main__":
    serve()
