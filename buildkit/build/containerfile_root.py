"""Builds a root from a Containerfile: once, by buildah, on images that are in local storage under names of ours."""

from __future__ import annotations

import os
import re
from contextlib import ExitStack
from pathlib import Path

from buildkit.build.context import BuildContext
from buildkit.build.mount_tree import lay_out
from buildkit.build.secret_sources import SecretSources
from buildkit.build.step_secrets import Secrets, get_secrets
from buildkit.declare.containerfile_root import ContainerfileRoot, find_heredoc
from buildkit.errors import BuildError, DefinitionError, ToolError
from buildkit.plan.emulation import is_foreign
from buildkit.plan.spec import BuildContainerfile, Spec
from buildkit.tools.buildah_build import ContainerfileBuild, build_image, find_version
from buildkit.tools.isolation import Isolation

_HEREDOCS_SINCE = (1, 33)  # of buildah


def build_containerfile(
    context: BuildContext, spec: Spec, work: BuildContainerfile, refs: dict[str, str], isolation: Isolation
) -> tuple[str, Secrets]:
    """Build the image; return its name, and the secrets that it must not hold.

    ``refs`` are names in local storage by those that the Containerfile uses. Raises BuildError with buildah's output.
    """
    root, ref = work.root, f"localhost/{context.project.name}/containerfile:{spec.key.short}"
    if root.secrets and not isolation.is_private:
        raise BuildError(
            f"{spec.name}: it has secrets, and other commands could read them: {isolation.shared}",
            hint="install crun or runc, or let this user run: unshare --mount --pid --ipc; see nox -s doctor",
        )
    sources = SecretSources(folder=context.project.folder, given=dict(context.secrets), env=os.environ)
    secrets = get_secrets(spec.name, root.secrets, sources)
    with ExitStack() as stack:
        folder = stack.enter_context(context.blobs.working_folder())
        place = stack.enter_context(secrets.laid_out()) if root.secrets else folder
        file = folder / "Containerfile"
        file.write_text(name_images(work.text, refs, root), "utf-8")
        request = ContainerfileBuild(
            file=file,
            context=lay_out(context.project.folder, work.context, folder / "context"),
            temporary=folder,
            target=root.target,
            args=root.args,
            network=root.network,
            arch=work.arch if is_foreign(work.arch, context.project) else "",
            secrets={name: Path(place) / name for name in root.secrets},
        )
        try:
            build_image(request, ref, isolation)
        except ToolError as error:
            hint = "" if root.network else "if a RUN needs the network, say `network = true` in [root]"
            message = f"{spec.name}: {root.file} could not be built"
            raise BuildError(message, hint=error.hint or hint, output=secrets.hide(error.output)) from None
    return ref, secrets


def check_heredocs(work: BuildContainerfile) -> None:
    """Raise BuildError if the Containerfile has here-documents, and this machine's buildah does not know them."""
    line = find_heredoc(work.text, work.root)
    version = find_version() if line else ()
    if version and version < _HEREDOCS_SINCE:
        needed, found = (".".join(map(str, one)) for one in (_HEREDOCS_SINCE, version))
        raise BuildError(
            f"{work.root.file}:{line}: here-documents need buildah {needed}, and this machine has {found}",
            hint="install a newer one, or write these lines into a script of the repository, and COPY and RUN that",
        )


def name_images(text: str, refs: dict[str, str], root: ContainerfileRoot) -> str:
    """Return the Containerfile with other names of its images, in FROM and in ``from=`` of COPY and mounts."""
    for written, ref in refs.items():
        name = re.escape(written)
        pattern = rf"(?im)(^\s*FROM\s+(?:--platform=\S+\s+)?|(?<=[\s,=-])from=)({name})(?=[\s,]|$)"
        text, count = re.subn(pattern, rf"\g<1>{ref}", text)
        if not count:
            raise DefinitionError(f"{root.file}: `{written}` must stand on the line of its FROM")
    return text
