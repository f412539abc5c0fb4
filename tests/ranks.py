# SPDX-License-Identifier: Apache-2.0
"""A function in several processes, the ranks of a training."""

from collections.abc import Callable

import torch.multiprocessing as mp


def run_ranks(worker: Callable[..., None], args: tuple, num: int) -> None:
    """Run worker(rank, *args) in `num` processes, which are forks of one that has imported torch and the trainer.

    mp.spawn would import them in each process, which takes 4 s of processor time.
    """
    mp.get_context("forkserver").set_forkserver_preload(["rawnext.training.trainer"])
    mp.start_processes(worker, args, num, start_method="forkserver")
