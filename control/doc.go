// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

// Package control is the daemon around the dataplane. It reads a configuration, keeps the ports that it names open,
// hands the engine one whole state after another, checks the health of targets and answers questions. Read it in this
// order:
//
//	daemon.go      Options, Daemon: the tasks, and what they share
//	config.go      reading a configuration file (codec has what it says)
//	reconcile.go   file -> state -> ports -> engine, again on every change (watch.go: what changes; hashkey.go)
//	attach.go      opening and closing ports, and re-opening them when their namespace comes back (kernel.go: how;
//	               surroundings.go: whether what is around them suits their traffic; doctor has the single checks)
//	health.go      the checks of targets (checks.go: which; probe.go: one check; verdict.go: thresholds; drain.go)
//	server.go      the read-only gRPC service on a unix socket (inspect*.go: its answers)
//	metrics.go     the Prometheus collector (metrics_api.go: calls; metrics_server.go: its address). What contrib has for
//	               Prometheus and Grafana is held against it
//
// A task is Run(ctx), Ready and String. Tasks share nothing but the Daemon's few guarded fields and the engine, whose
// methods may be called from any goroutine. Everything here may allocate, log and block; nothing here touches packets.
package control
