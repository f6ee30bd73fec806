# SPDX-License-Identifier: Apache-2.0
"""What the interop tests drive: skopeo and umoci as `make setup` fetched them, a real Verdictd, real agents."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from eaa.cli._demo.containers import ContainerTools, Image
from eaa.cli._demo.processes import Processes
from eaa.cli._demo.sides import Machine, Owner, boot
from eaa.rats import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator

SOFTWARE = "interop guest"


@pytest.fixture(scope="session")
def tools() -> ContainerTools:
    """Skopeo, umoci and busybox; the tests that need them skip where they were not fetched."""
    try:
        return ContainerTools.find()
    except ConfigurationError as missing:
        pytest.skip(f"{missing}. {missing.hint}")


@pytest.fixture(scope="session")
def folder() -> Iterator[Path]:
    """A folder with a path short enough for Unix sockets, which pytest's own may not be."""
    made = Path(tempfile.mkdtemp(prefix="eaa-", dir="/tmp"))
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="session")
def processes(folder: Path) -> Iterator[Processes]:
    """Programs that end with the tests."""
    with Processes(folder) as running:
        yield running


@pytest.fixture(scope="session")
def owner(processes: Processes, folder: Path) -> Owner:
    """A Verdictd with one key, that expects the software of these tests."""
    owner = Owner.start(processes, folder)
    owner.eaa("key", "create", "interop", "--data", str(owner.data), "--json")
    expected = folder / "expected.json"
    expected.write_text(json.dumps(owner.eaa("sim", "measure", "--image", SOFTWARE)))
    owner.eaa("reference-value", "import", str(expected), "--data", str(owner.data), "--json")
    return owner


@pytest.fixture(scope="session")
def guest(processes: Processes, folder: Path, owner: Owner) -> Path:
    """The key provider's configuration of a guest that may have the key."""
    return boot(processes, folder, "guest", Machine(owner.data, SOFTWARE), owner.url, owner.ca_file)


@pytest.fixture(scope="session")
def plain(tools: ContainerTools, folder: Path) -> Image:
    """An image of two layers, one of them with a secret in it."""
    image = Image(folder / "plain")
    tools.build_image(image, b"interop secret\n")
    return image


@pytest.fixture(scope="session")
def encrypted(tools: ContainerTools, folder: Path, plain: Image, owner: Owner) -> Image:
    """The same image, encrypted by its owner."""
    image = Image(folder / "encrypted")
    tools.encrypt(plain, image, "kbs:///default/key/interop", owner.key_provider)
    return image
