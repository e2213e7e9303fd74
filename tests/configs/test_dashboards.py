"""The Grafana dashboard and the alert rules ask for metrics and labels that the daemon has, for nothing else."""

import json
import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import promql_parser
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from helpers.tracking import blobs, configuration, serving, wait_until

CONFIGS = Path(__file__).parents[2] / "configs"
OF_PROMETHEUS = {"instance", "job", "le"}  # labels that every metric, or every bucket, has
UP = "up"  # Prometheus's own

Served = dict[str, set[str]]  # labels by the sample's name


def expressions() -> dict[str, str]:
    board = json.loads((CONFIGS / "grafana.json").read_text())
    found = {f"{p['title']} {t['refId']}": t["expr"] for p in board["panels"] for t in p["targets"]}
    found |= {f"variable {v['name']}": v["query"] for v in board["templating"]["list"] if v["type"] == "query"}
    groups = yaml.safe_load((CONFIGS / "alerts.yaml").read_text())["groups"]
    return found | {rule["alert"]: rule["expr"] for group in groups for rule in group["rules"]}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Served:
    """What a daemon with a stream and an object shows."""
    folder = tmp_path_factory.mktemp("served")
    zone = {"polygon": [[0, 0], [160, 0], [160, 120], [0, 120]]}
    config = configuration(
        streams={"cam": {"url": str(blobs(folder / "blobs.mp4")), "loop": True, "zones": {"all": zone}}},
        persist={"dir": str(folder / "state")},
        metrics={"endpoint": "127.0.0.1:0"},
    )
    with serving(config) as talk:
        talk.wait_for_frame(0)
        talk.ask("objects.add", stream="cam", points=[[120, 90]])
        url = f"http://127.0.0.1:{talk.daemon.metrics.port}/metrics"
        wait_until(lambda: "tracker_latency_seconds_count" in read(url))
        wait_until(lambda: 'tracker_stage_seconds_count{stage="model"}' in read(url))
        wait_until(lambda: 'tracker_zone_occupancy{stream="cam",zone="all"} 1.0' in read(url))
        families = list(text_string_to_metric_families(read(url)))
    labels: Served = {}
    for sample in (sample for family in families for sample in family.samples):
        labels.setdefault(sample.name, set()).update(sample.labels)
    return labels


def read(url: str) -> str:
    with urllib.request.urlopen(url, timeout=30) as reply:
        text: str = reply.read().decode()
        return text


def problems(expression: str, served: Served) -> Iterator[str]:
    """What in a PromQL expression no daemon shows."""
    names = set(re.findall(r"\btracker_\w+", expression))
    if not names and UP not in expression:
        yield "asks for nothing of the daemon's"
    yield from (f"no metric {name}" for name in names if name not in served)
    known = OF_PROMETHEUS.union(*(served.get(name, set()) for name in names))
    matchers = re.findall(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"", expression)
    grouped = re.findall(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)", expression)
    listed = re.findall(r"label_values\([^,]*(?:\{.*\})?,\s*(\w+)\)", expression)
    used = {*matchers, *listed, *(name.strip() for group in grouped for name in group.split(","))}
    yield from (f"no label {label}" for label in used - known)


@pytest.mark.parametrize("name", expressions())
def test_each_query_asks_for_what_is_there(name: str, served: Served) -> None:
    assert list(problems(expressions()[name], served)) == []


def parsed(expression: str) -> str:
    """As Prometheus reads it, Grafana's own variables put in."""
    return str(promql_parser.parse(expression.replace("$__rate_interval", "5m")))


@pytest.mark.parametrize("name", [name for name in expressions() if not name.startswith("variable ")])
def test_each_query_is_promql(name: str) -> None:
    assert parsed(expressions()[name])


@pytest.mark.parametrize("expression", ["sum by (rate(x[5m])", "a > 0.05 * ignoring(fate) rate(b[5m])", "rate(x)"])
def test_the_parser_refuses_what_prometheus_would(expression: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parsed(expression)


@pytest.mark.parametrize(
    ("expression", "says"),
    [
        ("rate(tracker_frame_total[5m])", "no metric tracker_frame_total"),
        ('tracker_stream_up{camera="a"} == 0', "no label camera"),
        ("sum by (le, camera) (rate(tracker_latency_seconds_bucket[5m]))", "no label camera"),
        ("label_values(tracker_stream_up, camera)", "no label camera"),
        ("vector(1)", "asks for nothing"),
    ],
)
def test_the_check_can_fail(expression: str, says: str, served: Served) -> None:
    assert any(problem.startswith(says) for problem in problems(expression, served))


def test_each_figure_is_shown_somewhere(served: Served) -> None:
    asked = set(re.findall(r"tracker_\w+", " ".join(expressions().values())))
    shown = {re.sub(r"_(bucket|sum|count|created)$", "", name) for name in served if not name.endswith("_created")}
    assert {name for name in shown if not any(other.startswith(name) for other in asked)} == set()


def test_alerts_say_what_happened_and_for_how_grave_it_is_taken() -> None:
    groups = yaml.safe_load((CONFIGS / "alerts.yaml").read_text())["groups"]
    for rule in groups[0]["rules"]:
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert "$labels.instance" in rule["annotations"]["summary"]


def test_each_alert_says_what_to_do() -> None:
    groups = yaml.safe_load((CONFIGS / "alerts.yaml").read_text())["groups"]
    explained = (CONFIGS.parent / "docs" / "operations.md").read_text()
    assert [rule["alert"] for rule in groups[0]["rules"] if f"`{rule['alert']}`" not in explained] == []


def test_events_and_fates_that_are_asked_for_exist() -> None:
    from typing import get_args

    from tracker.protocol.fields import EventName

    text = (CONFIGS / "alerts.yaml").read_text() + (CONFIGS / "grafana.json").read_text().replace("\\", "")
    assert set(re.findall(r'event="(\w+)"', text)) <= set(get_args(EventName))
    assert set(re.findall(r'fate="(\w+)"', text)) <= {"decoded", "processed", "dropped", "corrupt"}
