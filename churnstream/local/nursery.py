"""The nursery: one process that has imported what is slow to import, and forks a worker when one is asked for.

Forking is safe only while this process has a single thread, so the libraries that would start some are told
not to, and the nursery refuses to work when one did. It speaks in single JSON datagrams over the socket that
it is given: ``{"specification", "home", "log", "number"}`` with the descriptors of a ``Post``, answered by
``{"born": pid}``; and, whenever a worker ends, ``{"died": pid, "code": exit code, or minus the signal}``.
"""

import argparse
import gc
import importlib
import json
import os
import selectors
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from churnstream.local.home import Home
from churnstream.local.logs import redirect_output
from churnstream.local.post import HANDLES, Post
from churnstream.local.specification import Specification

Serve = Callable[[Specification, Home, Post], int]

CALM = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "NUMEXPR_NUM_THREADS": "1",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
}
HEAVY = (
    "mlrun",
    "mlrun.serving",
    "mlrun.serving.routers",
    "mlrun.serving.v2_serving",
    "storey",
    "numba",
    "pandas",
    "pyarrow",
    "pyarrow.parquet",
    "pyarrow.compute",
    "nuclio_sdk",
    "uvicorn.protocols.http.httptools_impl",
    "churnstream.local.worker",
)
LARGEST_MESSAGE = 65536


def threads() -> int:
    """How many threads this process has, those of native libraries included; Linux only."""
    return len(os.listdir("/proc/self/task"))


class Nursery:
    """Forks workers and tells of their ends; never returns in a worker."""

    def __init__(self, line: socket.socket, serve: Serve):
        self._line = line
        self._serve = serve
        self._selector = selectors.DefaultSelector()
        self._ended, wakeup = socket.socketpair()
        self._wakeup = wakeup
        for end in (self._ended, wakeup):
            end.setblocking(False)
        signal.set_wakeup_fd(wakeup.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        self._selector.register(line, selectors.EVENT_READ)
        self._selector.register(self._ended, selectors.EVENT_READ)

    def run(self) -> None:
        """Work until the supervisor is gone."""
        self._say(ready=os.getpid())
        while True:
            ready = {key.fileobj for key, _ in self._selector.select()}
            if self._ended in ready:
                self._ended.recv(4096)
                self._reap()
            if self._line in ready:
                try:
                    text, handles, _, _ = socket.recv_fds(self._line, LARGEST_MESSAGE, HANDLES)
                except ConnectionError:
                    return  # the supervisor was killed with a message of ours unread
                if not text:
                    return
                self._fork(json.loads(text), handles)

    def _fork(self, request: dict[str, Any], handles: list[int]) -> None:
        born = os.fork()
        if born == 0:
            self._become_worker(request, handles)
        for handle in handles:
            os.close(handle)
        self._say(born=born)

    def _become_worker(self, request: dict[str, Any], handles: list[int]) -> None:
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self._selector.close()
            for end in (self._line, self._ended, self._wakeup):
                end.close()
            code = _work(self._serve, request, handles)
        finally:
            os._exit(code)

    def _reap(self) -> None:
        while True:
            try:
                died, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if died == 0:
                return
            self._say(died=died, code=os.waitstatus_to_exitcode(status))

    def _say(self, **message: Any) -> None:
        try:
            self._line.send(json.dumps(message).encode())
        except OSError:
            raise SystemExit(0) from None  # the supervisor is gone, and its workers see that for themselves


def _work(serve: Serve, request: dict[str, Any], handles: list[int]) -> int:
    try:
        redirect_output(Path(request["log"]))
        Path("/proc/self/comm").write_text(Path(request["specification"]).stem[:15])  # what ps and top show
        for output in (sys.stdout, sys.stderr):
            output.reconfigure(line_buffering=True)  # type: ignore[union-attr]
        importlib.import_module("numpy").random.seed()  # or every worker draws the same numbers
        specification = Specification.load(Path(request["specification"]))
        code = serve(specification, Home(Path(request["home"])), Post.of(handles, request["number"]))
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def main() -> None:
    """The command line of the nursery."""
    parser = argparse.ArgumentParser(description="Fork workers on request.")
    parser.add_argument("--line", type=int, required=True, help="descriptor of the line to the supervisor")
    line = socket.socket(fileno=parser.parse_args().line)
    for name in HEAVY:
        importlib.import_module(name)
    for name in CALM:
        os.environ.pop(name, None)  # workers may use threads as they like
    if threads() != 1:
        line.send(json.dumps({"unsafe": threads()}).encode())
        return
    gc.collect()
    gc.freeze()
    Nursery(line, importlib.import_module("churnstream.local.worker").run).run()


if __name__ == "__main__":
    main()
