#!/bin/bash
# Runs COMMAND (default: an interactive shell) against a local API server with the real Dask operator, then
# stops everything.
#
#   PYTHON=path/to/python tests/with_operator.sh [COMMAND ...]
#
#   PYTHON  interpreter with aiohttp, dask-kubernetes, distributed, jsonpatch, jsonschema, kopf, PyYAML
#           (default: python3)
#   RUN     directory for logs and kubeconfigs (default: a new temporary one, removed at the end)
#   ROLE    manifest of a role that holds for RUN/launcher, a second kubeconfig (default: it may do everything)
#
# Everything lives in a private mount namespace, where /etc/hosts stands in for cluster DNS, and in a private
# PID namespace: when this script ends, however it ends, the kernel ends every process in it. Needs unshare
# (util-linux), kubectl, and root or unprivileged user namespaces. KUBECONFIG and PATH are set for COMMAND.
set -euo pipefail

if [[ -z ${WITH_OPERATOR_INSIDE:-} ]]; then
    [[ $EUID -eq 0 ]] && user=() || user=(--user --map-root-user)
    export WITH_OPERATOR_INSIDE=1
    exec unshare "${user[@]}" --mount --pid --fork --kill-child --mount-proc -- "$BASH" "$0" "$@"
fi

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
python=$(command -v "${PYTHON:-python3}") || { echo "no such interpreter: ${PYTHON:-python3}" >&2; exit 2; }
PATH=$(dirname "$python"):$PATH
if [[ -z ${RUN:-} ]]; then
    RUN=$(mktemp -d)
    temporary=$RUN
fi
mkdir -p "$RUN"
rm -f "$RUN/kubeconfig"
{ cat /etc/hosts; echo; } >"$RUN/hosts" # the echo: a last line without newline would swallow the next
mount --bind "$RUN/hosts" /etc/hosts
export RUN KUBECONFIG=$RUN/kubeconfig DASK_TEMPORARY_DIRECTORY=$RUN

stop() {
    trap - EXIT
    kill "${operator:-}" "${api:-}" 2>/dev/null || true
    wait "${operator:-}" "${api:-}" 2>/dev/null || true
    [[ -z ${temporary:-} ]] || rm -rf "$temporary"
}
trap stop EXIT

"$python" "$here/kubernetes_api.py" "$RUN" --hosts "$RUN/hosts" ${ROLE:+--role "$ROLE"} >"$RUN/api.log" 2>&1 &
api=$!
for _ in {1..100}; do
    kubectl get --raw /readyz >/dev/null 2>&1 && break
    kill -0 "$api" 2>/dev/null || { cat "$RUN/api.log" >&2; exit 1; }
    sleep 0.1
done
crds=$("$python" -c 'import dask_kubernetes, os; print(os.path.dirname(dask_kubernetes.__file__))')
kubectl create --validate=false -f "$crds/operator/deployment/helm/dask-kubernetes-operator/crds" >/dev/null

"$python" -m kopf run --all-namespaces --standalone -m dask_kubernetes.operator.controller \
    >"$RUN/operator.log" 2>&1 &
operator=$!

status=0
"${@:-$BASH}" || status=$?
exit "$status"
