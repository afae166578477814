"""Print the findings of the audit of a running container; arguments: project, stage, and omitted flags."""

import json
import sys
from pathlib import Path

from buildkit.audit.running import check_running
from buildkit.build.planner import open_planner
from buildkit.inspection.audit_target import describe_target
from buildkit.inspection.container_probe import observe

folder, stage, *without = sys.argv[1:]
with open_planner(Path(folder), lambda _event: None) as planner:
    container = describe_target(planner, stage)
    print(json.dumps([finding.rule.id for finding in check_running(observe(container, frozenset(without)))]))
