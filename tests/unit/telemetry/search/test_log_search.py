"""The language of searches, over entries in the files that really hold them."""

import hashlib
import json
import os
import random
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from havre.cli.log_conditions import of_request
from havre.domain.errors import InvalidParameter
from havre.domain.logs import Category, LogAddress, LogStream
from havre.domain.ocid import Kind, new_ocid
from havre.home import Home
from havre.queries.log_parser import parse_query, quote_text
from havre.telemetry.files import layout
from havre.telemetry.files.log_reader import LogReader
from havre.telemetry.search.expressions import FIELDS
from havre.telemetry.search.log_search import LogSearch

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "20"))
ONE, OTHER = new_ocid(Kind.DEPLOYMENT), new_ocid(Kind.DEPLOYMENT)
TENANCY = new_ocid(Kind.TENANCY)
GROUP = new_ocid(Kind.LOG_GROUP)
LOGS = {category: new_ocid(Kind.LOG) for category in Category}
BEGAN_MS = int(datetime(2026, 11, 25, 10, tzinfo=UTC).timestamp() * 1000)
STATUSES = (200, 200, 200, 404, 500, 503)
OF_LINES = {1: "request-1,request-2", 2: "request-4"}
LINES = ("loaded in 3 ms", "100% of it_s 'rows' are C:\\odd*", "Traceback: ValueError")


@pytest.fixture(scope="module")
def search(tmp_path_factory: pytest.TempPathFactory) -> LogSearch:
    """Six requests to one deployment, one each 20 s, one to another; three lines of the one."""
    home = Home(tmp_path_factory.mktemp("home"))
    home.make()
    requests = [(ONE, status, 20 * number) for number, status in enumerate(STATUSES)]
    entries = [
        {
            "id": f"access-{number}",
            "time": f"2026-11-25T10:{seconds // 60:02d}:{seconds % 60:02d}.000Z",
            "deployment": deployment,
            "request": f"request-{number}",
            "method": "POST",
            "path": f"/{deployment}/predict",
            "protocol": "HTTP/1.1",
            "status": status,
            "flags": "UO" if status == 503 else "-",
            "total_ms": 10 * (number + 1),
            "bytes_in": 50,
            "bytes_out": 70,
            **({} if status == 503 else {"copy_us": 5000, "copy": "8b1f0c7a55d2/1/abc123/4000"}),
        }
        for number, (deployment, status, seconds) in enumerate([*requests, (OTHER, 200, 30)])
    ]
    home.access_log.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    live = layout.live_file(home, Category.PREDICT, ONE)
    live.parent.mkdir(parents=True)
    lines = [
        {
            "deployment": ONE,
            "id": f"predict-{number}",
            "time": BEGAN_MS + 1000 * number,
            "ingested": BEGAN_MS + 1000 * number + 500,
            "message": line,
            **({"request": OF_LINES[number]} if number in OF_LINES else {}),
        }
        for number, line in enumerate(LINES)
    ]
    live.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return LogSearch(LogReader(home), tenancy=TENANCY)


PLACES = [
    LogStream(
        deployment, category, LogAddress(TENANCY, GROUP, "group", LOGS[category], "l"), TENANCY
    )
    for deployment in (ONE, OTHER)
    for category in Category
]


def ask(search: LogSearch, stages: str, **more: Any) -> list[dict[str, Any]]:
    given = {"from_ms": BEGAN_MS, "to_ms": BEGAN_MS + 3_600_000, "limit": 100, "offset": 0, **more}
    query = parse_query(f'search "{TENANCY}"' + (f" | {stages}" if stages else ""))
    return search.search(query, PLACES, **given).rows


def ids(rows: list[dict[str, Any]]) -> list[str]:
    return [row["logContent"]["id"] for row in rows]


def numbers(rows: list[dict[str, Any]], category: str = "access") -> set[int]:
    found = [each.split("-") for each in ids(rows)]
    assert all(kind == category for kind, _ in found), found
    return {int(number) for _, number in found}


