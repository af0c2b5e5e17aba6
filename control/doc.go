// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

// Package control is the daemon around the dataplane. It reads a configuration, keeps the ports that it names open,
// hands the engine one whole state after another, checks the health of targets and answers questions. Read it in this
// order:
//
//	daemon.go      Options, Daemon: the tasks, and what they share
//	config.go      a configuration file to a vpc.State and back (config_*.go: its steps)
//	reconcile.go   file -> state -> ports -> engine, again on every change
//	attach.go      opening and closing ports, and re-opening them when their namespace comes back
//	health.go      the checks of targets (verdict.go: thresholds; probe.go: one check; drain.go: deregistration)
//	server.go      the read-only gRPC service on a unix socket (inspect.go: its answers)
//	metrics.go     the Prometheus collector
//
// A task is Run(ctx), Ready and String. Tasks share nothing but the Daemon's few guarded fields and the engine, whose
// methods may be called from any goroutine. Everything here may allocate, log and block; nothing here touches packets.
package control
