// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"fmt"
	"os"

	"go.yaml.in/yaml/v3"

	"github.com/isthmus-net/isthmus/pkg/netns"
)

// Fits says why the lab of t, which stands, cannot become the lab of next without being built anew; nil if it can. What
// runs in instances may change, and so may everything that is the daemon's: load balancers, services, endpoints.
func (t *Topology) Fits(next *Topology) error {
	for _, part := range []struct {
		name string
		of   func(*Topology) any
	}{
		{"vpcs", func(t *Topology) any { return quiet(t.VPCs) }},
		{"route_tables", func(t *Topology) any { return t.RouteTables }},
	} {
		was, err := yaml.Marshal(part.of(t))
		if err != nil {
			return err
		}
		is, err := yaml.Marshal(part.of(next))
		if err != nil {
			return err
		}
		if string(was) != string(is) {
			return fmt.Errorf("%s have changed, and those of a lab that stands cannot; take it down first (isthmus lab down %s)", part.name, t.Name)
		}
	}
	return nil
}

// quiet are VPCs in which nothing runs.
func quiet(vpcs []VPC) []VPC {
	out := make([]VPC, len(vpcs))
	for i, v := range vpcs {
		v.Instances = append([]Instance{}, v.Instances...)
		for j := range v.Instances {
			v.Instances[j].Run = nil
		}
		out[i] = v
	}
	return out
}

// Update makes t the topology of the lab in dir, if what stands there fits: it renews the hosts files, and has packets that
// come from new GWLB endpoints follow their route tables. Processes and daemon are the caller's to change.
func Update(t *Topology, dir string) (err error) {
	if err := t.Complete(); err != nil {
		return fmt.Errorf("lab %s: %w", t.Name, err)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("update lab %s: %w", t.Name, err)
		}
	}()
	unlock, err := lock(dir)
	if err != nil {
		return err
	}
	defer unlock()
	old, err := Open(dir)
	if err != nil {
		return err
	}
	if err := old.Fits(t); err != nil {
		return err
	}
	for i := range t.VPCs {
		if err := t.update(dir, &t.VPCs[i]); err != nil {
			return err
		}
	}
	content, err := t.YAML()
	if err != nil {
		return err
	}
	aside := topologyFile(dir) + ".new"
	if err := os.WriteFile(aside, content, 0o644); err != nil {
		return err
	}
	return os.Rename(aside, topologyFile(dir))
}

// update is Update for one VPC.
func (t *Topology) update(dir string, v *VPC) error {
	// Those that run inside have the files mounted, so that they are written in place.
	nodes := []string{v.Name}
	for _, in := range v.Instances {
		nodes = append(nodes, in.Name)
	}
	for _, node := range nodes {
		if err := os.WriteFile(hostsFile(dir, node), []byte(t.hosts(v, node)), 0o644); err != nil {
			return err
		}
	}
	router, err := netns.Open(Netns(dir, v.Name))
	if err != nil {
		return err
	}
	defer router.Close()
	for table, r := range t.tables(v) {
		if err := addRules(router, v, t.entrances(r), table); err != nil {
			return fmt.Errorf("route table %s: %w", r.Name, err)
		}
	}
	return nil
}
