//go:build tools

// Package tools pins the programs that build.sh builds: go.mod says at which version, go.sum says of which bytes.
package tools

import (
	_ "github.com/Shopify/toxiproxy/v2/cmd/server"
	_ "github.com/minio/minio"
)
