"""Every pod keeps to the "restricted" profile and reaches no more than it must."""

from tests.ops.conftest import Manifest, containers, named, of_kind, pods


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
    for name, container in containers(manifests).items():
        assert {mount["mountPath"] for mount in container["volumeMounts"]} == {"/tmp", "/var/lib/modelpress"}, name  # noqa: S108  # a mount


def test_images_are_pinned(manifests: list[Manifest]) -> None:
    for name, container in containers(manifests).items():
        reference = container["image"].rpartition("/")[2]
        assert "@sha256:" in reference or (":" in reference and not reference.endswith(":latest")), name


def test_long_running_containers_have_three_probes(manifests: list[Manifest]) -> None:
    jobs = set(named(manifests, "Job"))
    for name, container in containers(manifests).items():
        if name.partition("/")[0] not in jobs:
            assert {"startupProbe", "livenessProbe", "readinessProbe"} <= set(container), name


def test_liveness_asks_neither_database_nor_broker(manifests: list[Manifest]) -> None:
    probes = {name: c["livenessProbe"] for name, c in containers(manifests).items() if "livenessProbe" in c}
    for name, probe in probes.items():
        asked = probe["httpGet"]["path"] if "httpGet" in probe else " ".join(probe["exec"]["command"])
        assert asked == "/healthz" or "/proc/1/stat" in asked, name


def test_only_the_gateway_knows_api_keys(manifests: list[Manifest]) -> None:
    knowing = {
        name.partition("/")[2]
        for name, container in containers(manifests).items()
        if any(entry["name"] == "MODELPRESS_API_KEYS" for entry in container["env"])
    }

    assert knowing == {"gateway"}


def _selects(selector: Manifest, pod: Manifest) -> bool:
    return selector.get("matchLabels", {}).items() <= pod["metadata"]["labels"].items()


def test_default_deny_selects_every_pod(manifests: list[Manifest]) -> None:
    policies = named(manifests, "NetworkPolicy")
    if not policies:
        return  # switched off in these values
    deny = next(policy["spec"] for name, policy in policies.items() if name.endswith("default-deny"))

    assert deny["policyTypes"] == ["Ingress", "Egress"]
    assert not {"ingress", "egress"} & set(deny)
    assert all(_selects(deny["podSelector"], pod) for pod in pods(manifests).values())


def test_only_the_sweeper_reaches_the_outside_and_never_the_metadata_address(manifests: list[Manifest]) -> None:
    for policy in of_kind(manifests, "NetworkPolicy"):
        for rule in policy["spec"].get("egress", []):
            blocks = [peer["ipBlock"] for peer in rule["to"] if "ipBlock" in peer]
            if not blocks:
                continue
            reached = {name for name, pod in pods(manifests).items() if _selects(policy["spec"]["podSelector"], pod)}
            assert [name.rpartition("-")[2] for name in reached] == ["sweeper"]
            assert all({"169.254.0.0/16", "10.0.0.0/8"} <= set(block["except"]) for block in blocks)


def test_only_the_gateway_takes_connections(manifests: list[Manifest]) -> None:
    for policy in of_kind(manifests, "NetworkPolicy"):
        if "ingress" in policy["spec"]:
            component = policy["spec"]["podSelector"]["matchLabels"]["app.kubernetes.io/component"]
            assert component == "gateway"
