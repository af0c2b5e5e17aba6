// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

// Package balance chooses the target of a new connection. Hash turns the packet that opens it into 64 bits, and a
// Table, built once from the targets, turns those into a target. The same state chooses alike on every worker, on every
// machine and after every restart. Connections that exist are not chosen for again: they are found in the flow table.
package balance
