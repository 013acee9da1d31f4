"""The parent of every process of a home: start, watch, restart, stop, adopt.

`__main__` is the program, `supervisor` its loop, `supervised_process` one process in it; `records`
is what the next supervisor adopts by. `client` and `protocol` are for those who ask it. `spawn`
starts a process, and `confinement` confines it, by `cgroups`, `landlock`, `seccomp` and
`private_view`; `confined` and `guard` do both without a supervisor.
"""
