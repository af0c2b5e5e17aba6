// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

// Package flow is the connection table of one worker: keys, entries, the shard that holds them, and the NAT ports they
// lease. Nothing here locks: a shard belongs to one worker, which alone reads and writes it.
package flow
