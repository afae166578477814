"""Versions, splits and scales of services.toml: what is read, and one clear message for each mistake."""

from __future__ import annotations

import pytest

from buildkit.declare.rollout import Promotion, ScaleRate, Version
from buildkit.declare.services import Service
from buildkit.declare.services_file import parse_services
from buildkit.errors import DefinitionError

TEXT = """
[services.app]
stage = "runtime"
ports = ["8000"]
[services.app.rollout]
split = { old = 90, new = 10 }
promote = { after = "30m", when = "p95 < 1.1 * control", steps = [10, 50, 100] }
[services.app.rollout.versions]
old = { stage = "runtime" }
new = { env = { MODEL = "int8" } }
[services.app.scale]
min = 1
max = 8
target = { in-flight = 8, metrics = { waiting = 3 } }
up = { percent = 50 }
[environments.t]
services = ["app"]
"""


def read(text: str) -> Service:
    (service,) = parse_services(text, stages=("runtime", "proxy")).services
    return service


def test_a_rollout_and_a_scale_are_read_with_their_defaults() -> None:
    service = read(TEXT)
    rollout, scale = service.rollout, service.scale
    assert rollout is not None
    assert scale is not None
    assert (rollout.by, rollout.control, rollout.candidate) == ("address", "old", "new")
    assert rollout.split == (("new", 100), ("old", 900))
    assert rollout.versions[0] == Version(name="new", env=(("MODEL", "int8"),))
    assert isinstance(rollout.promote, Promotion)
    assert (rollout.promote.seconds, rollout.promote.steps) == (1800, (100, 500, 1000))
    assert scale.targets == (("in-flight", 8.0), ("metric:waiting", 3.0))
    assert scale.up == ScaleRate(window=0, percent=50)  # no number of replicas: only what is said
    assert scale.down == ScaleRate(window=300, percent=100)
    assert service.proxy is not None
    assert service.proxy.stage == "proxy"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("new = 10 }", "new = 20 }", r"`services.app.rollout.split`: the shares add up to 110 %, not 100 %"),
        ("new = 10 }", "new = 5 }", r"the shares add up to 95 %, not 100 %"),
        ("new = 10 }", "new = 9.95, next = 0.05 }", r"split.new`: 9.95 is finer than tenths of a per cent"),
        ("new = 10 }", "newer = 10 }", r"rollout.split`: there is no version `newer`"),
        ("old = 90, new = 10", "old = 50, new = 50", r"which version is the control: new, old"),
        ("promote =", 'control = "next"\npromote =', r"rollout.control`: there is no version `next`"),
        ("promote =", 'shadow = "new"\npromote =', r"rollout.shadow`: `new` has a share of its own"),
        ("[10, 50, 100]", "[50, 10]", r"promote.steps`: must grow from step to step"),
        ("[10, 50, 100]", "[5]", r"promote.steps`: end below the share that the candidate begins with"),
        ("p95 < 1.1 * control", "p95 < control", r"promote.when`: `p95 < control`: nobody can show that of equal"),
        ('"30m"', '"soon"', r"promote.after`: `soon` is not a time"),
        ("max = 8", "max = 0", r"scale.max`: 0 is not between 1 and 64"),
        ("min = 1", "min = 9", r"scale.max`: 8 is less than `min`, which is 9"),
        ("in-flight = 8, metrics = { waiting = 3 }", "", r"scale.target`: names nothing to scale by"),
        ('ports = ["8000"]', "", r"services.app.ports`: a service behind a proxy has one port"),
        ('ports = ["8000"]', 'ports = ["8000", "9000"]', r"services.app.ports`: a service behind a proxy has one port"),
        ('ports = ["8000"]', 'ports = ["8000"]\nvolumes = { data = "/data" }', r"replicas would write one volume"),
        ('ports = ["8000"]', 'ports = ["8000"]\nproxy = { stage = "prox" }', r"proxy.stage`: there is no stage `prox`"),
        ('old = { stage = "runtime" }', 'old = { stage = "run" }', r"versions.old.stage`: there is no stage `run`"),
        ('old = { stage = "runtime" }', 'old = { image = "app:1" }', r"versions.old.image`: `app:1` is not an image"),
        ('MODEL = "int8"', 'DB_PASSWORD = "x"', r"rollout.versions.new.env.DB_PASSWORD`: looks like a secret"),
        ('MODEL = "int8"', 'DB = "redis://u:p@h"', r"rollout.versions.new.env.DB`: holds a password in a URL"),
        ('ports = ["8000"]', 'ports = ["8000"]\nproxy = { probe = "/a#b" }', r"proxy.probe`: `/a#b` is not a path"),
        ('ports = ["8000"]', 'ports = ["8000"]\nproxy = { probe = \'/a"b\' }', r'proxy.probe`: `/a"b` is not a path'),
        ("[services.app.rollout]", '[services.app.rollout]\nby = "user"', r"rollout.by`: `user` is not `address`"),
    ],
)
def test_a_mistake_is_named_with_its_key(old: str, new: str, message: str) -> None:
    assert old in TEXT
    with pytest.raises(DefinitionError, match=message):
        read(TEXT.replace(old, new, 1))


def test_a_promotion_needs_one_candidate() -> None:
    text = TEXT.replace("new = 10 }", "new = 5, next = 5 }").replace("old = { stage", "next = {}\nold = { stage")
    with pytest.raises(DefinitionError, match=r"rollout.promote`: needs one candidate beside `old`"):
        read(text)
