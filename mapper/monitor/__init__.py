"""Progress, throughput and utilisation of a run, for terminals and for Prometheus."""
