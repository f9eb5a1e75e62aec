"""The parts of the chart fit together and fit the code."""

import importlib.util

import pytest

from app.contracts.tasks import Queue
from app.settings import Settings
from tests.ops.conftest import CHART, Helm, Manifest, containers, named, of_kind, pods
from tools.settings_table import variables

OBJECT_STORE_PREFIXES = ("AWS_", "GOOGLE_", "AZURE_")


def test_every_variable_is_a_setting(manifests: list[Manifest]) -> None:
    known = set(variables())
    given = {entry["name"] for container in containers(manifests).values() for entry in container["env"]}
    given |= {key for config in of_kind(manifests, "ConfigMap") for key in config["data"]}

    assert {name for name in given - known if not name.startswith(OBJECT_STORE_PREFIXES)} == set()


def test_every_command_is_a_module_of_ours(manifests: list[Manifest]) -> None:
    for name, container in containers(manifests).items():
        python, flag, module = container["command"]
        assert (python, flag) == ("python3", "-m"), name
        assert importlib.util.find_spec(module) is not None, name


def test_every_configmap_and_secret_named_is_made_or_documented(manifests: list[Manifest]) -> None:
    made = set(named(manifests, "ConfigMap"))
    for name, container in containers(manifests).items():
        for source in container.get("envFrom", []):
            assert source["configMapRef"]["name"] in made, name
        for entry in container["env"]:
            if "valueFrom" in entry:
                assert entry["valueFrom"]["secretKeyRef"] == {"name": "modelpress", "key": entry["name"]}, name


def test_services_and_budgets_select_pods_of_one_workload(manifests: list[Manifest]) -> None:
    selectors = {name: service["spec"]["selector"] for name, service in named(manifests, "Service").items()}
    budgets = named(manifests, "PodDisruptionBudget").items()
    selectors |= {f"budget {name}": budget["spec"]["selector"]["matchLabels"] for name, budget in budgets}
    for name, selector in selectors.items():
        selected = [pod for pod in pods(manifests).values() if selector.items() <= pod["metadata"]["labels"].items()]
        assert len(selected) == 1, name


def test_workloads_select_their_own_pods_and_no_others(manifests: list[Manifest]) -> None:
    for deployment in of_kind(manifests, "Deployment"):
        selector = deployment["spec"]["selector"]["matchLabels"].items()
        selected = [name for name, pod in pods(manifests).items() if selector <= pod["metadata"]["labels"].items()]
        assert selected == [deployment["metadata"]["name"]]


def test_autoscaler_and_ingress_point_at_what_exists(manifests: list[Manifest]) -> None:
    for scaler in of_kind(manifests, "HorizontalPodAutoscaler"):
        target = named(manifests, "Deployment")[scaler["spec"]["scaleTargetRef"]["name"]]
        assert "replicas" not in target["spec"]  # else each upgrade would undo the scaling
    for ingress in of_kind(manifests, "Ingress"):
        for rule in ingress["spec"]["rules"]:
            for path in rule["http"]["paths"]:
                assert path["backend"]["service"]["name"] in named(manifests, "Service")


def test_worker_pools_take_known_queues_and_cover_cpu_and_checks(manifests: list[Manifest]) -> None:
    arguments = [c["args"] for name, c in containers(manifests).items() if name.endswith("/worker")]
    taken = {queue for args in arguments for queue in args[args.index("--queues") + 1].split(",")}

    assert {"cpu", "checks"} <= taken <= {queue.value for queue in Queue}


def test_workers_have_time_to_drain(manifests: list[Manifest]) -> None:
    settings = next(config["data"] for config in of_kind(manifests, "ConfigMap"))
    needed_s = float(settings["MODELPRESS_DRAIN_S"]) + Settings().kill_grace_s + 10  # to put the work back
    for name, pod in pods(manifests).items():
        if "-worker-" in name:
            assert pod["spec"]["terminationGracePeriodSeconds"] > needed_s


def test_child_memory_stays_below_the_pods_limit(manifests: list[Manifest]) -> None:
    for name, container in containers(manifests).items():
        if name.endswith("/worker"):
            entries = {entry["name"]: entry.get("value") for entry in container["env"]}
            limit_bytes = int(container["resources"]["limits"]["memory"].removesuffix("Gi")) << 30
            assert int(entries["MODELPRESS_CHILD_MEMORY_BYTES"]) < limit_bytes, name


def test_gpu_pool_when_enabled_asks_for_devices(helm: Helm) -> None:
    rendered = helm("--values", str(CHART / "ci" / "everything.yaml"), "--show-only", "templates/workers.yaml").stdout

    assert rendered.count("nvidia.com/gpu: 1") == 2  # request and limit


@pytest.mark.parametrize(
    "setting",
    [
        "gateway.replica=3",  # misspelt
        "gateway.port=80",  # needs root
        "workers.terminationGracePeriodSeconds=5",  # shorter than the soft shutdown
        "settings.DATABASE_URL=postgresql://x",  # a secret among the settings
        "secrets.name=",
    ],
)
def test_values_that_would_not_work_are_refused(helm: Helm, setting: str) -> None:
    done = helm("--set", setting)

    assert done.returncode != 0
    assert "values don't meet the specifications of the schema" in done.stderr
