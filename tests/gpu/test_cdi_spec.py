import pytest

from buildkit.gpu.cdi_spec import CdiSpec, may_read, parse_cdi_spec
from buildkit.hostile_json import MalformedError

SPEC = b"""---
cdiVersion: 0.6.0
kind: nvidia.com/gpu
devices:
  - name: "0"
    containerEdits:
      deviceNodes:
        - path: /dev/nvidia0
        - path: /dev/dri/card1
          hostPath: /dev/dri/card0
  - name: all
    containerEdits:
      deviceNodes:
        - path: /dev/nvidia0
containerEdits:
  env: [NVIDIA_VISIBLE_DEVICES=void]
  hooks:
    - hookName: createContainer
      path: /usr/bin/nvidia-cdi-hook
      args: [nvidia-cdi-hook, update-ldcache]
  mounts:
    - hostPath: /usr/lib/x86_64-linux-gnu/libcuda.so.580.65.06
      containerPath: /usr/lib/x86_64-linux-gnu/libcuda.so.580.65.06
    - hostPath: /usr/lib/x86_64-linux-gnu/libnvidia-ptxjitcompiler.so.580.65.06
      containerPath: /usr/lib/x86_64-linux-gnu/libnvidia-ptxjitcompiler.so.580.65.06
"""
DEVICE = b'{"name": "a", "containerEdits": {"env": ["A=b"]}}'
MINIMAL = b'{"cdiVersion": "0.5.0", "kind": "x.y/z", "devices": [' + DEVICE + b"]}"


def test_specification_is_parsed_with_every_path_on_the_host() -> None:
    spec = parse_cdi_spec(SPEC)
    libraries = "/usr/lib/x86_64-linux-gnu/lib"
    assert spec == CdiSpec(
        kind="nvidia.com/gpu",
        version="0.6.0",
        devices=("0", "all"),
        needs=(
            "/dev/dri/card0", "/dev/nvidia0", "/usr/bin/nvidia-cdi-hook",
            f"{libraries}cuda.so.580.65.06", f"{libraries}nvidia-ptxjitcompiler.so.580.65.06",
        ),
    )  # fmt: skip
    assert spec.drivers == ("580.65.06",)


def test_json_and_numbers_as_names_are_read_as_podman_reads_them() -> None:
    assert parse_cdi_spec(MINIMAL) == CdiSpec(kind="x.y/z", version="0.5.0", devices=("a",))
    assert parse_cdi_spec(MINIMAL.replace(b'"a"', b"0")).devices == ("0",)


def test_keys_are_judged_by_the_version_of_the_file() -> None:
    gids = MINIMAL.replace(b"0.5.0", b"0.7.0").replace(b'"env": ["A=b"]', b'"additionalGids": [4]')
    assert parse_cdi_spec(gids).version == "0.7.0"
    future = MINIMAL.replace(b"0.5.0", b"1.2.0").replace(b'"name"', b'"new": 1, "name"')
    assert parse_cdi_spec(future).version == "1.2.0"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b'"0.5.0"', b"0.5", "cdiVersion is not a version"),
        (b'"0.5.0"', b"[]", "cdiVersion is not a text"),
        (b'"0.5.0"', b'"latest"', "cdiVersion is not a version"),
        (b'"x.y/z"', b'"gpu"', "kind is not VENDOR/CLASS"),
        (DEVICE, b"", "devices is empty"),
        (DEVICE, DEVICE + b"," + DEVICE, "devices has a twice"),
        (DEVICE, b'{"name": "a"}', r"devices\[0\] has no `containerEdits`"),
        (b'{"env": ["A=b"]}', b"{}", r"devices\[0\].containerEdits is empty"),
        (b'"devices"', b'"device"', "has no `devices`"),
        (b"}]}", b"", "is not"),
        (b'"name"', b'"foo": 1, "name"', r"devices\[0\] has the unknown key foo"),
        (b'"env": ["A=b"]', b'"additionalGids": [4]', "has `additionalGids`, which needs cdiVersion 0.7.0"),
        (b'"env": ["A=b"]', b'"mounts": [{}]', r"mounts\[0\] has no `hostPath`"),
    ],
)
def test_malformed_specification_says_where(old: bytes, new: bytes, message: str) -> None:
    with pytest.raises(MalformedError, match=message):
        parse_cdi_spec(MINIMAL.replace(old, new))


@pytest.mark.parametrize(
    "data", [b"", b"- 1", b"\xff\xfe\x00", b"a: &a [*a]", b"!!python/object:os.system {}", b"[" * 5000]
)
def test_anything_else_ends_in_one_error(data: bytes) -> None:
    with pytest.raises(MalformedError):
        parse_cdi_spec(data)


@pytest.mark.parametrize(
    ("podman", "version", "readable"),
    [
        ("4.3.1", "0.5.0", True), ("4.3.1", "0.6.0", False), ("4.3.1", "1.0.0", False),
        ("5.4.2", "0.8.0", True), ("5.4.2", "0.3.0", True), ("5.4.2", "1.0.0", False),
        ("4.9.3", "0.5.0", True), ("4.9.3", "0.6.0", None), ("4.9.3", "1.0.0", False),
        ("5.10.0", "0.8.0", True), ("5.10.0", "1.0.0", None), ("4.2.0", "0.5.0", None), ("4.2.0", "0.6.0", False),
        ("", "0.5.0", None),
    ],
)  # fmt: skip
def test_what_podman_reads_follows_from_what_was_measured(podman: str, version: str, readable: bool | None) -> None:
    assert may_read(podman, version) is readable
