"""Processes for the tests: forked from a server that has imported libraries and never used them."""

import functools
import gc
import multiprocessing
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib.metadata import EntryPoint
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from jupyter_client.provisioning import KernelProvisionerFactory, LocalProvisioner

try:
    import resource
except ImportError:  # Windows, where no kernel is forked
    resource = None

# So they start at once, and share nothing with the tests. Windows cannot fork.
PROCESSES = multiprocessing.get_context("spawn" if sys.platform == "win32" else "forkserver")
LIBRARIES = [
    "quick_start",
    *("accelerate", "ipykernel.kernelapp", "matplotlib.pyplot", "sklearn.linear_model", "torch._dynamo"),
    "torchvision.transforms.v2",
    *(f"tlutils.{name}" for name in ("checks", "claims", "features", "train", "widgets")),
]
PROCESSES.set_forkserver_preload(LIBRARIES)


def run(function: Callable[..., Any], *arguments: Any, seconds: int = 300, **environment: str) -> int:
    """Call a function in a process of its own; return its exit code: 9 or -9 when it was killed."""
    process = PROCESSES.Process(target=_call, args=(os.environ | environment, function, arguments))
    process.start()
    process.join(seconds)
    assert process.exitcode is not None, "still running"
    return process.exitcode


def run_group(function: Callable[..., Any], arguments: Sequence[tuple[Any, ...]], **environment: str) -> None:
    """Call a function with each of the arguments, at once, in processes told what torchrun tells its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    group = {"WORLD_SIZE": str(len(arguments)), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    with ThreadPoolExecutor(len(arguments)) as pool:
        ranks = [
            pool.submit(run, function, *own, **environment, **group, RANK=str(r), LOCAL_RANK=str(r))
            for r, own in enumerate(arguments)
        ]
        assert [rank.result() for rank in ranks] == [0] * len(arguments)


def _call(environment: dict[str, str], function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    os.environ.update(environment)
    multiprocessing.set_start_method(None, force=True)  # its own workers start as those of any program
    function(*arguments)


def warm_kernels() -> None:
    """From now on start each kernel that this process wants as a `WarmKernel`."""
    factory = KernelProvisionerFactory.instance(default_provisioner_name="warm")
    factory.provisioners["warm"] = EntryPoint("warm", f"{__name__}:WarmProvisioner", factory.GROUP_NAME)


class WarmKernel(PROCESSES.Process):
    """A kernel as `Popen` would start it, but that what lessons import was read and run before."""

    stdin = stdout = stderr = None

    def __init__(self, arguments, cwd, env, path, streams):
        super().__init__()
        self.arguments, self.cwd, self.env, self.path, self.streams = arguments, cwd, env, path, streams
        self.memory = resource.getrlimit(resource.RLIMIT_DATA)  # a child of `Popen` would inherit it

    def run(self):
        gc.freeze()  # what was imported is no garbage, and no search for some looks at it again
        os.setsid()
        resource.setrlimit(resource.RLIMIT_DATA, self.memory)
        parent = multiprocessing.parent_process()
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
        for number, stream in enumerate(self.streams, 1):
            os.dup2(stream.fileno(), number)
        os.chdir(self.cwd)
        os.environ.clear()
        os.environ.update(self.env)
        sys.argv = ["ipykernel_launcher", *self.arguments]
        sys.path = self.path
        del sys.modules[__name__]
        multiprocessing.set_start_method(None, force=True)

        # What these settle when they are imported.
        import matplotlib
        import numpy as np
        import torch
        from ipykernel.kernelapp import IPKernelApp

        np.random.seed()  # noqa: NPY002
        torch.seed()
        matplotlib.rcParams["backend"] = self.env.get(
            "MPLBACKEND", "module://matplotlib_inline.backend_inline"
        )
        IPKernelApp.launch_instance(parent_handle=parent.pid)

    def poll(self):
        return self.exitcode

    def wait(self):
        self.join()
        return self.exitcode

    def send_signal(self, number):
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)


def _end_with(parent):
    parent.join()
    os._exit(1)


@functools.cache
def _path(first):
    """Where a Python that starts from nothing looks for modules: pytest and what it imports added to that."""
    look = [sys.executable, "-c", "import sys; print(*filter(None, sys.path), sep='\\n')"]
    env = os.environ | {"PYTHONPATH": first}
    return subprocess.check_output(look, env=env).decode().splitlines()


class WarmProvisioner(LocalProvisioner):
    """Forks the kernels that run in this Python where that is safe; starts all others as ever."""

    async def launch_kernel(self, cmd, **kwargs):
        if sys.platform != "linux" or cmd[0] != sys.executable or "ipykernel_launcher" not in cmd:
            return await super().launch_kernel(cmd, **kwargs)
        streams = [kwargs.get("stdout") or sys.__stdout__, kwargs.get("stderr") or sys.__stderr__]
        self.process = WarmKernel(
            cmd[cmd.index("ipykernel_launcher") + 1 :],
            kwargs.get("cwd") or Path.cwd(),
            kwargs["env"],
            _path(kwargs["env"].get("PYTHONPATH", "")),
            [Connection(os.dup(stream.fileno())) for stream in streams],  # which processes can be given
        )
        self.process.start()
        self.pid = self.pgid = self.process.pid
        self.cwd = self.process.cwd
        return self.connection_info
