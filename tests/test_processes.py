"""A kernel that is forked is as fresh as one that starts from nothing, and ends like it."""

import signal
import sys

import pytest
from jupyter_client.manager import run_kernel
from jupyter_client.provisioning import KernelProvisionerFactory
from processes import WarmKernel

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="kernels are forked on Linux alone")
LOOK = """
import multiprocessing, os, signal, sys
path = sorted(set(sys.path))
import matplotlib.pyplot, numpy, torch
names = sorted(set(globals()))
same = [names, __name__, path, os.getcwd(), os.getpid() == os.getsid(0), os.read(0, 1)]
same += [sorted(pair for pair in os.environ.items() if pair[0] != "JPY_PARENT_PID"), signal.getsignal(2)]
same += [matplotlib.get_backend(), multiprocessing.get_start_method(), torch.get_num_threads()]
same += [name for name in ("conftest", "processes", "pytest") if name in sys.modules]
drawn = [numpy.random.rand(), torch.rand(1).item()]
"""


@pytest.fixture
def kernel(monkeypatch):
    """A function that starts a kernel, for a `with`."""

    def start(name, **options):
        monkeypatch.setattr(KernelProvisionerFactory.instance(), "default_provisioner_name", name)
        return run_kernel(**options)

    return start


def look(client):
    reply = client.execute_interactive(LOOK, user_expressions={"same": "same", "drawn": "drawn"}, timeout=120)
    found = reply["content"]["user_expressions"]
    return [found[name]["data"]["text/plain"] for name in ("same", "drawn")]


@pytest.mark.full
def test_a_forked_kernel_finds_what_one_from_nothing_finds_and_draws_its_own_numbers(
    kernel, tmp_path, monkeypatch
):
    monkeypatch.syspath_prepend(tmp_path / "from a test")
    seen = []
    for name in ("local-provisioner", "warm", "warm"):
        with kernel(name, cwd=str(tmp_path)) as client:
            assert isinstance(client.parent.provisioner.process, WarmKernel) == (name == "warm")
            seen.append(look(client))
    (cold, one), (warm, other), (again, third) = seen
    assert cold == warm == again
    assert len({one, other, third}) == 3


def loop(client):
    """Start what never ends, wait until it runs, and return the number of the request."""
    request = client.execute("print('here', flush=True)\nwhile True: pass", stop_on_error=False)
    # An input that is announced does not run yet: what interrupts in between stops the kernel's own work.
    while client.get_iopub_msg(timeout=60)["msg_type"] != "stream":
        pass
    return request


def reply(client, request):
    while (found := client.get_shell_msg(timeout=60))["parent_header"]["msg_id"] != request:
        pass
    return found["content"]


def test_a_forked_kernel_is_interrupted_and_killed(kernel):
    with kernel("warm") as client:
        request = loop(client)
        client.parent.interrupt_kernel()
        assert reply(client, request)["ename"] == "KeyboardInterrupt"
        loop(client)
        client.parent.signal_kernel(signal.SIGKILL)
        assert client.parent.provisioner.process.wait() == -signal.SIGKILL
