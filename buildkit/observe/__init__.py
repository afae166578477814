"""What watches a project: Prometheus, Alertmanager, node-exporter and the monitor, with their configuration. Pure."""
