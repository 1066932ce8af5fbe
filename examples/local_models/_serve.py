"""The child process: one llama.cpp server on a free port of 127.0.0.1, until its parent closes the pipe.

A process of its own, so that models answer in parallel, and one that dies takes no program along. It lives as long
as its standard input is open: the system closes that pipe however the parent ends, killed or not.
"""

from __future__ import annotations

import json
import os
import signal
import sys


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group: the parent decides
    import xllamacpp

    spec = json.loads(sys.argv[1])
    params = xllamacpp.CommonParams()
    params.model.path = spec["weights"]
    params.model_alias = {spec["model"]}
    params.chat_template = spec["template"]
    params.use_jinja = True
    params.n_ctx = 4096
    params.n_parallel = 1
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.swa_full = (
        True  # else Gemma's sliding window forbids reuse of the prompt's common start: 3x slower
    )
    params.port = 0
    params.ui = False
    server = xllamacpp.Server(params)  # returns once the weights are loaded and the port is open
    print(server.listening_address, flush=True)
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
