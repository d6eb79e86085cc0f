"""A dental practice to replicate: OpenDental-shaped tables, invented rows, and a workload that changes them."""

from __future__ import annotations

from .build import create, load
from .workload import Report, Workload

__all__ = ["Report", "Workload", "create", "load"]
