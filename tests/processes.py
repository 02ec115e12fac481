"""Child processes of tests. They come from a fork server that has imported torch already, so that one costs little."""

import multiprocessing

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["mtlkit.training", "mtlkit.architectures.hard", "torch.utils.tensorboard"])


def in_another(function, *arguments):
    """What a function of a module gives in another process, whose strings have other hashes."""
    with CONTEXT.Pool(1) as pool:
        return pool.apply(function, arguments)


def _on_a_rank(rank, address, function, results):
    import torch  # here: who imports this module may need none

    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    results.put((rank, function(rank)))
    torch.distributed.destroy_process_group()


def on_two_ranks(function, folder):
    """What ``function(rank)`` gives on each of two processes that compute together, as a pair.

    Args:
        function: of a module, not of another function; what it gives holds no tensors, which are shared between
            processes by files that vanish with them.
        folder: an empty one, for their meeting.
    """
    results = CONTEXT.Queue()
    address = f"file://{folder / 'meeting'}"
    ranks = [CONTEXT.Process(target=_on_a_rank, args=(rank, address, function, results)) for rank in (0, 1)]
    for process in ranks:
        process.start()
    found = dict(results.get(timeout=120) for _ in ranks)
    for process in ranks:
        process.join(timeout=60)
    return found[0], found[1]
