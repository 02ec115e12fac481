"""Kernels of nbval as children of one process that has imported the libraries already: each starts in a moment, where
it would import torch and what stands on it for seconds. Nothing of mtlkit is imported there.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time

CONTEXT = multiprocessing.get_context("forkserver")
LIBRARIES = ["torch", "torchvision", "torchmetrics", "lightning_fabric", "pandas", "ipykernel.kernelapp"]


def _run(arguments, environment, folder):
    """What ``python -m ipykernel_launcher`` does, in a session of its own."""
    os.setsid()
    os.environ.clear()
    os.environ |= environment | {"JPY_PARENT_PID": str(os.getppid())}  # a kernel ends with its parent
    os.chdir(folder)
    silence = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(silence, stream)
    from ipykernel.kernelapp import IPKernelApp

    IPKernelApp.launch_instance(argv=arguments)


class Forked:
    """A kernel as jupyter_client knows it: what it uses of ``subprocess.Popen``."""

    stdin = stdout = stderr = None

    def __init__(self, command, env, cwd=None, **_):
        arguments = command[command.index("ipykernel_launcher") + 1 :]
        self.process = CONTEXT.Process(target=_run, args=(arguments, dict(env), cwd or os.getcwd()))
        self.process.start()
        self.pid = self.process.pid
        while self.process.is_alive() and os.getpgid(self.pid) != self.pid:  # or its group would be the server's
            time.sleep(0.001)

    def poll(self):
        return self.process.exitcode

    def wait(self, timeout=None):
        self.process.join(timeout)
        return self.process.exitcode

    def send_signal(self, number):
        os.kill(self.pid, number)

    def terminate(self):
        self.send_signal(signal.SIGTERM)

    def kill(self):
        self.send_signal(signal.SIGKILL)
