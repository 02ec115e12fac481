"""nbval in two processes: their kernels must not meet on a port, start in a moment where processes can be forked, and a
figure may take long on a busy machine.
"""

import multiprocessing
import os
import sys
from pathlib import Path

import nbval.kernel
from jupyter_client.provisioning import local_provisioner

from mtlkit.kernels import PrivateKernelManager

nbval.kernel.KernelManager = PrivateKernelManager

if "forkserver" in multiprocessing.get_all_start_methods():
    sys.path.append(str(Path(__file__).parent.parent / "tests"))
    import forked_kernels

    os.environ.setdefault("MPLBACKEND", "module://matplotlib_inline.backend_inline")  # torchmetrics imports matplotlib
    forked_kernels.CONTEXT.set_forkserver_preload(forked_kernels.LIBRARIES)
    local_provisioner.launch_kernel = forked_kernels.Forked


def pytest_collection_modifyitems(items):
    for item in items:
        if hasattr(item, "output_timeout"):
            item.output_timeout = 60  # seconds; nbval's own five are too few when two kernels share two cores
