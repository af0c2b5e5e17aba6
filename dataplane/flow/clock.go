// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package flow

// Engine time is a count of milliseconds modulo 2^32, taken once a turn. It wraps after 49.7 days, so two times are
// compared by their difference and never by their size.

// Elapsed is the milliseconds from then to now, both milliseconds of engine time modulo 2^32. Then must not be later
// than now. An age of 2^32 ms or more reads as younger by that period, so whatever waits for an age waits longer, never
// less.
func Elapsed(now, then uint32) uint32 { return now - then }

// Expired reports whether at least after milliseconds have passed from then to now. See Elapsed for the arguments.
func Expired(now, then, after uint32) bool { return Elapsed(now, then) >= after }
