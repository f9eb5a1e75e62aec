"""Every pod keeps to the "restricted" profile and reaches no more than it must."""

import pytest

from tests.ops.conftest import Helm, Manifest, Render, containers, environment, named, of_kind, pods

# Private, shared, loopback, "this network", and link-local, where clouds have their metadata.
CLOSED = {
    "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16",
}  # fmt: skip
STORES = ("database", "broker", "objects")


def _is_store(name: str) -> bool:
    """Whether a workload or container is one of the stores that a trial brings along."""
    return name.partition("/")[0].removeprefix("shop-modelpress-") in STORES


def test_pods_run_as_one_fixed_user_without_a_token(manifests: list[Manifest]) -> None:
    accounts = named(manifests, "ServiceAccount")
    for name, pod in pods(manifests).items():
        spec = pod["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        assert spec["securityContext"]["runAsUser"] == 10001, name
        assert spec["securityContext"]["runAsGroup"] == 10001, name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert spec["automountServiceAccountToken"] is False, name
        assert accounts[spec["serviceAccountName"]]["automountServiceAccountToken"] is False, name


def test_pods_share_nothing_with_the_host(manifests: list[Manifest]) -> None:
    for name, pod in pods(manifests).items():
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod["spec"]), name
        for volume in pod["spec"]["volumes"]:
            assert set(volume) == {"name", "emptyDir"}, name
            assert volume["emptyDir"]["sizeLimit"], name


def test_containers_are_restricted(manifests: list[Manifest]) -> None:
    for name, container in containers(manifests).items():
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "capabilities": {"drop": ["ALL"]},
        }, name


def test_containers_have_requests_and_limits(manifests: list[Manifest]) -> None:
    amounts = {"cpu", "memory", "ephemeral-storage"}
    for name, container in containers(manifests).items():
        assert amounts <= set(container["resources"]["requests"]), name
        assert amounts <= set(container["resources"]["limits"]), name


def test_containers_write_to_temporary_and_data_folder_only(manifests: list[Manifest]) -> None:
    of_stores = {"/tmp", "/data", "/var/lib/postgresql", "/var/run/postgresql"}  # noqa: S108  # mounts
    for name, container in containers(manifests).items():
        mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
        if _is_store(name):
            assert mounted <= of_stores, name
        else:
            assert mounted == {"/tmp", "/var/lib/modelpress"}, name  # noqa: S108  # a mount


def test_images_are_pinned(manifests: list[Manifest]) -> None:
    for name, container in containers(manifests).items():
        reference = container["image"].rpartition("/")[2]
        assert "@sha256:" in reference or (":" in reference and not reference.endswith(":latest")), name


def _long_running(manifests: list[Manifest]) -> dict[str, Manifest]:
    """Return the containers that are to run for ever: none of a Job and no init container."""
    workloads = of_kind(manifests, "Deployment", "StatefulSet")
    return {
        f"{workload['metadata']['name']}/{container['name']}": container
        for workload in workloads
        for container in workload["spec"]["template"]["spec"]["containers"]
    }


def test_long_running_containers_have_three_probes(manifests: list[Manifest]) -> None:
    for name, container in _long_running(manifests).items():
        assert {"startupProbe", "livenessProbe", "readinessProbe"} <= set(container), name


def test_start_may_take_as_long_as_heavy_imports_do(manifests: list[Manifest]) -> None:
    for name, container in _long_running(manifests).items():
        probe = container["startupProbe"]
        assert probe["periodSeconds"] * probe["failureThreshold"] >= 60, name


def test_liveness_asks_neither_database_nor_broker(manifests: list[Manifest]) -> None:
    for name, container in _long_running(manifests).items():
        probe = container["livenessProbe"]
        if _is_store(name):
            assert probe["tcpSocket"] == {"port": "store"}, name  # its own
        elif name.endswith("/gateway"):
            assert probe["httpGet"]["path"] == "/healthz", name
        else:
            assert "/proc/1/stat" in " ".join(probe["exec"]["command"]), name


def test_pods_have_time_to_stop(manifests: list[Manifest]) -> None:
    graces = {name: pod["spec"].get("terminationGracePeriodSeconds") for name, pod in pods(manifests).items()}

    assert graces["shop-modelpress-gateway"] == 30
    assert all(grace >= 60 for name, grace in graces.items() if "-worker-" in name)


