"""All rules of the audit at rest; each module with rules is beside the one that finds them."""

from __future__ import annotations

from itertools import chain

from buildkit.audit import (
    account_rules,
    cuda_rules,
    file_rules,
    program_rules,
    search_path_rules,
    secret_rules,
    service_rules,
)
from buildkit.findings import Rule

_SUBJECTS = (account_rules, file_rules, program_rules, search_path_rules, secret_rules, service_rules, cuda_rules)
RULES: tuple[Rule, ...] = tuple(
    value for value in chain.from_iterable(vars(subject).values() for subject in _SUBJECTS) if isinstance(value, Rule)
)
