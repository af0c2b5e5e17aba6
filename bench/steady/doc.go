// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

// Package steady sends TCP segments through interface endpoints at a rate that does not yield, and accounts for every one.
//
// It plays both ends of its flows itself, with packet sockets on the devices of client and server and with addresses that no
// kernel answers for: no TCP slows down when packets are lost, and nothing is repeated. What enters the dataplane and what
// leaves it, the kernel counts at the two devices; a queue that overflows shows there as well.
package steady
