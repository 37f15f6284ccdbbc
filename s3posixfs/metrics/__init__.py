"""What a daemon has counted, for people and for Prometheus."""