def test_what_is_of_a_request_is_found_by_its_id_alone_or_among_others(search):
    for request, found in (
        ("request-1", {"access-1", "predict-1"}),
        ("request-2", {"access-2", "predict-1"}),
        ("request-4", {"access-4", "predict-2"}),
        ("request-", set()),
    ):
        assert set(ids(ask(search, f"where {of_request(request)}"))) == found


def test_an_access_entry_is_a_record_of_oci(search):
    [row] = ask(search, "where id = 'access-4'")
    assert row == {
        "datetime": BEGAN_MS + 80_000,
        "logContent": {
            "id": "access-4",
            "time": "2026-11-25T10:01:20.000Z",
            "type": "com.oraclecloud.datascience.modeldeployment.access",
            "source": ONE,
            "specversion": "1.0",
            "oracle": {
                "compartmentid": TENANCY,
                "ingestedtime": "2026-11-25T10:01:20.050Z",
                "loggroupid": GROUP,
                "logid": LOGS[Category.ACCESS],
                "tenantid": TENANCY,
            },
            "data": {
                "logEmissionTime": "2026-11-25T10:01:20.000Z",
                "message": row["logContent"]["data"]["message"],
                "opcRequestId": "request-4",
                "instance": "8b1f0c7a55d2",
                "copy": 1,
                "revision": "abc123",
                "status": 500,
                "modelLatency": 4.0,
                "copyLatency": 5.0,
                "totalLatency": 50.0,
                "method": "POST",
                "path": f"/{ONE}/predict",
                "protocol": "HTTP/1.1",
                "bytesIn": 50,
                "bytesOut": 70,
            },
        },
    }


def test_a_line_of_the_model_is_a_record_of_oci(search):
    [row] = ask(search, "where id = 'predict-2'")
    content = row["logContent"]
    assert content["type"] == "com.oraclecloud.datascience.modeldeployment.predict"
    assert content["oracle"]["logid"] == LOGS[Category.PREDICT]
    assert content["oracle"]["ingestedtime"] == "2026-11-25T10:00:02.500Z"
    assert content["data"] == {
        "logEmissionTime": "2026-11-25T10:00:02.000Z",
        "message": "Traceback: ValueError",
        "opcRequestId": "request-4",
    }


@pytest.mark.parametrize(
    ("where", "found"),
    [
        ("data.status = 200", {0, 1, 2, 6}),
        ("logContent.data.status != 200", {3, 4, 5}),
        ("data.status <> 200 and data.status < 500", {3}),
        ("data.status >= 500", {4, 5}),
        ("500 <= data.status", {4, 5}),
        ("data.status > 404 or data.status = '404'", {3, 4, 5}),
        ("data.status = '5*'", {4, 5}),
        ("not data.status = 200", {3, 4, 5}),
        ("not (data.status = 200 or data.status = 500)", {3, 5}),
        ("data.status in (404, 503)", {3, 5}),
        ("data.totalLatency / 10 > 2 + 2 and data.status < 600", {4, 5, 6}),
        ("-data.totalLatency > -25", {0, 1}),
        ("data.modelLatency = null and data.status != null", {5}),
        ("isnull(data.copyLatency) and isnotnull(data.status)", {5}),
        ('"data"."flags" = \'UO\'', {5}),
        ("\"data.flags\" = 'UO'", {5}),
        (f"source = '*{OTHER}'", {6}),
        (f"source = '{OTHER}'", {6}),
        ("type = '*.access' and data.totalLatency <= 20", {0, 1}),
        ("data.opcRequestId = 'request-3' and type = '*access'", {3}),
        ("datetime > 1795600860000", {4, 5}),
        ("datetime >= '2026-11-25T10:01:20Z'", {4, 5}),
        ("time = '2026-11-25T10:00:30.000Z'", {6}),
        ("logContent = '503'", {5}),
        ("logContent = '*request-4*' and type = '*access'", {4}),
        ("upper(data.method) = 'POST' and lower(data.flags) = 'uo'", {5}),
        ("concat(data.method, ' ', data.status) = 'POST 404'", {3}),
        ("rounddown(datetime, '1m') = '2026-11-25T10:01:00Z'", {3, 4, 5}),
        ("true and data.status = 404", {3}),
        ("data.status = data.status and data.bytesIn < data.bytesOut and id = 'access-0'", {0}),
    ],
)
def test_conditions_on_requests(search, where, found):
    assert numbers(ask(search, f"where {where}")) == found


