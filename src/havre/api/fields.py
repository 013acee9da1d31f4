"""From a request's fields to columns."""

from typing import Any

from havre.contract.base import RequestModel

COLUMNS = {
    "custom_metadata_list": "custom_metadata",
    "defined_metadata_list": "defined_metadata",
    "model_version_set_id": "version_set_id",
    "retention_duration": "retention_days",
}
"""Where a column has another name than the field."""

EMPTY: dict[str, Any] = {
    "freeform_tags": {},
    "defined_tags": {},
    "custom_metadata": [],
    "defined_metadata": [],
}
"""What null means for columns that always hold something."""


def columns_of(body: RequestModel) -> dict[str, Any]:
    """The columns that a request names. An absent key changes nothing; null empties a column, but
    leaves a display name as it is.
    """
    columns = {}
    for name, value in body.model_dump(mode="json", exclude_unset=True).items():
        column = COLUMNS.get(name, name)
        if value is not None:
            columns[column] = value
        elif column != "display_name":
            columns[column] = EMPTY.get(column)
    return columns
