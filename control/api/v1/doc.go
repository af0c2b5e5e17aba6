// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

// Package apiv1 is the generated code of isthmus.proto, the one schema of the configuration file, of the daemon's API
// and of the JSON that the commands print. scripts/proto.sh generates it again.
package apiv1
