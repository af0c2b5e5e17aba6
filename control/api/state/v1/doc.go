// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

// Package statev1 is the generated code of state.proto, the schema of the state files of daemons without an API.
// scripts/proto.sh generates it again.
package statev1
