"""nbval in two processes: their kernels must not meet on a port, and a figure may take long on a busy machine."""

import nbval.kernel

from mtlkit.kernels import PrivateKernelManager

nbval.kernel.KernelManager = PrivateKernelManager


def pytest_collection_modifyitems(items):
    for item in items:
        if hasattr(item, "output_timeout"):
            item.output_timeout = 60  # seconds; nbval's own five are too few when two kernels share two cores
