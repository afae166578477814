"""What podman and buildah do with images of the store: the same as if they had imported them."""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Callable
from contextlib import AbstractContextManager

from buildkit.oci.image import Image
from tests.imagestore.hosts import StorageHost

MakeHost = Callable[..., AbstractContextManager[StorageHost]]
NAME = "localhost/app/runtime:latest"


class PodmanContract:
    """Tests over ``host``, whose store has ``image`` as `NAME`; ``make_host`` makes others like it."""

    def test_image_runs_with_its_whiteouts_and_owners(self, host: StorageHost) -> None:
        assert host.run(NAME) == "hello\n"
        assert host.run(NAME, "cat", "/opt/app/hard", options=("--read-only",)) == "hello\n"
        assert host.run(NAME, "ls", "/opt/old") == "y\n"
        assert "touch" not in host.run(NAME, "ls", "/usr/bin")
        assert " 1234 1234 " in host.run(NAME, "ls", "-ln", "/opt/theirs")

    def test_image_is_listed_inspected_and_shown_as_one_that_was_imported(
        self, host: StorageHost, image: Image
    ) -> None:
        listed = host.tool("podman", "images", "--format", "{{.Repository}}:{{.Tag}} {{.ReadOnly}}")
        assert listed.splitlines() == [f"{NAME} true"]
        (found,) = json.loads(host.tool("podman", "image", "inspect", NAME))
        assert found["Id"] == hashlib.sha256(image.config_blob()).hexdigest()
        assert found["RootFS"]["Layers"] == [str(layer.blob.diff_id) for layer in image.layers]
        assert found["Healthcheck"]["Test"] == ["CMD", "cat", "/opt/app/text"]
        assert len(host.tool("podman", "history", "--quiet", NAME).splitlines()) == 3
        assert host.tool("podman", "image", "tree", NAME).count("ID: ") == 4

    def test_health_check_and_exec_work(self, host: StorageHost) -> None:
        name = host.tool("podman", "run", "--detach", "--network=none", NAME, "sleep", "60").strip()
        try:
            host.tool("podman", "healthcheck", "run", name)
            assert host.tool("podman", "exec", name, "cat", "/opt/app/text") == "hello\n"
        finally:
            host.tool("podman", "rm", "--force", "--time=0", name)

    def test_saved_and_pushed_layers_have_the_digests_of_an_import(
        self, host: StorageHost, make_host: MakeHost, tars: tuple[bytes, ...], registry: str
    ) -> None:
        host.tool("podman", "save", "--quiet", "--format=docker-archive", f"--output={host.folder}/saved.tar", NAME)
        with tarfile.open(host.folder / "saved.tar") as archive:
            names = {member.name for member in archive if member.isreg()}
        assert names >= {f"{hashlib.sha256(tar).hexdigest()}.tar" for tar in tars}
        with make_host(stores=False) as imported:
            (host.folder / "saved.tar").rename(imported.folder / "saved.tar")
            imported.tool("podman", "load", "--quiet", f"--input={imported.folder}/saved.tar")
            assert imported.run(NAME, "ls", "/opt/old") == "y\n"
            pushed = {}
            for one in (host, imported):
                options = ("--quiet", "--format=v2s2", f"--digestfile={one.folder}/digest")
                one.tool("podman", "push", *options, NAME, f"{registry}/one:{one.folder.name}")
                pushed[one.folder.name] = (one.folder / "digest").read_text()
            assert len(set(pushed.values())) == 1

    def test_image_of_another_builder_stands_on_it(self, host: StorageHost) -> None:
        (host.folder / "Containerfile").write_text(
            f'FROM {NAME}\nRUN ["bash", "-c", "cat /opt/app/text > /opt/built"]\n'
        )
        host.tool("buildah", "build", "--quiet", "--isolation=chroot", "--layers", "-t", "localhost/built", ".")
        assert host.run("localhost/built", "cat", "/opt/built") == "hello\n"
        host.tool("podman", "rmi", "localhost/built")

    def test_buildah_commits_a_container_of_it(self, host: StorageHost) -> None:
        name = host.tool("buildah", "from", NAME).strip()
        host.tool("buildah", "run", "--isolation=chroot", name, "bash", "-c", "echo 1 > /opt/stepped")
        committed = host.tool("buildah", "commit", "--quiet", "--timestamp=0", name, "localhost/stepped").strip()
        host.tool("buildah", "rm", name)
        (found,) = json.loads(host.tool("podman", "image", "inspect", committed))
        assert len(found["RootFS"]["Layers"]) == 4
        host.tool("podman", "rmi", committed)

    def test_tag_makes_a_record_of_their_own_and_rm_is_refused(self, host: StorageHost) -> None:
        assert "read-only" in host.tool("podman", "rmi", NAME, code=125)
        host.tool("podman", "tag", NAME, "localhost/mine:1")
        assert host.run("localhost/mine:1") == "hello\n"
        assert host.run(NAME, options=("--pull=never",)) == "hello\n"
        host.tool("podman", "rmi", "localhost/mine:1")
        assert host.run(NAME, options=("--pull=never",)) == "hello\n"
