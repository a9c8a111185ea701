"""What is ordered of the work on one model."""

from __future__ import annotations

from dataclasses import dataclass

AGAIN = "again"  # no verdict: with its external data the model is larger than its limits suit


@dataclass(frozen=True)
class Order:
    """What is wanted for one model; JSON-able as a dict."""

    path: str
    folder: str
    tools: tuple[str, ...]
    seed: int = 0
    target_opset: int = 23
    fold_bytes: int = 256 << 20
    timing_s: float = 0.1
    fused: bool = False  # whether a second model may use the runtime's own operators
    size_bytes: int = 0  # of the model that the limits of its process suit
