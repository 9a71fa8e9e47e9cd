#!/usr/bin/env bash
# Tests the chart without a cluster: what it renders is what golden/ holds, and wrong values are refused with a text that
# helps. After a wanted change `tests/chart/run.sh --update` writes golden/ anew; read the difference before you commit.
#
#   values/NAME.yaml     rendered, with its notes, and compared to golden/NAME.yaml
#   rejected/NAME.yaml   must fail with the text of its first line
#   alerts.test.yaml     what promtool asks of the alerts
set -euo pipefail
cd "$(dirname "$0")/../.."

chart=charts/compaction-operator
update=false
case "${1:-}" in
    '') ;;
    --update) update=true ;;
    *) echo "usage: tests/chart/run.sh [--update]" >&2; exit 2 ;;
esac
command -v helm >/dev/null || { echo 'tests/chart/run.sh: helm is missing: https://helm.sh/docs/intro/install' >&2; exit 1; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0
fail() { echo "FAILED $*"; failed=$((failed + 1)); }

# Neither the version of Helm nor a cluster has a say in what is rendered.
render() { helm template compaction-operator "$chart" --namespace compaction --kube-version 1.37.0 "$@"; }

same_as_golden() { # NAME: $work/NAME is golden/NAME
    if $update; then
        cp "$work/$1" "tests/chart/golden/$1"
    elif ! diff -u "tests/chart/golden/$1" "$work/$1"; then
        fail "golden/$1; if the change is wanted: tests/chart/run.sh --update"
    fi
}

# The dashboard is the file to the letter, so it is left out of golden/.
without_dashboard() { awk '/^  [^ ]*\.json: \|-$/ { print; left_out = 1; next } /^    / && left_out { next } { left_out = 0; print }'; }
rendered=$(render --show-only templates/dashboard.yaml --set grafanaDashboard.enabled=true)
sed '1,/^  [^ ]*\.json: |-$/d; s/^    //' <<<"$rendered" >"$work/dashboard.json"
cmp "$chart/files/dashboard.json" "$work/dashboard.json" || fail 'the dashboard in its ConfigMap is not files/dashboard.json'

# The CRD is the generated one but for what golden/crds.diff shows, so it is left out of the others.
# (Helm begins it with two lines of its own and ends it with empty ones; where the difference stands does not matter.)
printf '%s\n' "$(render --show-only templates/crds.yaml | sed 1,2d)" >"$work/crds.yaml"
diff crds/compaction.dev.yaml "$work/crds.yaml" | grep '^[<>]' >"$work/crds.diff" || true
same_as_golden crds.diff
render --show-only templates/crds.yaml --set crds.keep=false >"$work/crds.yaml"
if grep -q 'helm.sh/resource-policy' "$work/crds.yaml"; then fail 'crds.keep=false keeps the CRD'; fi

for values in tests/chart/values/*.yaml; do
    name=$(basename "$values")
    helm lint --strict --quiet "$chart" --values "$values" || fail "lint with $values"
    render --values "$values" --set crds.install=false | without_dashboard >"$work/$name"
    {
        echo '# NOTES'
        helm install compaction-operator "$chart" --namespace compaction --dry-run=client --values "$values" |
            sed '1,/^NOTES:$/d'
    } >>"$work/$name"
    same_as_golden "$name"
done

for values in tests/chart/rejected/*.yaml; do
    expected=$(sed -n '1s/^# //p' "$values")
    if render --values "$values" >"$work/out" 2>&1; then
        fail "$values was taken; expected: $expected"
    elif ! grep -qF -- "$expected" "$work/out"; then
        fail "$values was refused, but without: $expected"
        cat "$work/out"
    fi
done

if render --kube-version 1.28.0 >"$work/out" 2>&1 || ! grep -q 'requires kubeVersion' "$work/out"; then
    fail 'Kubernetes 1.28 is not refused'
fi

# The image's tag is the version of the crate.
crate=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
grep -qx "appVersion: \"$crate\"" "$chart/Chart.yaml" || fail "appVersion is not $crate, the version in Cargo.toml"

# The default image is the one that Artifact Hub is told of.
grep -qx "      image: compaction-operator:$crate" "$chart/Chart.yaml" || fail "artifacthub.io/images is not of $crate"

# Alerts: what promtool asks, and that it asks of each when it is on and when it is not.
promtool=$(tests/chart/promtool/build.sh)
render --show-only templates/prometheusrule.yaml --set prometheusRule.enabled=true |
    sed '1,/^spec:$/d; s/^  //' >"$work/rules.yaml"
cp tests/chart/alerts.test.yaml "$work/"
"$promtool" check rules "$work/rules.yaml" >"$work/out" || { cat "$work/out"; fail 'the rules of the alerts'; }
"$promtool" test rules "$work/alerts.test.yaml" || fail 'the alerts'
cases() { grep -A 2 -x "      - alertname: $1" tests/chart/alerts.test.yaml | grep -c "$2" || true; }
alerts=$(sed -n 's/^ *- alert: //p' "$work/rules.yaml")
for alert in $alerts; do
    (($(cases "$alert" 'exp_alerts:$') > 0)) || fail "alerts.test.yaml has no case in which $alert fires"
    (($(cases "$alert" 'exp_alerts: \[\]$') > 0)) || fail "alerts.test.yaml has no case in which $alert is silent"
done
(($(wc -w <<<"$alerts") > 5)) || fail 'no alerts were found'

if ((failed > 0)); then echo "the chart: $failed failed"; exit 1; fi
counted() { find "tests/chart/$1" -name '*.yaml' | wc -l; }
echo "the chart: $(counted values) sets of values as expected, $(counted rejected) refused, $(wc -w <<<"$alerts") alerts tested"
