"""A supervisor in a process of its own, to be killed: workers with the given switches, under a guard.

Prints one line with the pids of the guard, the workers and their grandchildren once two workers are ready.
"""

import os
import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import trio

from appliance.core.identity import WorkerId
from appliance.supervision.guard_client import GuardClient
from appliance.supervision.supervisor import Supervisor
from appliance.supervision.surroundings import Surroundings
from tests.helpers.instances import ignore_drain, make_instance
from tests.helpers.scripted import GUARD_ARGV, open_reports

WORKERS = 2


async def main(switches: tuple[str, ...]) -> None:
    ready: set[WorkerId] = set()
    async with GuardClient(GUARD_ARGV, os.environ) as guard, open_reports() as reports, trio.open_nursery() as nursery:
        surroundings = Surroundings(launch=reports.launch, begin_drain=ignore_drain, ledger=lambda _: None, guard=guard)
        supervisor = Supervisor(surroundings)
        await nursery.start(supervisor.run)
        supervisor.set_wanted([make_instance(index, argv=switches) for index in range(WORKERS)])

        def on_ready(worker: WorkerId) -> None:
            supervisor.on_ready(worker, None)
            ready.add(worker)
            if len(ready) == WORKERS:
                print(guard.pid, *reports.all_pids, flush=True)

        nursery.start_soon(partial(reports.read, on_ready))


trio.run(main, tuple(sys.argv[1:]))
