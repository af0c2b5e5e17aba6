// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

// Package scripts holds what make calls, and the tests of the tree's own shape: who imports whom, what every file and
// package has, how long things may be.
package scripts
