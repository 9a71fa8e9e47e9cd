#!/bin/sh
# Builds promtool at the version that go.mod pins, and prints its path.
set -eu

cd "$(dirname "$0")"
. ../../go-programs.sh

# Rules are tested without any target, so without the clients of all clouds that targets can be found in.
GOFLAGS="${GOFLAGS-} -tags=remove_all_sd"
export GOFLAGS
prometheus=github.com/prometheus/prometheus
go_programs "-s -w" promtool $prometheus $prometheus/cmd/promtool
