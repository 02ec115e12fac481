"""nbval in two processes: their kernels must not meet on a port."""

from mtlkit.notebook import kernels_by_socket_file

kernels_by_socket_file()


def pytest_collection_modifyitems(items):
    """A figure may take longer than nbval's five seconds to arrive on a busy machine."""
    for item in items:
        if hasattr(item, "output_timeout"):
            item.output_timeout = 60
