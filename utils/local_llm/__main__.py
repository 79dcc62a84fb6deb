"""The process behind `--llm-type local`: prints one line with its address, then serves until its input is closed."""

import json
import os
import sys
from pathlib import Path

from utils.loader import require


def main() -> None:
    given = json.loads(sys.argv[1])
    library = require("xllamacpp", "local")
    parameters = library.CommonParams()
    parameters.model.path = given["weights"]
    parameters.model_alias = {given["alias"]}
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = 0  # a free one
    parameters.n_parallel = given["slots"]
    parameters.n_ctx = given["context_tokens"]
    parameters.kv_unified = True  # a long conversation may use what the other slots leave free
    parameters.n_predict = given["longest_reply"]
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = given["threads"]
    parameters.use_jinja = True
    if given["template"]:
        parameters.chat_template = Path(given["template"]).read_text(encoding="utf-8")
    parameters.verbosity = 1
    parameters.ui = False
    server = library.Server(parameters)
    sys.stdout.write(f"{server.listening_address.rstrip('/')}\n")
    sys.stdout.flush()
    sys.stdin.read()  # ends when the command ends, however it ends
    os._exit(0)  # a request that is still being answered has nobody left to read it


if __name__ == "__main__":
    main()