@pytest.mark.parametrize(
    ("where", "found"),
    [
        ("data.message = 'loaded in 3 ms'", {0}),
        ("data.message = 'loaded*'", {0}),
        ("data.message != 'loaded*' and type = '*.predict'", {1, 2}),
        (r"data.message = '*it\'s*'", set()),
        ("data.message = '*it_s ''rows''*'", {1}),
        (r"data.message = '*\\odd\*'", {1}),
        (r"data.message = '*\*'", {1}),
        ("data.message = '100%*'", {1}),
        ("data.message = 'l_aded*'", set()),
        ("data.message = 'LOADED*'", set()),
        ("contains_ci(data.message, 'LOADED')", {0}),
        ("contains_cs(data.message, 'LOADED')", set()),
        ("contains_ci(data.message, 'Loaded', true)", set()),
        ("contains_ci(logContent, 'valueerror')", {2}),
        ("'valueerror'", {2}),
        ("logContent = '*ValueError'", {2}),
        ("logContent != '*ValueError' and type = '*predict'", {0, 1}),
        ("oracle.logid = '" + LOGS[Category.PREDICT] + "' and id = '*-1'", {1}),
        ("data.opcRequestId = 'request-4' and data.status = null", {2}),
    ],
)
def test_conditions_on_lines(search, where, found):
    assert numbers(ask(search, where), "predict") == found


def test_the_newest_come_first_unless_it_is_sorted(search):
    rows = ask(search, "type = '*access'")
    assert ids(rows) == [f"access-{number}" for number in (5, 4, 3, 2, 6, 1, 0)]
    rows = ask(search, "type = '*access' | sort by datetime", limit=3)
    assert ids(rows) == ["access-0", "access-1", "access-6"]
    assert ids(ask(search, "sort by datetime desc | sort by type", limit=1)) == ["access-5"]
    rows = ask(search, "type = '*access' | sort by data.status desc, datetime")
    assert ids(rows) == [f"access-{number}" for number in (5, 4, 3, 0, 1, 6, 2)]
    rows = ask(search, "where type = '*access' | top 2 by data.totalLatency | sort by datetime")
    assert ids(rows) == ["access-6", "access-5"]
    assert ids(ask(search, "sort by datetime asc | limit 1")) == ["access-0"]
    assert ids(ask(search, "dedup type | sort by type")) == ["access-5", "predict-2"]


def test_a_time_is_from_the_first_moment_on_and_before_the_last(search):
    rows = ask(search, "type = '*access'", from_ms=BEGAN_MS + 20_000, to_ms=BEGAN_MS + 60_000)
    assert numbers(rows) == {1, 2, 6}


def test_pages_hold_every_entry_once(search):
    pages = [ask(search, "type = '*access'", limit=3, offset=offset) for offset in (0, 3, 6)]
    assert [len(page) for page in pages] == [3, 3, 1]
    assert sorted(ids([row for page in pages for row in page])) == [f"access-{n}" for n in range(7)]


def test_counts(search):
    assert ask(search, "count") == [{"count": 10}]
    assert ask(search, "where data.status >= 500 | count") == [{"count": 2}]
    rows = ask(search, "summarize count() by data.status | sort by count desc | limit 2")
    assert rows[0] == {"data.status": 200, "count": 4}
    assert rows[1] == {"data.status": None, "count": 3}


def test_counts_over_time(search):
    rows = ask(
        search,
        "where type = '*access' | summarize count() as n, avg(data.totalLatency), "
        "max(data.status) as worst, first(id), last(id) as oldest by rounddown(datetime, '1m')",
    )
    assert rows == [
        {
            "datetime": BEGAN_MS,
            "n": 4,
            "avg(data.totalLatency)": 32.5,
            "worst": 200,
            "first(id)": "access-2",
            "oldest": "access-0",
        },
        {
            "datetime": BEGAN_MS + 60_000,
            "n": 3,
            "avg(data.totalLatency)": 50.0,
            "worst": 503,
            "first(id)": "access-5",
            "oldest": "access-3",
        },
    ]
    rows = ask(
        search,
        "summarize count(data.status) as n by rounddown(datetime, '1m') as minute, data.status "
        "| where n >= 1 | summarize sum(n) as all_of_them, count() as groups",
    )
    assert rows == [{"all_of_them": 7.0, "groups": 4}]


