"""Makes what is observed what is desired, one pass over a deployment at a time.

::

    API, engine, clock --wake--> queue --> worker (loop)
                                             |
    one pass (reconcile):                    v
      load       snapshot     what the database holds            --> Snapshot
      look       observation  what engine and balancer report    --> Observation (raw)
      desire     snapshot     what should be                     --> Desired
      observe    observation  what is, with what time has shown  --> Observed
                 remembered
      plan       domain.rollout.planner   pure                   --> [Action]
      carry out  executor     engine, balancer, preparation, verification
      record     record       outcomes, progress, instances, in fenced transactions
                                             |
                                             v
      pace: in how many seconds the next pass is due --> queue

Only the holder of the lease makes passes: `leader_election` starts and stops the loop, and `fence`
keeps what is late from acting. A standby drains what it has from its time as the holder
(`standby`). Beside the passes: `preparation` and `verification` in the background, `leftovers` at
the start, `pass_monitor` for those that hang, and `housekeeping` of the home's disk.
"""
