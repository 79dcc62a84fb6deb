"""Serve the mock model as a process of its own: `python -m utils.mock_llm --port 0 --latency-ms 100`.

Prints one line with the base URL, then serves until SIGTERM or SIGINT.
"""

import signal
import threading

import click

from . import MockServer, MockSettings


@click.command(help=__doc__)
@click.option("--port", default=0, show_default=True, help="Port on 127.0.0.1; 0 takes a free one.")
@click.option("--latency-ms", default=0.0, show_default=True, help="Time that every answer takes.")
@click.option(
    "--faults",
    default="",
    help="Shares of failing requests, such as 429:0.2,timeout:0.05,500:0.05,garbage:0.1.",
)
@click.option("--seed", default=0, show_default=True, help="Which requests fail.")
def main(port: int, latency_ms: float, faults: str, seed: int) -> None:
    try:
        settings = MockSettings(latency_ms, faults, seed)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with MockServer(settings, port) as server:
        click.echo(server.base_url)
        stop.wait()


if __name__ == "__main__":
    main()
