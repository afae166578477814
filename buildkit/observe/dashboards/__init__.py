"""Dashboards as values, and their documents for Grafana and Perses. Pure."""
