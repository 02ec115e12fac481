"""Kernels that talk by files in a folder of their own instead of ports.

A port is chosen before the kernel binds it, and of kernels that start at the same moment one may find its port taken,
and dies.
"""

from __future__ import annotations

import os
import shutil
import tempfile

from jupyter_client.connect import ConnectionFileMixin
from jupyter_client.manager import AsyncKernelManager, KernelManager
from traitlets import default


class _Private(ConnectionFileMixin):
    @default("transport")
    def _transport_by_file(self) -> str:
        return "ipc" if os.name == "posix" else "tcp"

    @default("ip")
    def _folder_of_its_own(self) -> str:
        if self.transport != "ipc":
            return "127.0.0.1"
        self._sockets = tempfile.mkdtemp(prefix="mtlkit-")
        return os.path.join(self._sockets, "kernel")

    def cleanup_ipc_files(self) -> None:
        super().cleanup_ipc_files()
        if hasattr(self, "_sockets"):
            shutil.rmtree(self._sockets, ignore_errors=True)


class PrivateKernelManager(_Private, KernelManager):
    """For nbval."""


class AsyncPrivateKernelManager(_Private, AsyncKernelManager):
    """For papermill and nbclient."""
