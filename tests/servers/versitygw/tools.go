//go:build tools

// Package tools makes the server program of this module a requirement.
package tools

import _ "github.com/versity/versitygw/cmd/versitygw"
