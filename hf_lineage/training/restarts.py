"""Processes that a launcher has started again after one of them died (`accelerate launch --max_restarts`)."""

import os

from torch import distributed


def join_after_restart(backend: str):
    """Joins the restarted processes of one machine in a group with keys of its own; else leaves it to accelerate.

    The launcher keeps its store, which still holds the addresses of the processes that ended: one that reads them
    before they are replaced would wait for nobody.
    """
    attempt, machines = (os.environ.get(name, "0") for name in ("TORCHELASTIC_RESTART_COUNT", "GROUP_WORLD_SIZE"))
    keeps_store = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    if attempt == "0" or machines != "1" or not keeps_store or distributed.is_initialized():
        return
    store = distributed.TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False)
    rank, number = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    own = distributed.PrefixStore(f"attempt_{attempt}", store)
    distributed.init_process_group(backend, store=own, rank=rank, world_size=number)
