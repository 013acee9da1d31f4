"""Rollouts: what is desired and what is observed in, the next actions out. Pure.

::

    policy          how careful a rollout is, read from a deployment's tags
    planner_input   Desired and Observed, what the planner is given
    planner         plan(desired, observed) -> actions
    actions         what the planner can ask for
    canary          whether a canary's step has shown enough, or too much
    replay          whether a new revision answers live requests as the old one did
    queueing        how many requests an instance may hold
"""
