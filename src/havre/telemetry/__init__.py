"""Logs and metrics of deployments: collected, stored, queried and exported. No prediction waits
for any of it.

::

    __main__   the process: a loop over collectors, and one over exporters
    logs/      what the load balancer and the copies write becomes entries
    files/     where entries lie: live files, closed files, segments; queries over them
    search/    a log query becomes SQL, and rows become records
    metrics/   requests and instances become points; Prometheus' text
    otlp/      both go to an OpenTelemetry collector
"""
