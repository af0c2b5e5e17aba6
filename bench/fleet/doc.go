// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

// Package fleet writes manifests of any size: a provider with many services and targets, and a consumer with many endpoints
// of them. The bench and the integration tests apply them to see what a size costs; what is in a manifest is the same
// everywhere, so that their figures can be compared.
package fleet
