#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""torchrun with restarts only where they can help, and exit codes for a scheduler.

  steps/torchrun.py --standalone --nproc-per-node 4 steps/train.py --config conf/rawnext.yaml exp/rawnext

Takes torchrun's options (python3 -m torch.distributed.run --help), also from its PET_* variables. When a process dies,
all are started again from the newest checkpoint, up to --max-restarts times (default 3), but not after an error in the
configuration or data, which would recur.
Exit status: 0 success; 1 the processes failed; 75 they saved their state on SIGTERM and can be run again.
"""

import os
import signal
import sys
from tempfile import TemporaryDirectory

MAX_RESTARTS = "3"


def main() -> int:
    if sys.argv[1:2] in ([], ["-h"], ["--help"]):  # later it may be the program's; torchrun's own takes seconds
        print(__doc__)
        return 0
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher import api
    from torch.distributed.run import parse_args, run

    from rawnext.errors import EXIT_AGAIN, EXIT_FAULT

    class Agent(api.LocalElasticAgent):
        """Does not restart the processes after an error that would recur, on any node."""

        def _monitor_workers(self, worker_group):
            result = super()._monitor_workers(worker_group)
            if any(failure.exitcode == EXIT_FAULT for failure in result.failures.values()):
                raise ChildFailedError(worker_group.spec.get_entrypoint_name(), result.failures)
            return result

    api.LocalElasticAgent = Agent  # type: ignore[misc]
    # By default a restart reuses the store of the dead processes: the new ones find the old addresses and hang
    # (torch 2.13).
    os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
    try:
        with TemporaryDirectory(prefix="torchrun_") as logs:  # torch would leave its own in place
            run(parse_args(["--max-restarts", MAX_RESTARTS, "--log-dir", logs, *sys.argv[1:]]))
    except SignalException as error:
        # The processes got the signal too and have ended; what they saved can be continued.
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
