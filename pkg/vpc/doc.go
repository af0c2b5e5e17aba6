// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

// Package vpc holds the nouns of the product and their rules: VPCs, ports, load balancers, target groups, endpoint
// services and endpoints. It does no I/O. A State is a whole configuration; Validate says whether it may be applied.
package vpc
