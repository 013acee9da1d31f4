"""Shapes on the wire."""

from typing import Annotated, Self

from pydantic import Field

from havre.contract.base import ResponseModel
from havre.domain.shape import Shape


class ModelDeploymentShapeSummary(ResponseModel):
    name: str
    core_count: int
    memory_in_gbs: Annotated[int, Field(alias="memoryInGBs")]
    shape_series: str

    @classmethod
    def of(cls, shape: Shape) -> Self:
        return cls(
            name=shape.name,
            core_count=shape.ocpus,
            memory_in_gbs=shape.memory_gb,
            shape_series=shape.series,
        )
