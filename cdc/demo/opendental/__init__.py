"""A dental practice to replicate: OpenDental-shaped tables, invented rows, and a workload that changes them."""

from __future__ import annotations

from cdc.demo.opendental.build import create, load
from cdc.demo.opendental.workload import Report, Workload

__all__ = ["Report", "Workload", "create", "load"]