def test_gateway_waits_for_the_balancer_before_it_stops(manifests: list[Manifest]) -> None:
    # Nothing calls the others: workers must stop taking work at once, and the stores of a trial have no second pod.
    assert containers(manifests)["shop-modelpress-gateway/gateway"]["lifecycle"]["preStop"] == {"sleep": {"seconds": 5}}


def test_disruption_budgets_cover_the_gateway_and_every_pool(manifests: list[Manifest]) -> None:
    budgets = {name: budget["spec"] for name, budget in named(manifests, "PodDisruptionBudget").items()}
    pools = {name for name in named(manifests, "Deployment") if "-worker-" in name}

    assert set(budgets) == {"shop-modelpress-gateway", *pools}
    assert all(budgets[name]["maxUnavailable"] == 1 for name in pools)


def test_one_gateway_stays_by_default(render: Render) -> None:
    assert named(render("everything"), "PodDisruptionBudget")["shop-modelpress-gateway"]["spec"]["minAvailable"] == 1


def test_deployments_spread_over_nodes(manifests: list[Manifest]) -> None:
    for name, deployment in named(manifests, "Deployment").items():
        (spread,) = deployment["spec"]["template"]["spec"]["topologySpreadConstraints"]
        assert spread["topologyKey"] == "kubernetes.io/hostname", name
        assert spread["labelSelector"] == deployment["spec"]["selector"], name


def test_gateway_and_worker_are_two_images(manifests: list[Manifest]) -> None:
    for name, container in containers(manifests).items():
        if not _is_store(name):
            kind = "gateway" if name.endswith(("/gateway", "/migration")) else "worker"
            assert f"modelpress-{kind}" in container["image"], name


@pytest.mark.parametrize(("values", "there"), [("everything", True), ("keda", False)])
def test_pods_have_a_user_namespace_when_asked_for(render: Render, values: str, there: bool) -> None:
    for name, pod in pods(render(values)).items():
        assert pod["spec"].get("hostUsers") is (False if there else None), name


def test_only_the_gateway_knows_api_keys(manifests: list[Manifest]) -> None:
    knowing = {
        name.partition("/")[2]
        for name, container in containers(manifests).items()
        if any(entry["name"] == "MODELPRESS_API_KEYS" for entry in container.get("env", []))
    }

    assert knowing == {"gateway"}


def _selects(selector: Manifest, pod: Manifest) -> bool:
    labels = pod["metadata"]["labels"]
    inside = {"In": True, "NotIn": False}
    return selector.get("matchLabels", {}).items() <= labels.items() and all(
        (labels[rule["key"]] in rule["values"]) is inside[rule["operator"]]
        for rule in selector.get("matchExpressions", [])
    )


def test_default_deny_selects_every_pod(manifests: list[Manifest]) -> None:
    policies = named(manifests, "NetworkPolicy")
    if not policies:
        return  # switched off in these values
    deny = next(policy["spec"] for name, policy in policies.items() if name.endswith("default-deny"))

    assert deny["policyTypes"] == ["Ingress", "Egress"]
    assert not {"ingress", "egress"} & set(deny)
    assert all(_selects(deny["podSelector"], pod) for pod in pods(manifests).values())


def _serving(manifests: list[Manifest], queue: str) -> set[str]:
    args = {name: container.get("args", []) for name, container in containers(manifests).items()}
    return {name.partition("/")[0] for name, given in args.items() if queue in ",".join(given).split(",")}


def test_only_sweeper_and_egress_reach_the_outside_and_never_the_metadata_address(manifests: list[Manifest]) -> None:
    for policy in of_kind(manifests, "NetworkPolicy"):
        for rule in policy["spec"].get("egress", []):
            blocks = [peer["ipBlock"] for peer in rule["to"] if "ipBlock" in peer]
            if not blocks:
                continue
            reached = {name for name, pod in pods(manifests).items() if _selects(policy["spec"]["podSelector"], pod)}
            assert reached == {"shop-modelpress-sweeper", *_serving(manifests, "egress")}
            assert all(set(block["except"]) >= CLOSED for block in blocks)
            assert all(":" not in block["cidr"] for block in blocks)  # no way out over IPv6


def test_what_reaches_the_outside_opens_no_uploads(manifests: list[Manifest], helm: Helm) -> None:
    for queue in ("cpu", "gpu", "checks"):
        assert not _serving(manifests, queue) & _serving(manifests, "egress")
    mixed = helm("--set-json", 'workers.pools=[{"name": "all", "queues": ["cpu", "checks", "egress"]}]')
    assert mixed.returncode != 0
    assert "give egress a pool of its own" in mixed.stderr


