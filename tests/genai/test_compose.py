"""genai/deployment/compose.yaml is not run here: its commands are parsed by the programs that would run them."""

import os
import re
import shutil
import subprocess

import httpx
import pytest
import yaml
from mlflow.cli import cli as mlflow_cli

from genai.deployment.monitor import main as monitor
from tests.conftest import ROOT
from utils.mlflow_server import mlflow_server

PROGRAMS = (["docker", "compose"], ["docker-compose"])
FILE = ROOT / "genai" / "deployment" / "compose.yaml"


@pytest.fixture(scope="module")
def services() -> dict:
    return yaml.safe_load(FILE.read_text())["services"]


def test_each_command_is_one_that_there_is(services):
    program, name, *flags = services["tracking"]["command"]
    assert program == "mlflow"
    server = mlflow_cli.commands[name].make_context(name, list(flags))
    assert server.params["host"] == "0.0.0.0" and server.params["artifacts_destination"] == "/artifacts"
    program, *flags = services["monitor"]["command"]
    assert monitor.make_context(program, list(flags)).params["monitor"] == "7-production"
    typed = re.findall(r"run --rm agent (\S+)", FILE.read_text())
    assert {*typed, program} <= set(re.findall(r"^(mlflow-[\w-]+) = ", (ROOT / "pyproject.toml").read_text(), re.M))


def test_no_secret_stands_in_it_and_only_this_machine_reaches_it(services):
    environments = [service.get("environment", {}) for service in services.values()]
    named = [value for each in environments for name, value in each.items() if "PASSWORD" in name or "mlflow:" in value]
    assert len(named) == 2 and all("${POSTGRES_PASSWORD:?" in value for value in named)
    assert all(port.startswith("127.0.0.1:") for service in services.values() for port in service.get("ports", []))


def test_what_it_names_is_there(services):
    paths = {service["build"]["dockerfile"] for service in services.values() if "build" in service}
    assert all((ROOT / path).is_file() for path in paths)
    volumes = {volume.split(":")[0] for service in services.values() for volume in service.get("volumes", [])}
    assert volumes == set(yaml.safe_load(FILE.read_text())["volumes"])
    docker = (ROOT / "genai" / "deployment" / "Dockerfile").read_text()
    assert "--extra postgres" in docker and services["agent"]["stop_grace_period"] == "70s"


def test_docker_compose_takes_it():
    command = next((words for words in PROGRAMS if shutil.which(words[0]) and runs([*words, "version"])), None)
    if command is None:
        pytest.skip("neither docker compose nor docker-compose is installed")
    check = [*command, "-f", str(FILE), "config", "--quiet"]
    assert runs(check, POSTGRES_PASSWORD="of-a-test") and not runs(check, POSTGRES_PASSWORD="")


def runs(command: list[str], **variables: str) -> bool:
    return subprocess.run(command, env={**os.environ, **variables}, capture_output=True, check=False).returncode == 0


@pytest.mark.slow
def test_the_server_answers_to_the_name_it_has_among_the_services_and_to_no_other(services, store, monkeypatch):
    allowed = services["tracking"]["environment"]["MLFLOW_SERVER_ALLOWED_HOSTS"]
    monkeypatch.setenv("MLFLOW_SERVER_ALLOWED_HOSTS", f"{allowed},127.0.0.1:*")  # the test's port is another one
    with mlflow_server(store) as address:
        body = {"max_results": 1}

        def status(host: str) -> int:
            path = f"{address}/api/2.0/mlflow/experiments/search"
            return httpx.post(path, json=body, headers={"host": host}, timeout=30).status_code

        assert status("tracking:5000") == 200 and status("elsewhere:5000") == 403
