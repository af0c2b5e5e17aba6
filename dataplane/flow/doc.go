// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

// Package flow is the memory of one worker. For interface endpoints it holds Table, whose flows have a Key for either
// direction, and the Ports they lease; for Gateway Load Balancer endpoints StickyTable, whose flows have one StickyKey for
// both directions and a cookie, and Fragments. Nothing here locks: all of it belongs to one worker, which alone reads and
// writes it. Who that is, Owner and StickyTable.CookieWorker tell.
package flow
