"""The files of `deploy/scoring`: their limits agree, and nginx passes requests on."""

import contextlib
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest
from benchmarks.loopback import find_ports
from conftest import COMMAND_SECONDS, OURS, ROOT, read_yaml
from ruamel.yaml import YAML
from servers import Server, start
from tiny_model import CHAMPION, Registered

from person_attributes.server.identity import Identity
from person_attributes.server.openapi import describe_api
from person_attributes.server.settings import ServerSettings

FOLDER = ROOT / "deploy" / "scoring"
NGINX_CONF = (FOLDER / "nginx.conf").read_text(encoding="utf-8")
DOCKERFILE = (FOLDER / "Dockerfile").read_text(encoding="utf-8")
NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
SETTINGS = ServerSettings()
NEEDED_MEGABYTES = 3 * SETTINGS.max_in_flight_megabytes + 500
"""The bodies in flight, their copies while they are parsed, and the network."""


def _read_nginx(directive: str) -> int:
    """Reads the number of a directive that the file has once."""
    (value,) = re.findall(rf"^\s*{directive} (\d+)", NGINX_CONF, re.MULTILINE)
    return int(value)


def _read_manifest() -> tuple[dict[str, Any], dict[str, Any]]:
    """Reads the pod and its service."""
    text = (FOLDER / "kubernetes.yaml").read_text(encoding="utf-8")
    deployment, service = YAML(typ="safe").load_all(text)
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"] == service["spec"]["selector"] == labels
    return deployment["spec"]["template"]["spec"], service["spec"]


def _seconds(text: str) -> int:
    return int(text.removesuffix("s"))


@pytest.mark.parametrize("name", ["params.yaml", "recipes/sample.yaml", "recipes/hvc.yaml"])
def test_nginx_has_the_limit_of_the_model(name: str) -> None:
    megabytes = read_yaml(ROOT / name)["registry"]["serving"]["max_request_megabytes"]
    assert _read_nginx("client_max_body_size") == megabytes * 1e6
    assert f"a request of more than {megabytes:g} MB" in NGINX_CONF
    assert megabytes <= SETTINGS.max_in_flight_megabytes


def test_the_proxy_waits_longer_than_the_server() -> None:
    assert _read_nginx("proxy_read_timeout") > SETTINGS.timeout_seconds
    assert _read_nginx("keepalive_timeout") < SETTINGS.keep_alive_seconds
    compose = read_yaml(FOLDER / "compose.yaml")["services"]
    assert _seconds(compose["scoring"]["stop_grace_period"]) > SETTINGS.stop_seconds
    assert _seconds(compose["proxy"]["stop_grace_period"]) > _read_nginx("proxy_read_timeout")


def test_the_server_names_of_the_proxy_are_allowed_hosts() -> None:
    (names,) = re.findall(r"server_name (.+?);", NGINX_CONF)
    assert set(names.split()) <= set(SETTINGS.allowed_hosts)


def test_compose_publishes_only_the_proxy_and_only_on_loopback() -> None:
    services = read_yaml(FOLDER / "compose.yaml")["services"]
    assert services["proxy"]["ports"] == ["${BIND:-127.0.0.1}:8080:8080"]
    assert "ports" not in services["scoring"]
    for service in services.values():
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]


def test_compose_limits_the_memory_to_more_than_the_server_needs() -> None:
    server = read_yaml(FOLDER / "compose.yaml")["services"]["scoring"]
    assert int(server["mem_limit"].removesuffix("g")) * 1000 > NEEDED_MEGABYTES


