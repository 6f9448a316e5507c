"""Clients and packages that stand in for those of registries."""

from __future__ import annotations

import io
import sys
import tarfile
import zipfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def write_client(folder: Path, name: str, body: str) -> None:
    """A program on the PATH, in Python."""
    script = folder / name
    script.write_text(f"#!{sys.executable}\nimport sys, shutil\n{body}\n")
    script.chmod(0o755)


def write_debian_clients(folder: Path, files: dict[str, bytes]) -> None:
    """An apt-get that gives a package of these files, and a dpkg-deb that reads it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(f"./{name}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    package = folder / "package"
    package.write_bytes(buffer.getvalue())
    give = f"shutil.copy({str(package)!r}, sys.argv[-1] + '_9-1_all.deb')"
    write_client(folder, "apt-get", f"if '--print-uris' not in sys.argv: {give}")
    write_client(
        folder,
        "dpkg-deb",
        "sys.stdout.buffer.write(b'9-1\\n' if sys.argv[1] == '--field' else open(sys.argv[2], 'rb').read())",
    )


def write_wheel(folder: Path, name: str, version: str, files: dict[str, str]) -> Path:
    """A wheel of these files that pip downloads from the folder (PIP_NO_INDEX, PIP_FIND_LINKS)."""
    title = f"{name.replace('-', '_')}-{version}"
    path = folder / f"{title}-py3-none-any.whl"
    about = {
        "METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        "WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "RECORD": "",
    }
    with zipfile.ZipFile(path, "w") as wheel:
        for file, text in {**files, **{f"{title}.dist-info/{key}": value for key, value in about.items()}}.items():
            wheel.writestr(file, text)
    return path
