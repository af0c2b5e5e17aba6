// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/isthmus-net/isthmus/pkg/vpc"
)

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }
func addr(s string) netip.Addr     { return netip.MustParseAddr(s) }

// inspected is a state with one of everything: a network and a gateway load balancer, each with a service and an
// endpoint.
func inspected() *vpc.State {
	s, err := LoadState("testdata/reference.yaml")
	if err != nil {
		panic(err)
	}
	return s
}

// reference is inspected without what belongs to the gateway load balancer.
func reference() *vpc.State {
	s := inspected()
	s.Ports, s.LoadBalancers, s.TargetGroups = s.Ports[:3], s.LoadBalancers[:1], s.TargetGroups[:1]
	s.Services, s.Endpoints = s.Services[:1], s.Endpoints[:1]
	return s
}

func TestLoadStateRefusesHugeFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.yaml")
	if err := os.WriteFile(path, make([]byte, MaxConfigSize+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadState(path); err == nil || !strings.Contains(err.Error(), "larger than 16 MiB") {
		t.Errorf("got %v", err)
	}
	if _, err := LoadState(path + "x"); err == nil {
		t.Error("a missing file passed")
	}
}

// TestExampleState reads the configuration that README.md starts with.
func TestExampleState(t *testing.T) {
	if _, err := LoadState("../examples/daemon/state.yaml"); err != nil {
		t.Error(err)
	}
}
