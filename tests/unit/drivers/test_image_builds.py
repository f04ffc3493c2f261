from __future__ import annotations

import os
from pathlib import Path

import pytest

from emulator.drivers.images.builds import (
    BuildInputs,
    build,
    build_command,
    image_folder,
    image_folders,
    images_root,
)
from emulator.drivers.images.resolution import (
    CPU_IMAGE,
    CPU_SERVING_IMAGE,
    GPU_IMAGE,
    GPU_SERVING_IMAGE,
)
from emulator.model.errors import SetupError

TOML = """
description = "a test"
context = ".."
[variants.cpu]
tag = "test:cpu"
args = {A = "1", B = "2"}
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "images" / "mine"
    folder.mkdir(parents=True)
    (folder / "image.toml").write_text(TOML)
    (tmp_path / "images" / "not-an-image").mkdir()
    return folder.parent


def test_a_folder_is_an_image(root: Path) -> None:
    (folder,) = image_folders(root)
    assert (folder.name, folder.description, folder.context) == ("mine", "a test", root)


def test_the_whole_command(root: Path) -> None:
    inputs = BuildInputs(args={"B": "3"}, secrets={"ca": Path("/ca.pem")})
    assert build_command(image_folder(root, "mine"), "cpu", inputs) == [
        *("docker", "build", "--tag", "test:cpu", "--file", str(root / "mine" / "Dockerfile")),
        *("--build-arg", "A=1", "--build-arg", "B=3"),
        *("--secret", "id=ca,src=/ca.pem"),
        str(root),
    ]


def test_unknown_names_say_what_there_is(root: Path) -> None:
    with pytest.raises(SetupError, match=r"no image other.*mine"):
        image_folder(root, "other")
    with pytest.raises(SetupError, match=r"no variant gpu.*cpu"):
        build_command(image_folder(root, "mine"), "gpu", BuildInputs())


@pytest.mark.parametrize("text", ["description = ", "description = 'x'", TOML + "typo = 1"])
def test_a_wrong_description_is_named(root: Path, text: str) -> None:
    (root / "mine" / "image.toml").write_text(text)
    with pytest.raises(SetupError, match=r"mine/image\.toml is wrong"):
        image_folders(root)


@pytest.mark.parametrize("status", [0, 3])
def test_wheels_are_in_the_context_only_while_it_is_built(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    wheels, tools = tmp_path / "wheels", tmp_path / "bin"
    wheels.mkdir()
    tools.mkdir()
    (wheels / "torch.whl").write_text("large")
    # A docker command that looks at the context, and fails if it is told to.
    docker = tools / "docker"
    docker.write_text(
        f'#!/bin/sh\ncat "{root}/mine/wheels/torch.whl" > {tmp_path}/seen\nexit {status}\n'
    )
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    folder, inputs = image_folder(root, "mine"), BuildInputs(wheels=wheels)
    if status:
        with pytest.raises(SetupError, match="ended with code 3"):
            build(folder, "cpu", inputs)
    else:
        assert build(folder, "cpu", inputs) == "test:cpu"
    assert (tmp_path / "seen").read_text() == "large"
    assert not (root / "mine" / "wheels" / "torch.whl").exists()
    assert (wheels / "torch.whl").exists()


ON_TOP = """
description = "a test"
package = ["model_server"]
[variants.cpu]
tag = "on-top:cpu"
base = "test:cpu"
"""


@pytest.mark.parametrize("base_is_there", [True, False])
def test_an_image_is_built_on_another_one_which_is_built_if_it_is_missing(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base_is_there: bool
) -> None:
    folder, tools = root / "on-top", tmp_path / "bin"
    folder.mkdir()
    tools.mkdir()
    (folder / "image.toml").write_text(ON_TOP)
    # A docker command that notes what it builds, and whether the package's files are there.
    docker = tools / "docker"
    docker.write_text(
        f"""#!/bin/sh
[ "$1" != image ] || exit {0 if base_is_there else 1}
echo "$3" >> {tmp_path}/built
[ "$3" = test:cpu ] || ls {folder}/model_server >> {tmp_path}/seen
"""
    )
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")

    assert build(image_folder(root, "on-top"), "cpu") == "on-top:cpu"
    built = (tmp_path / "built").read_text().split()
    assert built == ([] if base_is_there else ["test:cpu"]) + ["on-top:cpu"]
    assert "serve.py" in (tmp_path / "seen").read_text().split()
    assert not (folder / "model_server").exists()


def test_the_default_mapping_leads_to_images_of_this_project() -> None:
    tags = {v.tag for folder in image_folders(images_root()) for v in folder.variants.values()}
    assert {CPU_IMAGE, GPU_IMAGE, CPU_SERVING_IMAGE, GPU_SERVING_IMAGE} <= tags
    assert all((folder.path / "Dockerfile").exists() for folder in image_folders(images_root()))
