"""One self-contained HTML file per run or per sweep: no network, no framework, light or dark, screen or paper."""

from brainalign.report.run_report import write_run_report
from brainalign.report.sweep_report import write_sweep_report

__all__ = ["write_run_report", "write_sweep_report"]
