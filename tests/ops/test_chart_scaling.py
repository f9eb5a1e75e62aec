"""Pools follow their queues, and no pod is taken away from its work without time to finish it."""

import pytest

from tests.ops.conftest import Manifest, Render, containers, environment, named, of_kind, pods

MARGIN_S = 60  # a worker needs 25 to hand its work back
HOUR_S = 3600


def _scalers(manifests: list[Manifest]) -> dict[str, Manifest]:
    return {
        scaler["spec"]["scaleTargetRef"]["name"]: scaler
        for scaler in of_kind(manifests, "ScaledObject", "HorizontalPodAutoscaler")
    }


def _pool(manifests: list[Manifest], name: str) -> tuple[Manifest, Manifest]:
    """Return pod and container of a pool."""
    workload = f"shop-modelpress-worker-{name}"
    return pods(manifests)[workload]["spec"], containers(manifests)[f"{workload}/worker"]


def test_number_of_pods_has_one_owner(manifests: list[Manifest]) -> None:
    scaled = _scalers(manifests)
    assert len(scaled) == len(of_kind(manifests, "ScaledObject", "HorizontalPodAutoscaler"))
    for name, deployment in named(manifests, "Deployment").items():
        assert ("replicas" in deployment["spec"]) is (name not in scaled), name


def test_grace_is_the_drain_and_a_margin(manifests: list[Manifest]) -> None:
    for name, pod in pods(manifests).items():
        if "-worker-" in name:
            drain_s = int(environment(containers(manifests)[f"{name}/worker"])["MODELPRESS_DRAIN_S"])
            assert pod["spec"]["terminationGracePeriodSeconds"] == drain_s + MARGIN_S, name


def test_scaled_pools_drain_for_an_hour_and_fixed_ones_for_a_minute(manifests: list[Manifest]) -> None:
    scaled = _scalers(manifests)
    for name, container in containers(manifests).items():
        if name.endswith(("-worker-cpu/worker", "-worker-checks/worker")):
            drain_s = int(environment(container)["MODELPRESS_DRAIN_S"])
            assert drain_s == (HOUR_S if name.partition("/")[0] in scaled else 60), name


def test_drain_of_a_pool_when_it_says_so_is_its_own(render: Render) -> None:
    pod, container = _pool(render("everything"), "gpu")

    assert environment(container)["MODELPRESS_DRAIN_S"] == "1800"
    assert pod["terminationGracePeriodSeconds"] == 1800 + MARGIN_S


def test_pools_shrink_late_and_pod_by_pod(manifests: list[Manifest]) -> None:
    for name, scaler in _scalers(manifests).items():
        if "-worker-" in name:
            advanced = scaler["spec"].get("advanced", {}).get("horizontalPodAutoscalerConfig", scaler["spec"])
            down = advanced["behavior"]["scaleDown"]
            assert down["stabilizationWindowSeconds"] == 600, name
            assert down["policies"] == [{"type": "Pods", "value": 1, "periodSeconds": 60}], name


@pytest.mark.parametrize("pool", ["cpu", "gpu"])
def test_trigger_counts_what_waits_and_runs_in_the_pools_queues(render: Render, pool: str) -> None:
    manifests = render("keda")
    _pod, container = _pool(manifests, pool)
    queues = container["args"][1].replace(",", "|")

    (trigger,) = _scalers(manifests)[f"shop-modelpress-worker-{pool}"]["spec"]["triggers"]

    query = trigger["metadata"]["query"]
    assert query.startswith("sum(max by (queue, state) (modelpress_queue_depth{")
    assert f'queue=~"{queues}",state=~"queued|running|cancelling"' in query
    assert trigger["metadata"]["threshold"] == container["args"][3]  # the concurrency


def test_trigger_takes_missing_figures_for_an_error_and_no_work_for_none(render: Render) -> None:
    for scaler in of_kind(render("keda"), "ScaledObject"):
        (trigger,) = scaler["spec"]["triggers"]
        assert trigger["metadata"]["ignoreNullValues"] == "false"
        assert " or 0 * max(modelpress_attempts_lost{" in trigger["metadata"]["query"]


def test_pools_keep_their_pods_while_figures_are_missing(render: Render) -> None:
    for scaler in of_kind(render("keda"), "ScaledObject"):
        assert scaler["spec"]["fallback"]["behavior"] == "currentReplicasIfHigher"
        assert scaler["spec"]["fallback"]["replicas"] >= 1
        assert scaler["spec"]["triggers"][0]["metricType"] == "AverageValue"  # no fallback otherwise


def test_pools_without_keda_follow_the_processor(render: Render) -> None:
    manifests = render("keda", "keda.enabled=false")
    scalers = named(manifests, "HorizontalPodAutoscaler")

    assert of_kind(manifests, "ScaledObject") == []
    assert {"shop-modelpress-worker-cpu", "shop-modelpress-worker-gpu"} <= set(scalers)
    # An autoscaler of Kubernetes' own does not go to 0.
    assert scalers["shop-modelpress-worker-gpu"]["spec"]["minReplicas"] == 1
