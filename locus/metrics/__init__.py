"""One metric per file; every metric is per item, so that all differences are paired by question."""

from locus.metrics.base import Metric, measured, metric, shipped, tabled

__all__ = ["Metric", "measured", "metric", "shipped", "tabled"]
