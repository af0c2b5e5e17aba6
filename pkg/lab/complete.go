// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"time"
)

var validName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,29}[a-z0-9])?$`)

// smallestMTU is that of IPv4 (RFC 791 section 3.2); below it Linux takes IPv4 off an interface.
const smallestMTU = 68

// Complete fills in every default and checks that the topology can be built. The errors, joined, name what they are
// about and say what to do. Completing twice changes nothing.
func (t *Topology) Complete() error {
	c := &completer{
		t:         t,
		names:     map[string]string{},
		vpcs:      map[string]*VPC{},
		instances: map[string]home{},
		balancers: map[string]*LoadBalancer{},
		groups:    map[string]*TargetGroup{},
		services:  map[string]*Service{},
	}
	c.name("lab", t.Name)
	if len(t.VPCs) == 0 {
		c.fail("the lab has no vpcs; write at least one")
	}
	for i := range t.VPCs {
		c.vpc(&t.VPCs[i])
	}
	for i := range t.LoadBalancers {
		c.loadBalancer(&t.LoadBalancers[i])
	}
	for i := range t.TargetGroups {
		c.targetGroup(&t.TargetGroups[i])
	}
	c.references()
	for i := range t.Services {
		c.service(&t.Services[i])
	}
	for i := range t.Endpoints {
		c.endpoint(&t.Endpoints[i])
	}
	if len(c.errs) == 0 {
		c.assign()
	}
	return errors.Join(c.errs...)
}

// completer is what Complete knows so far.
type completer struct {
	t    *Topology
	errs []error

	names     map[string]string // of nodes and endpoints, with what they are
	vpcs      map[string]*VPC
	instances map[string]home
	balancers map[string]*LoadBalancer
	groups    map[string]*TargetGroup
	services  map[string]*Service
}

// home is an instance and where it lives.
type home struct {
	*Instance
	vpc    *VPC
	subnet *Subnet
}

func (c *completer) fail(format string, args ...any) {
	c.errs = append(c.errs, fmt.Errorf(format, args...))
}

// name checks the form of a name.
func (c *completer) name(what, name string) {
	if !validName.MatchString(name) {
		c.fail("%s: %q is not a name; write up to 31 lower case letters, digits and hyphens", what, name)
	}
}

// node takes a name of the set that nodes and endpoints share: all of them can be typed after "lab exec" or in a URL.
func (c *completer) node(what, name string) {
	c.name(what, name)
	if other, taken := c.names[name]; taken {
		c.fail("%s %q: the name is taken by a %s; choose another", what, name, other)
	}
	c.names[name] = what
}

// id is the default of an id: the same for the same names, on every machine.
func (c *completer) id(prefix, name string) string {
	sum := sha256.Sum256([]byte(c.t.Name + "\x00" + prefix + "\x00" + name))
	return prefix + hex.EncodeToString(sum[:])[:17]
}

func (c *completer) vpc(v *VPC) {
	c.node("vpc", v.Name)
	c.vpcs[v.Name] = v
	if v.ID == "" {
		v.ID = c.id("vpc-", v.Name)
	}
	if !v.CIDR.IsValid() || v.CIDR != v.CIDR.Masked() || !v.CIDR.Addr().Is4() {
		c.fail("vpc %s: cidr %s is not an IPv4 prefix with no bits behind its length; write one such as 10.0.0.0/16", v.Name, v.CIDR)
		return
	}
	if len(v.Subnets) == 0 {
		c.fail("vpc %s: there are no subnets; write at least one", v.Name)
	}
	for i := range v.Subnets {
		c.subnet(v, i)
	}
	for i := range v.Instances {
		c.instance(v, &v.Instances[i])
	}
}

func (c *completer) subnet(v *VPC, i int) {
	s := &v.Subnets[i]
	c.name("vpc "+v.Name+": subnet", s.Name)
	if s.Zone == "" {
		c.fail("subnet %s/%s: zone is missing; write a zone id such as use1-az1", v.Name, s.Name)
	}
	if !s.CIDR.IsValid() || s.CIDR != s.CIDR.Masked() || s.CIDR.Bits() < v.CIDR.Bits() || !v.CIDR.Contains(s.CIDR.Addr()) {
		c.fail("subnet %s/%s: cidr %s is not a part of %s; write a prefix inside, with no bits behind its length",
			v.Name, s.Name, s.CIDR, v.CIDR)
		return
	}
	if s.CIDR.Bits() > 28 {
		c.fail("subnet %s/%s: cidr %s is too small; the smallest subnet is a /28", v.Name, s.Name, s.CIDR)
	}
	for _, other := range v.Subnets[:i] {
		if other.Name == s.Name {
			c.fail("subnet %s/%s: there are two of the name; choose another", v.Name, s.Name)
		}
		if other.CIDR.Overlaps(s.CIDR) {
			c.fail("subnet %s/%s: cidr %s overlaps %s of subnet %s; choose another", v.Name, s.Name, s.CIDR, other.CIDR, other.Name)
		}
	}
	if !s.Gateway.IsValid() {
		s.Gateway = s.CIDR.Addr().Next()
	}
}

func (c *completer) instance(v *VPC, in *Instance) {
	c.node("instance", in.Name)
	s := v.subnet(in.Subnet)
	if s == nil {
		c.fail("instance %s: vpc %s has no subnet %q; name one of its subnets", in.Name, v.Name, in.Subnet)
	}
	c.instances[in.Name] = home{in, v, s}
	if in.MTU == 0 {
		in.MTU = DefaultMTU
	}
	if in.MTU < smallestMTU || in.MTU > DefaultMTU {
		c.fail("instance %s: mtu %d is out of range; write %d to %d", in.Name, in.MTU, smallestMTU, DefaultMTU)
	}
	ports := map[uint16]bool{}
	for i := range in.Run {
		run := &in.Run[i]
		if len(run.Command) > 0 {
			if run.Server != "" || run.Port != 0 || run.ProxyProtocol {
				c.fail("instance %s: run[%d] has a command and fields of a built-in server; write two entries", in.Name, i)
			}
			continue
		}
		if run.Port == 0 {
			run.Port = run.Server.port()
		}
		if run.Port == 0 {
			c.fail("instance %s: run[%d] has neither a command nor a server that exists; write server: http, echo or banner", in.Name, i)
		}
		if ports[run.Port] {
			c.fail("instance %s: run[%d] listens on port %d like another server; choose another port", in.Name, i, run.Port)
		}
		ports[run.Port] = true
	}
}

// subnet finds a subnet by its name, or returns nil.
func (v *VPC) subnet(name string) *Subnet {
	for i := range v.Subnets {
		if v.Subnets[i].Name == name {
			return &v.Subnets[i]
		}
	}
	return nil
}

// orDuration replaces a duration that was left out.
func orDuration(d *Duration, otherwise time.Duration) {
	if *d == 0 {
		*d = Duration(otherwise)
	}
}
