"""What the server counts, for an operator's Prometheus.

registry  the metrics, and where their figures come from
scrapes   the port where they are read
"""

from pipe.metrics.registry import COMMAND_MODE, Metrics, Snapshot, serve

__all__ = ["COMMAND_MODE", "Metrics", "Snapshot", "serve"]
