"""The manifest for Kubernetes is valid by its schema, and the configurations in it are ours."""

from pathlib import Path
from typing import Any

import kubernetes_validate
import msgspec
import pytest
import yaml

from tracker.config import parse
from tracker.fleet.settings import load_box

MANIFEST = Path(__file__).parents[2] / "configs" / "kubernetes.yaml"
KUBERNETES = "1.30"


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


def test_its_configurations_are_right(documents: list[dict[str, Any]], tmp_path: Path) -> None:
    config = parse(documents[0]["data"]["daemon.yaml"])
    assert config.keys.dir == "/run/tracker/keys"
    (tmp_path / "box.yaml").write_text(documents[0]["data"]["box.yaml"])
    box = load_box(tmp_path / "box.yaml")
    assert box.daemon.control.endswith(config.control.endpoint.rpartition(":")[2])
    assert box.nats.replicas == 3
