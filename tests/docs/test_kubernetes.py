"""The manifest for Kubernetes is valid by its schema, and the configurations in it are ours."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import msgspec
import pytest
import yaml

from tracker.config import parse
from tracker.daemon.trust import foreign_writers
from tracker.fleet.settings import load_box

MANIFEST = Path(__file__).parents[2] / "configs" / "kubernetes.yaml"
KUBERNETES = "1.30"
TRACKERD = str(Path(sys.executable).parent / "trackerd")


@pytest.fixture(scope="module")
def documents() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(MANIFEST.read_text(encoding="utf-8")))


def test_it_is_valid_and_a_misspelt_key_would_not_be(documents: list[dict[str, Any]]) -> None:
    assert [document["kind"] for document in documents] == ["ConfigMap", "DaemonSet"]
    for document in documents:
        kubernetes_validate.validate(document, KUBERNETES, strict=True)
    wrong = msgspec.json.decode(msgspec.json.encode(documents[1]))
    wrong["spec"]["template"]["spec"]["contaners"] = []
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, KUBERNETES, strict=True)


def test_what_its_containers_go_by_is_nobody_elses_to_write(
    documents: list[dict[str, Any]], tmp_path: Path
) -> None:
    """The real script of the init container, with our folders for its own; a ConfigMap's is open to all."""
    secret, config, run = tmp_path / "secret", tmp_path / "config", tmp_path / "run"
    for folder in (secret, config, run):
        folder.mkdir()
        folder.chmod(0o777)
    for name in ("daemon", "box"):
        subprocess.run([TRACKERD, "keys", "new", name, "--dir", str(secret)], check=True, capture_output=True)
        (config / f"{name}.yaml").write_text(documents[0]["data"][f"{name}.yaml"])
    pod = documents[1]["spec"]["template"]["spec"]
    (script,) = pod["initContainers"][0]["args"]
    for inside, here in (("/secret", secret), ("/config/", f"{config}/"), ("/run/tracker", run)):
        script = script.replace(inside, str(here))
    path = f"{Path(TRACKERD).parent}:{os.environ['PATH']}"
    subprocess.run(["sh", "-ec", script], check=True, env={**os.environ, "PATH": path, "POD_IP": "10.0.0.7"})
    for container in pod["containers"]:
        program, *_, file = container["command"]  # `args` alone would come behind the image's own entry point
        here = Path(file.replace("/run/tracker", str(run)))
        assert (program, here.is_file(), list(foreign_writers(here, here.parent))) == ("trackerd", True, [])
    assert list(foreign_writers(config, config / "daemon.yaml"))
    assert "10.0.0.7:5570" in (run / "private" / "box.yaml").read_text()


def test_its_configurations_are_right(documents: list[dict[str, Any]], tmp_path: Path) -> None:
    config = parse(documents[0]["data"]["daemon.yaml"])
    assert config.keys.dir == "/run/tracker/keys"
    (tmp_path / "box.yaml").write_text(documents[0]["data"]["box.yaml"])
    box = load_box(tmp_path / "box.yaml")
    assert box.daemon.control.endswith(config.control.endpoint.rpartition(":")[2])
    assert box.nats.replicas == 3