def test_selected_fields(search):
    rows = ask(
        search,
        'where data.status = 404 | select datetime, "data"."status", time, '
        "data.totalLatency * 2 as twice, upper(data.flags)",
    )
    assert rows == [
        {
            "datetime": BEGAN_MS + 60_000,
            "data.status": 404,
            "time": "2026-11-25T10:01:00.000Z",
            "twice": 80.0,
            "upper(data.flags)": None,
        }
    ]
    [row] = ask(search, "where id = 'access-0' | extend data.totalLatency / 0 as nothing")
    assert (row["nothing"], row["logContent"]["id"]) == (None, "access-0")
    [row] = ask(search, "id = 'access-0' | select *, id as who | where who = '*0'")
    assert (row["who"], row["logContent"]["id"]) == ("access-0", "access-0")


@pytest.mark.parametrize(
    ("stages", "word"),
    [
        ("where data.stauts = 5", "there is no field data.stauts"),
        ('where data.message = "text"', "single quotes"),
        ("where data.status", "a condition compares something"),
        ("where data.status = 'many'", "'many' is compared with a number"),
        ("where data.status > '5*'", "by = or !=, not by >"),
        ("where logContent > 'a'", "by = or !="),
        ("where logContent = 5", "compared with a text"),
        ("select logContent", "can be compared"),
        ("where datetime > 'yesterday'", "write 2026-11-25T10:00:00Z"),
        ("where data.message + 1 = 2", "+ is for numbers"),
        ("where substring(data.message, 1) = 'a'", "the functions are concat, contains_ci"),
        ("where rounddown(datetime, '5 minutes') = 1", "rounddown(datetime, '1m')"),
        ("where contains_ci(data.message)", "contains_ci(data.message, 'text')"),
        ("where (data.status = 1) = 5", "cannot be compared"),
        ("where data.status > null", "null is compared by = or !="),
        ("summarize sum(data.message)", "sum() is of numbers"),
        ("summarize count(), count()", "two columns would be called count"),
        ("summarize count() | where data.status = 1", "those there are: count"),
        ("summarize count() | where 'text'", "a condition compares something"),
    ],
)
def test_what_makes_no_sense_is_refused_with_what_would(search, stages, word):
    with pytest.raises(InvalidParameter) as refused:
        ask(search, stages)
    assert word in refused.value.message


def test_files_of_what_a_condition_rules_out_are_not_opened(search, monkeypatch):
    asked = []
    query = LogReader.query

    def note(self, *arguments, **named):
        asked.append((named["category"], named["deployments"]))
        return query(self, *arguments, **named)

    monkeypatch.setattr(LogReader, "query", note)
    ask(search, f"WHERE source = '*{ONE}' AND type = '*.access' | sort by datetime")
    ask(search, f"WHERE source = '*{ONE}' or type = '*.access'")
    ask(search, "summarize count() by source | where source = 'x'")
    assert asked == [(Category.ACCESS, {ONE}), (None, {ONE, OTHER}), (None, {ONE, OTHER})]


def test_a_quoted_text_stands_for_itself(search):
    for line in LINES:
        [row] = ask(search, f"data.message = {quote_text(line)}")
        assert row["logContent"]["data"]["message"] == line