def test_the_image_runs_one_process_without_privileges() -> None:
    port = re.findall(r"EXPOSE (\d+)", DOCKERFILE)
    entry = json.loads(re.findall(r"ENTRYPOINT (\[.+\])", DOCKERFILE)[0])
    assert entry[:4] == ["python", "-m", "person_attributes.server", "/model"]
    assert entry[-2:] == ["--port", *port]
    assert re.findall(r"^USER (\d+)", DOCKERFILE, re.MULTILINE) != ["0"]
    assert f"127.0.0.1:{port[0]}/ready" in DOCKERFILE
    assert NGINX_CONF.count(f"scoring:{port[0]}") == 1
    python = (ROOT / ".python-version").read_text(encoding="utf-8").strip()
    assert DOCKERFILE.count(f"FROM python:{python}-slim") == 1
    ignored = (FOLDER / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert "model/artifacts/*.weights.h5" in ignored


def test_the_manifest_fits_the_server(registered: Registered) -> None:
    with registered.store():
        classifier = mlflow.pyfunc.load_model(CHAMPION).unwrap_python_model()
    paths = describe_api(Identity("", "", ""), classifier)["paths"]
    pod, service = _read_manifest()
    (container,) = pod["containers"]
    (port,) = container["ports"]
    assert f"EXPOSE {port['containerPort']}" in DOCKERFILE
    assert service["ports"][0]["targetPort"] == port["name"]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"]["port"] == port["name"]
        assert container[probe]["httpGet"]["path"] in paths
    pause = int(container["lifecycle"]["preStop"]["exec"]["command"][-1])
    assert pod["terminationGracePeriodSeconds"] > pause + SETTINGS.stop_seconds
    assert pod["securityContext"]["runAsNonRoot"]
    assert f"USER {pod['securityContext']['runAsUser']}" in DOCKERFILE
    memory = int(container["resources"]["limits"]["memory"].removesuffix("Gi")) * 1000
    assert memory > NEEDED_MEGABYTES


@pytest.fixture(scope="module")
def proxy(registered: Registered, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The server behind nginx, with the shipped configuration."""
    if NGINX is None:
        pytest.skip("nginx is not installed: apt-get install nginx-light")
    folder = tmp_path_factory.mktemp("proxy")
    (port,) = find_ports(1)
    with start(registered, [*OURS, "serve"], folder / "serve.log") as server:
        server.wait_until_ready()
        text = NGINX_CONF.replace("scoring:8080", f"127.0.0.1:{server.port}")
        text = text.replace("listen 8080", f"listen 127.0.0.1:{port}").replace("/tmp", str(folder))
        (folder / "nginx.conf").write_text(text, encoding="utf-8")
        options = ["-p", str(folder), "-c", "nginx.conf", "-g", "daemon off; user root;"]
        process = subprocess.Popen([NGINX, *options])
        proxy = Server(process, port, folder / "serve.log")
        try:
            proxy.wait_until_ready()
            yield proxy
        finally:
            process.terminate()
            process.wait(COMMAND_SECONDS)


def _ask(proxy: Server, body: bytes, **headers: str) -> tuple[int, dict[str, Any], dict[str, str]]:
    with contextlib.closing(proxy.connect()) as connection:
        connection.request("POST", "/invocations", body, {"Content-Type": "image/jpeg"} | headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read()), dict(answer.getheaders())


def test_nginx_passes_requests_on(proxy: Server, people: Path) -> None:
    content = min(people.rglob("*.jpg")).read_bytes()
    status, answer, headers = _ask(proxy, content, **{"X-Request-ID": "order-7"})
    assert (status, len(answer["predictions"])) == (200, 1)
    assert headers["x-request-id"] == "order-7"
    assert headers["x-model-version"] == "1"


def test_nginx_refuses_what_the_server_would_refuse(proxy: Server) -> None:
    with contextlib.closing(proxy.connect()) as connection:
        connection.putrequest("POST", "/invocations")
        connection.putheader("Content-Length", str(_read_nginx("client_max_body_size") + 1))
        connection.endheaders()
        answer = connection.getresponse()
        assert answer.status == 413
        assert "a request of more than 128 MB" in json.loads(answer.read())["message"]
    status, error, _ = _ask(proxy, b"A" * 5_000_000)  # of the small model of the tests
    assert (status, "a request of more than 4 MB" in error["message"]) == (413, True)


def test_nginx_hides_the_metrics_and_refuses_other_names(proxy: Server) -> None:
    assert proxy.get("/metrics")[0] == 404
    with contextlib.closing(proxy.connect()) as connection:
        connection.request("GET", "/health", headers={"Host": "example.org"})
        assert connection.getresponse().status == 421
