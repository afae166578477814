"""The labels by which containers, networks and volumes of an environment are found."""

from __future__ import annotations

PREFIX = "org.xoe.buildkit"
PROJECT = f"{PREFIX}.project"
ENVIRONMENT = f"{PREFIX}.environment"
SERVICE = f"{PREFIX}.service"