LEAVES = st.sampled_from(
    (
        *FIELDS,
        *("5", "-1", "0", "2.5e200", "'5*'", "'x'", "'2026-11-25'", "'1m'", "''", "null", "true"),
        *("'a%_\\\\ '' OR 1=1 --'", "'\\*'", "count", "x", '"data"."status"'),
    )
)
FORMS = (
    *("({} = {})", "({} != {})", "({} < {})", "({} >= {})", "({} + {})", "({} / {})", "({} - {})"),
    *("({} and {})", "({} or {})", "(not {0})", "rounddown({}, {})", "contains_ci({}, {})"),
    *("concat({}, {})", "upper({0})", "isnull({0})", "({} in ({}))", "(-{0})"),
)
EXPRESSIONS = st.recursive(
    LEAVES,
    lambda inner: st.builds(
        lambda form, *parts: form.format(*parts), st.sampled_from(FORMS), inner, inner
    ),
    max_leaves=4,
)
STAGES = st.builds(
    lambda form, one, other: form.format(one, other),
    st.sampled_from(
        (
            *("where {}", "sort by {} desc, {}", "top 2 by {}", "limit 3", "dedup {}, {}", "count"),
            *("select {} as x, *", "select {}", "extend {} as x", "summarize count() by {}, {}"),
            *("summarize first({}) as x, last({})", "summarize min({}) as x, max({}) by type"),
            *(
                "summarize sum({}) as x, count({}) by rounddown(datetime, '1m')",
                "summarize avg({})",
            ),
        )
    ),
    EXPRESSIONS,
    EXPRESSIONS,
)


@settings(max_examples=EXAMPLES)
@given(stages=st.lists(STAGES, min_size=1, max_size=4))
def test_whatever_is_asked_is_answered_or_refused(search, stages):
    try:
        rows = ask(search, " | ".join(stages))
    except InvalidParameter as refused:
        told = refused.message
        assert "searchQuery" in told
    else:
        json.dumps(rows, allow_nan=False)


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> LogSearch:
    """Thirty lines of one millisecond and one request, in a live file, as they may lie there: in
    any order, with ids of any order.
    """
    home = Home(tmp_path_factory.mktemp("printed"))
    home.make()
    live = layout.live_file(home, Category.PREDICT, ONE)
    live.parent.mkdir(parents=True)
    lines = [
        {
            "deployment": ONE,
            "id": hashlib.sha256(b"%d" % number).hexdigest(),
            "time": BEGAN_MS,
            "position": BEGAN_MS * 1000 + number,
            "ingested": BEGAN_MS,
            "message": f"line {number}",
            "request": "R",
        }
        for number in range(30)
    ]
    random.Random(3).shuffle(lines)
    live.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return LogSearch(LogReader(home), tenancy=TENANCY)


@pytest.mark.parametrize(
    ("stages", "is_newest_first"),
    [
        ("", True),
        ("sort by datetime", False),
        ("sort by datetime asc", False),
        ("sort by datetime desc", True),
        ("sort by logContent.time desc", True),
        ("sort by time", False),
        ("sort by data.logEmissionTime", False),
        ("sort by datetime asc, data.opcRequestId desc", False),
        ("sort by data.opcRequestId | sort by datetime", False),
        ("sort by datetime | sort by data.opcRequestId", False),
        ("sort by datetime | sort by datetime desc", True),
        ("where data.message = 'line *' | sort by datetime", False),
    ],
)
def test_lines_of_one_millisecond_come_as_they_were_printed(printed, stages, is_newest_first):
    wanted = [f"line {number}" for number in range(30)]
    if is_newest_first:
        wanted.reverse()
    pages = [ask(printed, stages, limit=7, offset=offset) for offset in range(0, 30, 7)]
    shown = [row["logContent"]["data"]["message"] for page in pages for row in page]
    assert shown == wanted
    assert [each["logContent"]["data"]["message"] for each in ask(printed, stages)] == wanted


def test_the_times_that_records_show_sort_them_as_they_were_printed(printed):
    newest = ask(printed, "sort by datetime desc | limit 5")
    shown = sorted(newest, key=lambda row: row["logContent"]["time"])
    assert [row["logContent"]["data"]["message"] for row in shown] == [
        f"line {number}" for number in range(25, 30)
    ]
    time = shown[0]["logContent"]["time"]
    assert ids(ask(printed, f"where time = '{time}'")) == ids(shown[:1])
    assert time == "2026-11-25T10:00:00.000025Z"


def test_first_and_last_of_a_group_are_those_printed_first_and_last(printed):
    [row] = ask(
        printed,
        "sort by datetime | summarize first(data.message) as a, last(data.message) as b "
        "by data.opcRequestId",
    )
    assert (row["a"], row["b"]) == ("line 0", "line 29")
