"""Where instances run.

The contracts are `base` and `model_channel`. `process` is the engine of this machine's processes:
`copy_code`, `confinement`, `users`, `variables` and `java` prepare one, `instance_folder`, `output`
and `trash` are its files; `keeper_channel` speaks to its keeper by `keeper_protocol` and `checks`;
`keeper_process` and `endings` look at the process itself. `reader` is all that others read of
instances; `members` and `disk_use` are for housekeeping. `fake` is an engine for tests.
"""
