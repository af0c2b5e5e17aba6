#!/bin/sh
# SPDX-FileCopyrightText: The Isthmus Authors
# SPDX-License-Identifier: Apache-2.0
#
# Generates the Go code of control/api again from its .proto files. Needs protoc (Debian: protobuf-compiler); the generators are built
# in a directory of their own at the versions below, so that go.mod does not know them.
set -eu

cd "$(dirname "$0")/.."
command -v protoc >/dev/null || { echo "proto.sh: protoc is missing: apt-get install protobuf-compiler" >&2; exit 1; }

bin=$(mktemp -d)
trap 'rm -rf "$bin"' EXIT
GOFLAGS=-mod=mod GOBIN=$bin go install google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.12
GOFLAGS=-mod=mod GOBIN=$bin go install google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.6.2

PATH=$bin:$PATH protoc -I . \
	--go_out=. --go_opt=paths=source_relative \
	--go-grpc_out=. --go-grpc_opt=paths=source_relative \
	control/api/state/v1/*.proto control/api/v1/*.proto
