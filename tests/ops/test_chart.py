"""The parts of the chart fit together and fit the code."""

import importlib.util
import subprocess

import pytest

from app.contracts.tasks import Queue
from tests.ops.conftest import CHART, Helm, Manifest, Render, containers, environment, named, of_kind, ours, pods
from tools.settings_table import variables

OBJECT_STORE_PREFIXES = ("AWS_", "GOOGLE_", "AZURE_")


def test_every_variable_is_a_setting(manifests: list[Manifest]) -> None:
    known = set(variables())
    given = {entry["name"] for container in ours(manifests).values() for entry in container["env"]}
    given |= set(named(manifests, "ConfigMap")["shop-modelpress"]["data"])

    assert {name for name in given - known if not name.startswith(OBJECT_STORE_PREFIXES)} == set()


def test_every_command_is_a_module_of_ours(manifests: list[Manifest]) -> None:
    for name, container in ours(manifests).items():
        python, flag, module = container["command"]
        assert (python, flag) == ("python3", "-m"), name
        assert importlib.util.find_spec(module) is not None, name


def _secret_keys(container: Manifest) -> list[tuple[str, str, str]]:
    """Return variable, Secret and key of what a container reads from Secrets."""
    references = [(e["name"], e["valueFrom"]["secretKeyRef"]) for e in container.get("env", []) if "valueFrom" in e]
    return [(variable, reference["name"], reference["key"]) for variable, reference in references]


def test_every_configmap_named_is_made(manifests: list[Manifest]) -> None:
    made = set(named(manifests, "ConfigMap"))
    for name, container in containers(manifests).items():
        assert {source["configMapRef"]["name"] for source in container.get("envFrom", [])} <= made, name


def test_every_secret_named_is_made_or_documented(manifests: list[Manifest]) -> None:
    made = named(manifests, "Secret")
    own = ("gateway", "worker", "egress", "owner")  # of ci/everything.yaml
    documented = {"modelpress", *(f"modelpress-{component}" for component in own)}
    optional = {"MODELPRESS_SOURCE_STORES", "MODELPRESS_MLFLOW_SERVERS"}  # what need not be there to start
    for name, container in containers(manifests).items():
        for _variable, secret, key in _secret_keys(container):
            assert secret in documented, name
            assert not made or key in {*made[secret]["stringData"], *optional}, name


def test_our_variables_have_the_name_of_their_key(manifests: list[Manifest]) -> None:
    for name, container in ours(manifests).items():
        assert all(variable == key for variable, _secret, key in _secret_keys(container)), name


def test_components_when_they_have_their_own_secrets_read_no_others(render: Render) -> None:
    for name, container in containers(render("everything")).items():
        known = {"gateway": "gateway", "migration": "owner"}
        component = "egress" if "-outside/" in name else known.get(name.partition("/")[2], "worker")
        assert {secret for _variable, secret, _key in _secret_keys(container)} == {f"modelpress-{component}"}, name


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


def test_worker_pools_take_known_queues_and_cover_what_needs_no_gpu(manifests: list[Manifest]) -> None:
    arguments = [container["args"] for name, container in ours(manifests).items() if name.endswith("/worker")]
    taken = {queue for args in arguments for queue in args[args.index("--queues") + 1].split(",")}

    assert {"cpu", "checks", "egress"} <= taken <= {queue.value for queue in Queue}


def test_child_memory_stays_below_the_pods_limit(manifests: list[Manifest]) -> None:
    for name, container in containers(manifests).items():
        if name.endswith("/worker"):
            limit_bytes = int(container["resources"]["limits"]["memory"].removesuffix("Gi")) << 30
            assert int(environment(container)["MODELPRESS_CHILD_MEMORY_BYTES"]) < limit_bytes, name


def test_gpu_pool_when_enabled_asks_for_devices(helm: Helm) -> None:
    rendered = helm("--values", str(CHART / "ci" / "everything.yaml"), "--show-only", "templates/workers.yaml").stdout

    assert rendered.count("nvidia.com/gpu: 1") == 2  # request and limit


