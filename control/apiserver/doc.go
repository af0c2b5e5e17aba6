// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

// Package apiserver is the API: the gRPC services over the keeper, and who may call them. It holds nothing of its own but
// counts of watchers; what it answers is read from the keeper, what it is asked goes there as one transaction.
//
//	server.go        Options, Server: the services, their limits, their health
//	config.go        DaemonConfig: the file that says who may call, and how
//	unix.go, tls.go  who is at the other end: by the socket's credentials, or by a certificate (trust.go: reloading it)
//	caller.go        from there to an Actor of the rules
//	intercept.go     what every call goes through: identity, unknown fields, sizes, errors (errors.go: their form)
//	standard.go      create, get, list, update and delete, once for all kinds of resources (kinds.go: what differs)
//	present.go       messages of resources, with what the dataplane runs of them
//	mask.go, page.go field masks and page tokens
//	services.go      the services, and their standard methods, a line each
//	targets.go       registering and deregistering targets
//	connections.go   what providers and consumers see of each other
//	apply.go         manifests: plan, change, prune (diff.go: what a plan says of an update)
//	transfer.go      export and import
//	watch.go         the stream of changes
//	visible.go       who may see what the dataplane tells of a resource
//
// Reading is decided here: accounts see what they own, operators see all, and what may not be seen is not there. What
// may be changed is for pkg/vpc/resource to say.
package apiserver
