//go:build tools

// Package tools pins the programs that build.sh builds: go.mod says at which version, go.sum says of which bytes.
package tools

import (
	_ "github.com/minio/minio"
)
