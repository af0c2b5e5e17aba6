// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

// Package codec translates between the forms that resources and states have: structs that the rules and the dataplane
// know, messages of the API, records of the store, and YAML. It checks forms (is this an address?), not rules.
//
//	resource.go          Decode and Encode: messages of the API to resources and back (resource_*.go: by kind)
//	name.go              names of resources, and references from one to another; etags
//	stored.go            Marshal and Unmarshal: records of the store
//	state.go             a state file to a vpc.State and back (state_marshal.go: the way back)
//	targets.go           what state files and the API have in common: health checks, attributes of target groups
//	scalar.go            addresses, prefixes, times and enums
//	yaml.go              a file to any message and back, with the line of every mistake (yaml_*.go: its steps)
//
// Mistakes of a file are FileErrors, mistakes of a message resource.Errors with the path of the field, as in
// enis[1].address; several are joined by errors.Join. Functions here share no state and may be called from any goroutine.
package codec
