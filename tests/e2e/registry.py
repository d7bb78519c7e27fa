"""Debian's docker-registry, which tells of what it gets, and an image for skopeo to push."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Final, NamedTuple

from .clients import HOST, bare_environment
from .processes import Process, wait_until
from .server import free_port
from .web import is_listening

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

CONFIG: Final = """
version: 0.1
log:
  level: error
storage:
  filesystem:
    rootdirectory: {folder}
http:
  addr: {host}:{port}
notifications:
  endpoints:
    - name: pipe
      url: {url}
      headers:
        Authorization: [Bearer {secret}]
      timeout: 5s
      threshold: 3
      backoff: 200ms
"""


class Image(NamedTuple):
    """An image that skopeo finds in a folder."""

    place: str
    digest: str


def write_image(folder: Path, content: str) -> Image:
    """Write an image with one configuration and no layers (OCI Image Layout)."""
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def put(kind: str, value: object) -> dict[str, object]:
        data = json.dumps(value).encode()
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        media = f"application/vnd.oci.image.{kind}.v1+json"
        return {"mediaType": media, "digest": f"sha256:{digest}", "size": len(data)}

    rootfs = {"type": "layers", "diff_ids": []}
    config = put(
        "config", {"architecture": "amd64", "os": "linux", "rootfs": rootfs, "author": content}
    )
    media = "application/vnd.oci.image.manifest.v1+json"
    manifest = put(
        "manifest", {"schemaVersion": 2, "mediaType": media, "config": config, "layers": []}
    )
    (folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [manifest]}))
    return Image(f"oci:{folder}", str(manifest["digest"]))


class Registry:
    """A registry, for as long as a test; it posts to ``url`` with ``secret``."""

    def __init__(self, folder: Path, url: str, secret: str) -> None:
        folder.mkdir()
        self.port = free_port()
        config = folder / "config.yml"
        config.write_text(
            CONFIG.format(folder=folder / "data", host=HOST, port=self.port, url=url, secret=secret)
        )
        self._process = Process(["docker-registry", "serve", str(config)])

    def __enter__(self) -> Registry:
        wait_until(lambda: is_listening(self.port), "the registry")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()

    def push(self, image: Image, name: str) -> None:
        """Push an image by skopeo, and return once the registry has it."""
        options = ["--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false"]
        done = Process(
            ["skopeo", *options, image.place, f"docker://{HOST}:{self.port}/{name}"],
            environment=bare_environment(),
        )
        assert done.wait() == 0, done
