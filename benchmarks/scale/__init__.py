"""What a run costs beside its banks: large stores, many workers, executors, and whether forecasts hold (README.md)."""
