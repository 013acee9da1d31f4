"""A line of the access log: one JSON object per request to a deployment.

The load balancer writes it, telemetry reads it. What has no value is left out.

======================= ==========================================================================
id                      a UUID of the entry's own
time                    when the request's first byte came, UTC, RFC 3339 with milliseconds
deployment              OCID; absent where no deployment was found for the path
request                 ``opc-request-id``
method, path, protocol  as they were routed; the query is left out: clients put secrets there
status                  of the response
flags                   Envoy's response flags: why it responded itself (``UO``: too busy), ``-`` if
                        it did not
total_ms                from the request's first byte to the response's last
copy_us                 from when the request was passed on to the first byte of the copy's
                        response: waiting for a free copy, and ``predict``; absent where no copy
                        was asked
bytes_in, bytes_out     body bytes
held_ms                 for how long the provisioned bandwidth delayed the request and its response;
                        absent where it did not
copy                    who responded: instance, copy, revision, and µs in ``predict`` (nothing if
                        it did not come to that; of a stream, to its first part),
                        ``8b1f0c7a55d2/1/3c9d02e1aa70/412``
======================= ==========================================================================
"""

FIELDS = (
    "id",
    "time",
    "deployment",
    "request",
    "method",
    "path",
    "protocol",
    "status",
    "flags",
    "total_ms",
    "copy_us",
    "bytes_in",
    "bytes_out",
    "held_ms",
    "copy",
)
