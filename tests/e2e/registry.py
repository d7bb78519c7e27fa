"""Debian's registry, skopeo, and images for them that nobody has to fetch."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from typing import TYPE_CHECKING, Final

from . import clients
from .processes import Process
from .server import free_port
from .web import Program, which

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from .server import Server

CONFIG: Final = """
version: 0.1
log: {{level: error}}
storage: {{filesystem: {{rootdirectory: {folder}}}, delete: {{enabled: true}}}}
http: {{addr: "127.0.0.1:{port}"}}
"""

NOTIFICATIONS: Final = """
notifications:
  endpoints:
    - name: pipe
      url: {url}
      headers: {{Authorization: [Bearer {secret}]}}
      timeout: 5s
      threshold: 3
      backoff: 200ms
"""


def registry(folder: Path, port: int = 0, hook: Sequence[str] = ()) -> Program:
    """Start a registry with its images in a folder, which tells a hook (URL, secret) of them."""
    port = port or free_port()
    path = folder / "registry.yml"
    config = CONFIG.format(folder=folder / "images", port=port)
    if hook:
        url, secret = hook
        config += NOTIFICATIONS.format(url=url, secret=secret)
    path.write_text(config)
    return Program([which("docker-registry"), "serve", str(path)], port)


def make_image(folder: Path, content: bytes) -> str:
    """Write an image of one file, in the layout that OCI defines, and return its digest."""
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def blob(data: bytes, kind: str) -> dict[str, object]:
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        media = f"application/vnd.oci.image.{kind}"
        return {"mediaType": media, "digest": f"sha256:{digest}", "size": len(data)}

    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        entry = tarfile.TarInfo("file")
        entry.size = len(content)
        tar.addfile(entry, io.BytesIO(content))
    plain = archive.getvalue()
    diff = f"sha256:{hashlib.sha256(plain).hexdigest()}"
    config = {
        "architecture": "amd64",
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [diff]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": blob(json.dumps(config).encode(), "config.v1+json"),
        "layers": [blob(gzip.compress(plain, compresslevel=0, mtime=0), "layer.v1.tar+gzip")],
    }
    found = blob(json.dumps(manifest).encode(), "manifest.v1+json")
    index = {"schemaVersion": 2, "manifests": [found]}
    (folder / "index.json").write_text(json.dumps(index))
    (folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    return str(found["digest"])


def skopeo(server: Server, *words: str | Path) -> Process:
    """Run skopeo."""
    command = ["skopeo", "--insecure-policy", *map(str, words)]
    return server.adopt(Process(command, environment=clients.bare_environment()))


def push(server: Server, image: Path, port: int, name: str, options: Sequence[str] = ()) -> Process:
    """Push an image to what listens on a port."""
    target = f"docker://localhost:{port}/{name}"
    return skopeo(server, "copy", "--dest-tls-verify=false", *options, f"oci:{image}", target)


def pull(server: Server, image: Path, port: int, name: str, options: Sequence[str] = ()) -> Process:
    """Pull an image from there, into a folder that is not there yet."""
    source = f"docker://localhost:{port}/{name}"
    return skopeo(server, "copy", "--src-tls-verify=false", *options, source, f"oci:{image}")


def digest_of(image: Path) -> str:
    """Which image is in a folder."""
    [manifest] = json.loads((image / "index.json").read_text())["manifests"]
    return str(manifest["digest"])
