"""Shapes: how much of a machine one instance may use.

Names and sizes as in Oracle's public list of model-deployment shapes.
"""

from dataclasses import dataclass

from havre.domain.errors import InvalidParameter

GIB = 1024**3
THREADS_PER_OCPU = 2
MIN_GB_PER_OCPU = 1.0
MAX_GB_PER_OCPU = 64.0
BASELINES = {"BASELINE_1_8": 0.125, "BASELINE_1_2": 0.5, "BASELINE_1_1": 1.0}


@dataclass(frozen=True, slots=True)
class Shape:
    """A row of the catalogue. For flexible shapes the figures are the largest choice."""

    name: str
    ocpus: int
    memory_gb: int
    series: str
    is_flexible: bool = False

    @property
    def is_gpu(self) -> bool:
        return self.series == "NVIDIA_GPU"


@dataclass(frozen=True, slots=True)
class ShapeChoice:
    """A shape with its size settled: what one instance may use."""

    name: str
    ocpus: float
    memory_gb: float
    baseline: str = "BASELINE_1_1"

    @property
    def cpus(self) -> float:
        """Hardware threads the instance may use."""
        return self.ocpus * THREADS_PER_OCPU * BASELINES[self.baseline]

    @property
    def memory_bytes(self) -> int:
        return int(self.memory_gb * GIB)

    @property
    def default_copies(self) -> int:
        """Two copies per OCPU: one per hardware thread."""
        return max(1, round(self.ocpus * THREADS_PER_OCPU))


def _flex(name: str, ocpus: int, memory_gb: int, series: str) -> Shape:
    return Shape(name, ocpus, memory_gb, series, is_flexible=True)


SHAPES: tuple[Shape, ...] = (
    _flex("VM.Standard.E3.Flex", 64, 1024, "AMD_ROME"),
    _flex("VM.Standard.E4.Flex", 64, 1024, "AMD_ROME"),
    _flex("VM.Standard.E5.Flex", 94, 1049, "AMD_ROME"),
    _flex("VM.Standard3.Flex", 32, 512, "INTEL_SKYLAKE"),
    _flex("VM.Optimized3.Flex", 18, 256, "INTEL_SKYLAKE"),
    _flex("VM.Standard.A1.Flex", 80, 512, "ARM"),
    _flex("VM.Standard.A2.Flex", 78, 946, "ARM"),
    Shape("VM.Standard2.1", 1, 15, "INTEL_SKYLAKE"),
    Shape("VM.Standard2.2", 2, 30, "INTEL_SKYLAKE"),
    Shape("VM.Standard2.4", 4, 60, "INTEL_SKYLAKE"),
    Shape("VM.Standard2.8", 8, 120, "INTEL_SKYLAKE"),
    Shape("VM.Standard2.16", 16, 240, "INTEL_SKYLAKE"),
    Shape("VM.Standard2.24", 24, 320, "INTEL_SKYLAKE"),
    Shape("VM.GPU2.1", 12, 72, "NVIDIA_GPU"),
    Shape("VM.GPU3.1", 6, 90, "NVIDIA_GPU"),
    Shape("VM.GPU3.2", 12, 180, "NVIDIA_GPU"),
    Shape("VM.GPU3.4", 24, 360, "NVIDIA_GPU"),
    Shape("VM.GPU.A10.1", 15, 240, "NVIDIA_GPU"),
    Shape("VM.GPU.A10.2", 30, 480, "NVIDIA_GPU"),
    Shape("BM.GPU.A10.4", 64, 1024, "NVIDIA_GPU"),
    Shape("BM.GPU4.8", 64, 2048, "NVIDIA_GPU"),
    Shape("BM.GPU.A100-V2.8", 128, 2048, "NVIDIA_GPU"),
    Shape("BM.GPU.B4.8", 64, 2048, "NVIDIA_GPU"),
    Shape("BM.GPU.H100.8", 112, 2048, "NVIDIA_GPU"),
    Shape("BM.GPU.H200.8", 112, 3072, "NVIDIA_GPU"),
    Shape("BM.GPU.L40S-NC.4", 112, 1024, "NVIDIA_GPU"),
    Shape("BM.GPU.B200.8", 128, 4096, "NVIDIA_GPU"),
    Shape("BM.GPU.MI300X.8", 112, 2048, "NVIDIA_GPU"),
)

_BY_NAME = {shape.name: shape for shape in SHAPES}


def choose_shape(
    name: str,
    *,
    ocpus: float | None = None,
    memory_gb: float | None = None,
    baseline: str | None = None,
) -> ShapeChoice:
    """Settle a shape's size.

    Raises InvalidParameter with every problem: an unknown name, a flexible shape without figures,
    figures outside the shape's range.
    """
    shape = _BY_NAME.get(name)
    if shape is None:
        raise InvalidParameter(
            f"instanceShapeName {name!r} is not a shape of this server; "
            "GET /20190101/modelDeploymentShapes lists them"
        )
    problems = []
    if baseline is not None and baseline not in BASELINES:
        problems.append(f"cpuBaseline must be one of {', '.join(BASELINES)}, not {baseline!r}")
    if not shape.is_flexible:
        if problems:
            raise InvalidParameter(problems)
        return ShapeChoice(name, float(shape.ocpus), float(shape.memory_gb))
    if ocpus is None or memory_gb is None:
        raise InvalidParameter(
            [
                *problems,
                f"{name} is flexible: modelDeploymentInstanceShapeConfigDetails needs "
                "ocpus and memoryInGBs",
            ]
        )
    if not 1 <= ocpus <= shape.ocpus:
        problems.append(f"ocpus must be 1 to {shape.ocpus} for {name}, not {ocpus:g}")
    elif not MIN_GB_PER_OCPU * ocpus <= memory_gb <= min(MAX_GB_PER_OCPU * ocpus, shape.memory_gb):
        max_gb = min(MAX_GB_PER_OCPU * ocpus, shape.memory_gb)
        problems.append(
            f"memoryInGBs must be {MIN_GB_PER_OCPU * ocpus:g} to {max_gb:g} "
            f"for {name} with {ocpus:g} ocpus, not {memory_gb:g}"
        )
    if problems:
        raise InvalidParameter(problems)
    return ShapeChoice(name, float(ocpus), float(memory_gb), baseline or "BASELINE_1_1")