def test_gpu_pool_stands_apart_and_bears_the_taint(render: Render) -> None:
    deployments = named(render("everything"), "Deployment")
    spec = deployments["shop-modelpress-worker-gpu"]["spec"]["template"]["spec"]

    assert spec["containers"][0]["args"][1] == "gpu"
    assert {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"} in spec["tolerations"]
    assert spec["nodeSelector"] == {"nvidia.com/gpu.present": "true"}
    assert spec["runtimeClassName"] == "nvidia"
    # What the pool leaves out comes from the defaults.
    assert deployments["shop-modelpress-worker-cpu"]["spec"]["template"]["spec"]["runtimeClassName"] == "gvisor"


def test_stores_are_made_for_a_trial_alone(render: Render) -> None:
    assert of_kind(render("everything"), "StatefulSet") == []
    stores = {f"shop-modelpress-{store}" for store in ("database", "broker", "objects")}
    manifests = render("development")
    assert set(named(manifests, "StatefulSet")) == stores
    addresses = named(manifests, "Secret")["modelpress"]["stringData"]
    assert all(store in str(addresses) for store in stores)


def test_trial_migrates_in_every_pod_of_ours_because_a_hook_comes_before_its_database(render: Render) -> None:
    manifests = render("development")

    assert of_kind(manifests, "Job") == []
    for deployment in of_kind(manifests, "Deployment"):
        assert [c["name"] for c in deployment["spec"]["template"]["spec"]["initContainers"]] == ["migration"]


def test_migration_otherwise_runs_before_everything_else(render: Render) -> None:
    hook = {"helm.sh/hook": "pre-install,pre-upgrade"}.items()

    assert all(hook <= job["metadata"]["annotations"].items() for job in of_kind(render("everything"), "Job"))


def test_route_leads_to_the_gateways_service(render: Render) -> None:
    manifests = render("everything")
    route = named(manifests, "HTTPRoute")["shop-modelpress-gateway"]["spec"]
    (backend,) = route["rules"][0]["backendRefs"]

    assert backend["port"] in [port["port"] for port in named(manifests, "Service")[backend["name"]]["spec"]["ports"]]
    assert route["parentRefs"][0]["name"] == "public"


@pytest.mark.parametrize("values", ["minimal", "everything", "keda", "development"])
def test_notes_tell_the_first_call_and_the_namespaces_label(helm_binary: str, values: str) -> None:
    command = [helm_binary, "install", "shop", str(CHART), "--namespace", "modelpress", "--dry-run=client"]
    file = CHART / "ci" / f"{values}.yaml"

    done = subprocess.run([*command, "--values", str(file)], capture_output=True, text=True, check=True, timeout=60)

    notes = done.stdout.partition("\nNOTES:\n")[2]
    assert 'curl --fail-with-body --header "Authorization: Bearer KEY" "$server/v1/techniques"' in notes
    assert "pod-security.kubernetes.io/enforce=restricted" in notes
    assert ("are for trials" in notes) == (values == "development")


@pytest.mark.parametrize(
    "setting",
    [
        "gateway.replica=3",  # misspelt
        "gateway.port=80",  # needs root
        "workers.defaults.stopMarginSeconds=5",  # shorter than handing the work back takes
        "workers.pools[0].queues[0]=tpu",  # no such queue
        "gateway.httpRoute.enabled=true",  # to no gateway
        "development.enabled=true",  # without a password
        "settings.MODELPRESS_DRAIN_S=60",  # set per pool
        "settings.DATABASE_URL=postgresql://x",  # a secret among the settings
        "secrets.name=",
    ],
)
def test_values_that_would_not_work_are_refused(helm: Helm, setting: str) -> None:
    done = helm("--set", setting)

    assert done.returncode != 0
    assert "values don't meet the specifications of the schema" in done.stderr
