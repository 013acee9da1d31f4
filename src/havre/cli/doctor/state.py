"""The doctor's checks of a home: its settings, its database, its server."""

from collections.abc import Iterator

from havre import kept_settings
from havre.cli.doctor.finding import Finding, Verdict
from havre.cli.role import holder_elsewhere
from havre.domain.errors import HavreError
from havre.home import Home
from havre.operate import diagnosis
from havre.operate.connection import connect
from havre.settings import Settings
from havre.supervisor import server_file


def examine(home: Home, settings: Settings) -> Iterator[Finding]:
    yield _settings(home, settings)
    yield _database(home, settings)
    yield _server(home)


def _settings(home: Home, settings: Settings) -> Finding:
    check = "settings"
    try:
        kept_settings.check(home, settings)
    except HavreError as error:
        remedy = "set the earlier values, or see `havre up --change`"
        return Finding(check, Verdict.MISSING, error.message, remedy)
    return Finding(check, Verdict.OK, "same as at the home's last start")


def _database(home: Home, settings: Settings) -> Finding:
    # Not above: every command would wait for what this one check needs, most of its start.
    from havre.store import beginning
    from havre.store.database import Database, sqlite_url

    check = "database"
    try:
        database = Database(settings.database_url or sqlite_url(home.database))
    except HavreError as error:
        return Finding(check, Verdict.MISSING, error.message, "correct database_url")
    try:
        beginning.check(home, database)
        database.check_schema()
    except HavreError as error:
        remedy = "nothing can be changed until then; predictions go on"
        return Finding(check, Verdict.MISSING, error.message, remedy)
    finally:
        database.close()
    return Finding(check, Verdict.OK, f"{database.description} can be used")


def _server(home: Home) -> Finding:
    check = "server"
    try:
        about = server_file.read_if_whole(home)
    except HavreError:
        about = None
    if about is None:
        return Finding(check, Verdict.OK, "not running")
    trouble = diagnosis.trouble(home, about["url"])
    if trouble is None:
        detail = f"healthy at {about['url']}"
        if holder := holder_elsewhere(connect(home)):
            detail += f", a standby: deployments are served by {holder}"
        return Finding(check, Verdict.OK, detail)
    return Finding(check, Verdict.WARN, str(trouble), "see `havre status` and logs/ in the home")
