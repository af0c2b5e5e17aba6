// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

// Package apiv1 is the generated code of the daemon's API, which is also the schema of the files that are applied and of
// the JSON and YAML that commands print; scripts/proto.sh generates it again from the .proto files here: inspect.proto
// looks inside a running daemon.
package apiv1
