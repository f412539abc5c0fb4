#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""torchrun, whose processes start again after a fault, and with exit codes that a scheduler can act on.

steps/torchrun.py --standalone --nproc-per-node 4 steps/train.py --config conf/rawnext.yaml exp/rawnext

Takes all options of torchrun, also from its PET_* variables. When a process dies, all start again from the newest
checkpoint, up to --max-restarts times (3); not after a fault of configuration or data, which would come again.
Exit status: 0; 1 the processes failed; 75 they were asked to end (SIGTERM) and have saved: run it again.
"""

import argparse
import os
import signal
import sys

MAX_RESTARTS = "3"


def show_help() -> None:
    """The options that matter; torchrun's own parser, which knows all, takes seconds to import."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
                                     epilog="All options: python3 -m torch.distributed.run --help")
    parser.add_argument("--standalone", action="store_true", help="one machine, which needs no meeting place")
    for name, text in (("--nproc-per-node", "processes on this machine, or gpu, cpu, auto"),
                       ("--nnodes", "machines, or from:to"),
                       ("--rdzv-backend", "how machines find each other, as c10d"),
                       ("--rdzv-endpoint", "where they meet, HOST:PORT"),
                       ("--rdzv-id", "which meeting, the same word on each machine"),
                       ("--max-restarts", f"how often processes start again ({MAX_RESTARTS})")):
        parser.add_argument(name, help=text)
    parser.add_argument("program", nargs=argparse.REMAINDER, help="what each process runs, and its arguments")
    parser.print_help()


def main() -> int:
    if sys.argv[1:2] in (["-h"], ["--help"]):  # further on it may be the program's
        show_help()
        return 0
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher import api
    from torch.distributed.run import parse_args, run

    from rawnext.errors import EXIT_AGAIN, EXIT_FAULT

    class Agent(api.LocalElasticAgent):
        """Starts the processes again, unless they say that it would not help."""

        def _monitor_workers(self, worker_group):
            result = super()._monitor_workers(worker_group)
            if any(failure.exitcode == EXIT_FAULT for failure in result.failures.values()):
                self._remaining_restarts = 0
            return result

    api.LocalElasticAgent = Agent  # type: ignore[misc]
    # By default all lives of the processes share one store, where those started again find the addresses of the dead
    # and wait for them for ever (torch 2.13).
    os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
    try:
        run(parse_args(["--max-restarts", MAX_RESTARTS, *sys.argv[1:]]))
    except SignalException as error:
        # The processes got the signal too and have ended. Whatever the moment was, what they saved can be continued.
        print(f"torchrun.py: ended by {error.sigval.name}", file=sys.stderr)
        return EXIT_AGAIN if error.sigval == signal.SIGTERM else 128 + error.sigval
    except ChildFailedError as error:
        codes = {rank: failure.exitcode for rank, failure in sorted(error.failures.items())}
        print("torchrun.py: failed, process: exit code", *(f"{rank}: {code}" for rank, code in codes.items()),
              file=sys.stderr)
        return EXIT_AGAIN if EXIT_AGAIN in codes.values() else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
