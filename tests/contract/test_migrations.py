"""From a database as the first version left it to this one's, on both kinds; nothing is lost."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import JSON, Column, Connection, DateTime, MetaData, Table
from sqlalchemy.orm import configure_mappers

from havre.domain.errors import IncorrectState
from havre.store.database import MIGRATIONS, Database
from havre.store.schema import Base

FIRST = "0001"
WHEN = datetime(2026, 3, 4, 5, 6, 7, 891000, tzinfo=UTC)


@pytest.fixture
def engine(empty_database: Database) -> Iterator[sqlalchemy.Engine]:
    """Another way into the database of the test: what havre's own does to it is looked at."""
    engine = sqlalchemy.create_engine(empty_database.url)
    yield engine
    engine.dispose()


def test_every_row_of_the_first_schema_is_there_in_the_last(
    empty_database: Database, engine: sqlalchemy.Engine
) -> None:
    with engine.begin() as connection:
        migrate_to(FIRST, connection)
        tables = tables_of(connection)
        for table in tables:
            connection.execute(table.insert(), {each.name: value_of(each) for each in table.c})
        before = {table.name: rows_of(table, connection) for table in tables}
    assert all(len(rows) == 1 for rows in before.values())
    empty_database.migrate()
    with engine.connect() as connection:
        after = {table.name: rows_of(table, connection) for table in tables_of(connection)}
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, Base.metadata) == []
    for name, [row] in before.items():
        [kept] = after[name]
        assert {key: kept[key] for key in row.keys() & kept.keys()} == {
            key: value for key, value in row.items() if key in kept
        }
    # And this version's classes can read them.
    with empty_database.read() as session:
        configure_mappers()
        for mapper in Base.registry.mappers:
            if mapper.local_table.name in before:
                assert len(session.query(mapper.class_).all()) == 1


def test_a_database_of_a_newer_version_is_refused_and_left_alone(
    empty_database: Database, engine: sqlalchemy.Engine
) -> None:
    empty_database.migrate()
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    for use in (empty_database.check_schema, empty_database.migrate):
        with pytest.raises(IncorrectState, match=r"a newer version .* is 9999; this version knows"):
            use()
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT version_num FROM alembic_version").all() == [
            ("9999",)
        ]


def test_a_look_at_the_schema_changes_nothing(
    empty_database: Database, engine: sqlalchemy.Engine
) -> None:
    empty_database.check_schema()
    with engine.connect() as connection:
        assert sqlalchemy.inspect(connection).get_table_names() == []
        migrate_to(FIRST, connection)
        connection.commit()
    empty_database.check_schema()
    with engine.connect() as connection:
        assert MigrationContext.configure(connection).get_current_revision() == FIRST


def migrate_to(revision: str, connection: Connection) -> None:
    configuration = Config()
    configuration.set_main_option("script_location", str(Path(MIGRATIONS)))
    configuration.attributes["connection"] = connection
    command.upgrade(configuration, revision)


def tables_of(connection: Connection) -> list[Table]:
    """As the database has them, whoever is referred to first."""
    metadata = MetaData()
    metadata.reflect(connection)
    return [table for table in metadata.sorted_tables if table.name != "alembic_version"]


def rows_of(table: Table, connection: Connection) -> list[dict[str, Any]]:
    return [dict(row) for row in connection.execute(table.select()).mappings()]


def value_of(column: Column[Any]) -> Any:
    """One that fits its type, and for a reference that of the row referred to."""
    for reference in column.foreign_keys:
        return value_of(reference.column)
    if isinstance(column.type, JSON):
        return {"kept": [column.name, "é", 1.5, None]}
    if isinstance(column.type, DateTime):
        return WHEN
    if issubclass(column.type.python_type, int | float):
        return 1
    return f"{column.table.name}.{column.name} é"[: getattr(column.type, "length", None)]