def test_sources_are_told_to_the_egress_pool_alone(manifests: list[Manifest]) -> None:
    knowing = {
        name.partition("/")[0]
        for name, container in containers(manifests).items()
        if any(entry["name"] == "MODELPRESS_SOURCE_STORES" for entry in container.get("env", []))
    }

    assert knowing == _serving(manifests, "egress") != set()


def test_private_sources_are_reached_by_the_egress_pool_alone(render: Render) -> None:
    manifests = render("everything")
    (policy,) = [one["spec"] for name, one in named(manifests, "NetworkPolicy").items() if name.endswith("-sources")]
    reached = {name for name, pod in pods(manifests).items() if _selects(policy["podSelector"], pod)}

    assert reached == _serving(manifests, "egress")
    assert [port["port"] for rule in policy["egress"] for port in rule["ports"]] == [9000]


def _entries(manifests: list[Manifest], pod: Manifest) -> list[tuple[int, Manifest]]:
    """Return port and peer of every connection that a pod takes."""
    policies = [policy["spec"] for policy in of_kind(manifests, "NetworkPolicy")]
    rules = [rule for spec in policies if _selects(spec["podSelector"], pod) for rule in spec.get("ingress", [])]
    return [(port["port"], peer) for rule in rules for port in rule["ports"] for peer in rule["from"]]


def test_who_sends_traces_reaches_the_collector_when_there_is_one(manifests: list[Manifest]) -> None:
    collector = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
    policies = [policy["spec"] for policy in of_kind(manifests, "NetworkPolicy")]
    (settings,) = [one["data"] for one in of_kind(manifests, "ConfigMap") if "MODELPRESS_PROFILE" in one["data"]]
    for name, pod in pods(manifests).items():
        rules = [rule for spec in policies if _selects(spec["podSelector"], pod) for rule in spec.get("egress", [])]
        reached = any(collector in rule["to"] and {"port": 4318, "protocol": "TCP"} in rule["ports"] for rule in rules)
        sends = "MODELPRESS_TRACES_URL" in settings and not name.endswith("-migration") and not _is_store(name)
        assert reached == (sends and bool(policies)), name


def test_gateway_takes_connections_on_its_port_alone(manifests: list[Manifest]) -> None:
    entries = _entries(manifests, pods(manifests)["shop-modelpress-gateway"])

    assert {port for port, _peer in entries} <= {8000}


def test_workers_take_connections_for_their_figures_from_monitoring_alone(manifests: list[Manifest]) -> None:
    monitoring = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
    exporting = bool(of_kind(manifests, "PodMonitor"))
    for name, pod in pods(manifests).items():
        if "-worker-" in name:
            assert _entries(manifests, pod) == ([(9100, monitoring)] if exporting else []), name


def test_sweeper_and_migration_take_no_connections(manifests: list[Manifest]) -> None:
    for name, pod in pods(manifests).items():
        if name.endswith(("-sweeper", "-migration")):
            assert _entries(manifests, pod) == [], name


def test_stores_of_a_trial_answer_this_release_and_ask_nobody(render: Render) -> None:
    manifests = render("development")
    policies = [policy["spec"] for policy in of_kind(manifests, "NetworkPolicy")]
    release = {"app.kubernetes.io/name": "modelpress", "app.kubernetes.io/instance": "shop"}
    for name, pod in pods(manifests).items():
        if _is_store(name):
            ((_port, peer),) = _entries(manifests, pod)
            assert peer == {"podSelector": {"matchLabels": release}}, name
            assert not any(spec.get("egress") for spec in policies if _selects(spec["podSelector"], pod)), name


def test_workers_are_told_their_figures_port_when_they_are_scraped(manifests: list[Manifest]) -> None:
    exporting = bool(of_kind(manifests, "PodMonitor"))
    for name, container in containers(manifests).items():
        if name.endswith("/worker"):
            told = environment(container)
            assert told.get("MODELPRESS_METRICS_PORT") == ("9100" if exporting else None), name
            assert told.get("MODELPRESS_METRICS_HOST") == ("0.0.0.0" if exporting else None), name


def test_secrets_when_not_asked_for_are_not_made(helm: Helm) -> None:
    assert "kind: Secret" not in helm().stdout
