"""The Helm chart: linted, valid for the Kubernetes API, safe by default, and its settings known."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from personalagent.config import Settings
from tests.conftest import ROOT

CHART = ROOT / "deploy" / "helm" / "personalagent"
OLDEST, NEW = "1.27", "1.37"
"""Of Kubernetes: what Chart.yaml asks for, and the newest whose schemas there are."""
EVERYTHING = """
existingSecret: pa
policy: qwen3:4b@http://vllm:8000/v1
openaiBaseUrl: https://models.example/v1
settings: {rate_limit: 120/minute, max_body_bytes: 20000000, memobase_layer: false, question_wait_s: 0.5}
models: {pull: [], existingClaim: weights}
autoscaling: {enabled: true}
ingress:
  enabled: true
  className: nginx
  annotations: {a: b}
  hosts: [{host: agent.example}]
  tls: [{hosts: [agent.example], secretName: tls}]
networkPolicy: {from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: ingress}}}]}
imagePullSecrets: [{name: registry}]
podAnnotations: {prometheus.io/scrape: "true"}
podLabels: {team: x}
nodeSelector: {disk: ssd}
tolerations: [{key: a, operator: Exists}]
affinity: {podAntiAffinity: {}}
topologySpreadConstraints:
  - {maxSkew: 1, topologyKey: zone, whenUnsatisfiable: ScheduleAnyway}
"""

Objects = dict[str, dict[str, Any]]


@pytest.fixture(params=["existingSecret: pa\n", EVERYTHING], ids=["defaults", "everything"])
def values(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A file of values."""
    return written(str(request.param), tmp_path)


def written(values: str, folder: Path) -> Path:
    file = folder / "values.yaml"
    file.write_text(values, "utf-8")
    return file


def template(helm: Path, values: Path) -> subprocess.CompletedProcess[str]:
    """Render the chart as release `pa`."""
    command = [helm, "template", "pa", CHART, "--values", values]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def rendered(helm: Path, values: Path) -> Objects:
    """Return the objects of the rendered chart by kind."""
    done = template(helm, values)
    assert done.returncode == 0, done.stderr
    return {each["kind"]: each for each in yaml.safe_load_all(done.stdout) if each}


def environment(container: dict[str, Any]) -> dict[str, Any]:
    return {each["name"]: each.get("value", each.get("valueFrom")) for each in container["env"]}


def test_it_is_as_helm_wants_it(helm: Path, values: Path) -> None:
    done = subprocess.run([helm, "lint", "--strict", CHART, "--values", values], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("version", [OLDEST, NEW])
def test_kubernetes_takes_every_object(helm: Path, values: Path, version: str, tmp_path: Path) -> None:
    objects = tmp_path / "objects.yaml"
    objects.write_text(template(helm, values).stdout, "utf-8")
    command = [Path(sys.executable).parent / "kubernetes-validate", "--strict", "-k", version, objects]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("passed") + done.stderr.count("passed") == len(rendered(helm, values)) >= 5


def test_nothing_in_a_pod_may_do_more_than_it_needs(helm: Path, values: Path) -> None:
    pod = rendered(helm, values)["Deployment"]["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"
    assert not pod["automountServiceAccountToken"]
    for container in pod["initContainers"] + pod["containers"]:
        allowed = container["securityContext"]
        assert allowed["readOnlyRootFilesystem"] and not allowed["allowPrivilegeEscalation"]
        assert allowed["capabilities"] == {"drop": ["ALL"]}


def test_a_pod_is_asked_how_it_is_where_the_server_says_so_and_may_finish_its_answers(helm: Path, values: Path) -> None:
    pod = rendered(helm, values)["Deployment"]["spec"]["template"]["spec"]
    (server,) = pod["containers"]
    probes = {name: server[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "liveness", "readiness")}
    assert probes == {"startup": "/healthz", "liveness": "/healthz", "readiness": "/readyz"}
    pause = int(server["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["terminationGracePeriodSeconds"] > float(environment(server)["PERSONALAGENT_DRAIN_S"]) + pause


def test_settings_reach_the_server_as_it_reads_them(helm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pod = rendered(helm, written(EVERYTHING, tmp_path))["Deployment"]["spec"]["template"]["spec"]
    named = environment(pod["containers"][0])
    for name, value in named.items():
        monkeypatch.setenv(name, value if isinstance(value, str) else "postgresql+psycopg://x@y/z")
    settings = Settings.load()
    assert {name.removeprefix("PERSONALAGENT_").lower() for name in named} <= set(Settings.model_fields)
    assert (settings.rate_limit, settings.max_body_bytes, settings.memobase_layer) == ("120/minute", 20_000_000, False)
    assert (settings.policy, settings.question_wait_s, settings.drain_s) == ("qwen3:4b@http://vllm:8000/v1", 0.5, 30)


def test_secrets_come_from_the_secret_alone(helm: Path, values: Path) -> None:
    (server,) = rendered(helm, values)["Deployment"]["spec"]["template"]["spec"]["containers"]
    for name in ("PERSONALAGENT_DATABASE_URL", "OPENAI_API_KEY"):
        assert environment(server)[name]["secretKeyRef"]["name"] == "pa"


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("replicaCount: 2", "existingSecret is required"),
        ("existingSecret: pa\nreplicas: 3", "'replicas' not allowed"),
        ("existingSecret: pa\nsettings: {database_url: sqlite:///x}", "invalid propertyName 'database_url'"),
        ("existingSecret: pa\nopenaiBaseUrl: models.example", "openaiBaseUrl"),
        ("existingSecret: pa\nreplicaCount: 0", "replicaCount"),
    ],
)
def test_wrong_values_are_refused_by_name(helm: Path, tmp_path: Path, wrong: str, told: str) -> None:
    done = template(helm, written(wrong, tmp_path))
    assert done.returncode != 0
    assert told in done.stderr
