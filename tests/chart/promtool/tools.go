//go:build tools

// Package tools pins the program that build.sh builds: go.mod says at which version, go.sum says of which bytes.
package tools

import _ "github.com/prometheus/prometheus/cmd/promtool"
