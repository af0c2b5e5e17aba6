// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

// Package null is the least that can stand between two TUN devices: it copies packets from one to the other and looks
// at nothing. Its throughput bounds what a dataplane on such devices can reach, and ratios to it mean the same on a
// slow machine as on a fast one.
//
// The package is frozen. It shares no code with the dataplane, so that an improvement there shows as one.
package null
