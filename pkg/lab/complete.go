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

var (
	validName   = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,29}[a-z0-9])?$`)
	accountForm = regexp.MustCompile(`^[0-9]{12}$`)
)

// smallestMTU is that of IPv4 (RFC 791 section 3.2); below it Linux takes IPv4 off an interface.
const smallestMTU = 68

// Complete fills in every default and checks that the topology can be built, and that what it says keeps the rules that
// the daemon enforces. The errors, joined, name what they are about and say what to do. Completing twice changes nothing.
func (t *Topology) Complete() error {
	c := &completer{
		t:         t,
		names:     map[string]string{},
		vpcs:      map[string]*VPC{},
		instances: map[string]home{},
		balancers: map[string]*LoadBalancer{},
		groups:    map[string]*TargetGroup{},
		services:  map[string]*Service{},
		endpoints: map[string]*Endpoint{},

		inspecting: map[string]bool{},
	}
	c.name("lab", t.Name)
	c.accounts()
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
	c.routeTables()
	c.uniqueIDs()
	if len(c.errs) == 0 {
		c.assign()
	}
	if len(c.errs) == 0 {
		// Where the lab is built makes no difference to the rules.
		if _, err := t.set(Dir(t.Name)); err != nil {
			c.errs = append(c.errs, err)
		}
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
	endpoints map[string]*Endpoint

	inspecting map[string]bool // target groups of gateway load balancers
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

// uid is an identifier of AWS's form: the same for the same names, on every machine.
func (t *Topology) uid(prefix, name string) string {
	sum := sha256.Sum256([]byte(t.Name + "\x00" + prefix + "\x00" + name))
	return prefix + hex.EncodeToString(sum[:])[:17]
}

func (c *completer) vpc(v *VPC) {
	c.node("vpc", v.Name)
	c.vpcs[v.Name] = v
	if v.ID == "" {
		v.ID = c.t.uid("vpc-", v.Name)
	}
	if !accountForm.MatchString(v.Account) {
		c.fail("vpc %s: account %q is not 12 digits; write such as %s, or leave it out", v.Name, v.Account, Consumer)
	}
	if !v.CIDR.IsValid() || v.CIDR != v.CIDR.Masked() || !v.CIDR.Addr().Is4() {
		c.fail("vpc %s: cidr %s is not an IPv4 prefix with no bits behind its length; write one such as 10.0.0.0/16", v.Name, v.CIDR)
		return
	}
	if p := v.IPv6CIDR; p != nil && (!isIPv6(*p) || p.Bits() > ipv6Subnet) {
		c.fail("vpc %s: ipv6_cidr %s is not an IPv6 prefix of a /64 or more; write one such as 2001:db8:a::/56", v.Name, p)
	}
	if len(v.Subnets) == 0 {
		c.fail("vpc %s: there are no subnets; write at least one", v.Name)
	}
	for i := range v.Subnets {
		c.subnet(v, i)
	}
	if v.Internet != nil {
		c.internet(v)
	}
	for i := range v.Instances {
		c.instance(v, &v.Instances[i])
	}
}

func (c *completer) subnet(v *VPC, i int) {
	s := &v.Subnets[i]
	c.name("vpc "+v.Name+": subnet", s.Name)
	if s.Name == Internet {
		c.fail("subnet %s/%s: the name is kept for the internet of a vpc; choose another", v.Name, s.Name)
	}
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
	if p := s.IPv6CIDR; p != nil && (v.IPv6CIDR == nil || !isIPv6(*p) || p.Bits() != ipv6Subnet || !v.IPv6CIDR.Contains(p.Addr())) {
		c.fail("subnet %s/%s: ipv6_cidr %s is not a /64 inside the ipv6_cidr of its vpc; write one, or none", v.Name, s.Name, p)
	}
	for _, other := range v.Subnets[:i] {
		if other.IPv6CIDR != nil && s.IPv6CIDR != nil && *other.IPv6CIDR == *s.IPv6CIDR {
			c.fail("subnet %s/%s: ipv6_cidr %s is that of subnet %s; choose another", v.Name, s.Name, s.IPv6CIDR, other.Name)
		}
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

// internet completes the internet of a VPC.
func (c *completer) internet(v *VPC) {
	s := v.Internet
	if s.Name != "" && s.Name != Internet || s.Zone != "" {
		c.fail("vpc %s: its internet has a cidr and no name or zone; remove them", v.Name)
	}
	s.Name = Internet
	if !s.CIDR.IsValid() || s.CIDR != s.CIDR.Masked() || !s.CIDR.Addr().Is4() || s.CIDR.Bits() > 28 || s.CIDR.Overlaps(v.CIDR) {
		c.fail("vpc %s: cidr %s of its internet is not an IPv4 prefix of a /28 or more, with no bits behind its length, outside %s; write one such as 203.0.113.0/24",
			v.Name, s.CIDR, v.CIDR)
		return
	}
	if p := s.IPv6CIDR; p != nil && (v.IPv6CIDR == nil || !isIPv6(*p) || p.Bits() != ipv6Subnet || v.IPv6CIDR.Contains(p.Addr())) {
		c.fail("vpc %s: ipv6_cidr %s of its internet is not a /64 outside the vpc's ipv6_cidr; write one, or none", v.Name, p)
	}
	if !s.Gateway.IsValid() {
		s.Gateway = s.CIDR.Addr().Next()
	}
}

func (c *completer) instance(v *VPC, in *Instance) {
	c.node("instance", in.Name)
	s := v.Subnet(in.Subnet)
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
		c.run(in, i, ports)
	}
}

// run completes one thing that an instance runs; ports are those where built-in ones before it listen.
func (c *completer) run(in *Instance, i int, ports map[uint16]bool) {
	run := &in.Run[i]
	server := run.Server != "" || run.Port != 0 || run.ProxyProtocol
	port := &run.Port
	switch {
	case len(run.Command) > 0:
		if server || run.Appliance != nil {
			c.fail("instance %s: run[%d] has a command and fields of a built-in server; write two entries", in.Name, i)
		}
		return
	case run.Appliance != nil:
		if server {
			c.fail("instance %s: run[%d] is an appliance and a server; write two entries", in.Name, i)
		}
		port = &run.Appliance.HealthPort
		if *port == 0 {
			*port = HTTP.port()
		}
		switch run.Appliance.Mode {
		case "":
			run.Appliance.Mode = Hairpin
		case Hairpin, TUN:
		default:
			c.fail("instance %s: run[%d] has an appliance of mode %q; write %s or %s", in.Name, i, run.Appliance.Mode, Hairpin, TUN)
		}
	case run.Port == 0:
		run.Port = run.Server.port()
	}
	if *port == 0 {
		c.fail("instance %s: run[%d] has neither a command nor a server that exists; write server: http, echo or banner, or an appliance", in.Name, i)
	}
	if ports[*port] {
		c.fail("instance %s: run[%d] listens on port %d like another server; choose another port", in.Name, i, *port)
	}
	ports[*port] = true
}

// Subnet finds a subnet, or the internet, by its name; nil means that there is none.
func (v *VPC) Subnet(name string) *Subnet {
	for _, s := range v.places() {
		if s.Name == name {
			return s
		}
	}
	return nil
}

// places are the subnets and the internet.
func (v *VPC) places() []*Subnet {
	var list []*Subnet
	for i := range v.Subnets {
		list = append(list, &v.Subnets[i])
	}
	if v.Internet != nil {
		list = append(list, v.Internet)
	}
	return list
}

// orDuration replaces a duration that was left out.
func orDuration(d *Duration, otherwise time.Duration) {
	if *d == 0 {
		*d = Duration(otherwise)
	}
}
