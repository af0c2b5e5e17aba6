// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package vpc

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Limits of a State. An object of the dataplane is named by a 16-bit slot, of which the zero one names nothing.
const (
	MaxENIs    = 65535
	MaxPorts   = 65534 // one slot is the daemon's own, for health checks
	MaxTargets = 65535
)

// Ranges of timers, thresholds and sizes, those of network and gateway load balancers.
const (
	MinIdleTimeout         = 60 * time.Second
	MaxIdleTimeout         = 6000 * time.Second
	MaxDeregistrationDelay = 3600 * time.Second
	MinHealthInterval      = 5 * time.Second
	MaxHealthInterval      = 300 * time.Second
	MinHealthTimeout       = 2 * time.Second
	MaxHealthTimeout       = 120 * time.Second
	MinHealthThreshold     = 2
	MaxHealthThreshold     = 10
	MinMatch               = 200
	MaxMatch               = 599
	MinGatewayMTU          = 576 // what every IPv4 host takes (RFC 791)
	MaxGatewayMTU          = 8500
)

// DefaultIdleTimeout is the idle timeout of TCP where nothing else is chosen, and where nothing else may be.
const DefaultIdleTimeout = 350 * time.Second

// GenevePort is the UDP port of appliances (RFC 8926), and so that of every target of a gateway load balancer.
const GenevePort = 6081

// MaxDevice is the longest name of an interface, in bytes (IFNAMSIZ without its end).
const MaxDevice = 15

// ReservedPortID is the ID of the daemon's own port, where health checks enter. No port of a State has it.
const ReservedPortID = "probe"

// FieldError is one broken rule of a State.
type FieldError struct {
	// Path leads to the field by the names of the configuration file, as in load_balancers[0].listeners[1].port.
	Path string
	// Problem says what is wrong and what to do about it.
	Problem string
}

// Error is the path and the problem.
func (e *FieldError) Error() string { return e.Path + ": " + e.Problem }

// Validate says whether the state may be applied. It reports every broken rule, as FieldErrors joined by errors.Join,
// not only the first. It only reads the state.
func (s *State) Validate() error {
	c := &checker{
		state:    s,
		vpcs:     map[string]*VPC{},
		ports:    map[string]*Port{},
		groups:   map[string]*TargetGroup{},
		lbs:      map[string]*LoadBalancer{},
		services: map[string]*EndpointService{},
		enis:     map[vpcAddress]string{},
		gateways: map[vpcAddress]string{},
		hosts:    map[vpcAddress]string{},
		users:    map[string]*LoadBalancer{},
		tenants:  map[string][]string{},
		nextHops: map[string]bool{},
		zones:    map[string]bool{},

		securityGroups: map[string]*SecurityGroup{},
	}
	c.limits()
	c.checkVPCs()
	c.indexNextHops()
	c.checkPorts()
	c.indexGroups()
	c.checkLoadBalancers()
	c.checkServices()
	c.checkSecurityGroups()
	c.checkEndpoints()
	c.checkNextHops()
	c.checkTargetGroups()
	c.checkTesting()
	return errors.Join(c.errs...)
}

// vpcAddress is an address where it means something: in a VPC.
type vpcAddress struct {
	vpc     string
	address netip.Addr
}

// checker collects what is wrong with a state, and what the rules need to look up.
type checker struct {
	state *State
	errs  []error

	vpcs     map[string]*VPC
	ports    map[string]*Port
	groups   map[string]*TargetGroup
	lbs      map[string]*LoadBalancer
	services map[string]*EndpointService

	securityGroups map[string]*SecurityGroup

	enis     map[vpcAddress]string // addresses of ENIs, and the path of each
	gateways map[vpcAddress]string // addresses of gateways of subnets
	hosts    map[vpcAddress]string // addresses that the kernel of a TUN's namespace has

	users    map[string]*LoadBalancer // the first load balancer that uses a target group
	tenants  map[string][]string      // paths of the ENIs on a port
	nextHops map[string]bool          // ports that GWLB endpoints name
	zones    map[string]bool          // zone ids whose form is right: there are few, and much is in each
}

// nth is the path of an element of a list. It is written so because paths are needed for every element, and read for few.
func nth(list string, i int) string { return list + "[" + strconv.Itoa(i) + "]" }

// fail records a broken rule of the field at path.
func (c *checker) fail(path, format string, args ...any) {
	c.errs = append(c.errs, &FieldError{Path: path, Problem: fmt.Sprintf(format, args...)})
}

// limits compares the numbers of objects with the slots there are.
func (c *checker) limits() {
	enis, targets := 0, 0
	for _, lb := range c.state.LoadBalancers {
		enis += len(lb.Nodes)
	}
	for _, e := range c.state.Endpoints {
		enis += len(e.ENIs)
	}
	for _, g := range c.state.TargetGroups {
		targets += len(g.Targets)
	}
	if enis > MaxENIs {
		c.fail("endpoints", "%d ENIs of endpoints and load balancer nodes are more than MaxENIs (%d); use several daemons", enis, MaxENIs)
	}
	if n := len(c.state.Ports); n > MaxPorts {
		c.fail("ports", "%d ports are more than MaxPorts (%d); use several daemons", n, MaxPorts)
	}
	if targets > MaxTargets {
		c.fail("target_groups", "%d targets are more than MaxTargets (%d); use several daemons", targets, MaxTargets)
	}
}

var (
	vpcID      = regexp.MustCompile(`^vpc-[a-z0-9][a-z0-9-]{0,59}$`)
	serviceID  = regexp.MustCompile(`^vpce-svc-[a-z0-9][a-z0-9-]{0,54}$`)
	endpointID = regexp.MustCompile(`^vpce-[0-9a-f]{17}$`)
	zoneID     = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,31}$`)
	anyID      = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:/-]{0,254}$`)
)

// id checks the form of an identifier and that it is the first of its kind. It says whether objects may refer to it.
func id[T any](c *checker, seen map[string]*T, path, id string, form *regexp.Regexp, want string, object *T) bool {
	switch {
	case id == "":
		c.fail(path+".id", "is missing; write %s", want)
		return false
	case !form.MatchString(id):
		c.fail(path+".id", "%q has not the form of an id; write %s", id, want)
	}
	if seen[id] != nil {
		c.fail(path+".id", "%q is taken by an earlier object; ids are unique", id)
		return false
	}
	seen[id] = object
	return true
}

// known finds what a reference names, and complains when it names nothing.
func known[T any](c *checker, seen map[string]*T, path, id, list string) *T {
	if id == "" {
		c.fail(path, "is missing; name one of %s", list)
		return nil
	}
	object := seen[id]
	if object == nil {
		c.fail(path, "there is no %q among %s", id, list)
	}
	return object
}

// address checks that an address can be an interface's or a peer's.
func (c *checker) address(path string, a netip.Addr) bool {
	switch {
	case !a.IsValid():
		c.fail(path, "is missing; write an IPv4 address")
	case !a.Is4():
		c.fail(path, "%s is not an IPv4 address; only IPv4 is carried so far", a)
	case a.IsUnspecified(), a.IsLoopback(), a.IsMulticast(), a.As4()[0] >= 240, a.As4()[0] == 0:
		c.fail(path, "%s cannot be the address of an interface; write a unicast address", a)
	default:
		return true
	}
	return false
}

// network checks that a prefix is an IPv4 network: nothing set behind its length.
func (c *checker) network(path string, p netip.Prefix) bool {
	if p.IsValid() && !p.Addr().Is4() {
		c.fail(path, "%s is not an IPv4 prefix; only IPv4 is carried so far", p)
		return false
	}
	return c.anyNetwork(path, p)
}

// anyNetwork is network for both families.
func (c *checker) anyNetwork(path string, p netip.Prefix) bool {
	switch {
	case !p.IsValid():
		c.fail(path, "is missing; write a prefix such as 10.0.0.0/16")
	case p != p.Masked():
		c.fail(path, "%s has bits set behind its length; write %s", p, p.Masked())
	default:
		return true
	}
	return false
}

// zone checks the form of a zone id.
func (c *checker) zone(path, zone string) {
	switch {
	case zone == "":
		c.fail(path, "is missing; write a zone id such as use1-az1")
	case c.zones[zone]:
	case !zoneID.MatchString(zone):
		c.fail(path, "%q is no zone id; write lower case letters, digits and hyphens, such as use1-az1", zone)
	default:
		c.zones[zone] = true
	}
}

// between checks a duration against its range, ends included.
func (c *checker) between(path string, d, least, most time.Duration) {
	if d < least || d > most {
		c.fail(path, "%s is out of range; write %s to %s", seconds(d), seconds(least), seconds(most))
	}
}

// seconds writes a duration the way the configuration does.
func seconds(d time.Duration) string {
	return strings.TrimSuffix(strings.TrimRight(fmt.Sprintf("%.3f", d.Seconds()), "0"), ".") + "s"
}

// contains says whether one of the VPC's CIDRs has the address.
func (v *VPC) contains(a netip.Addr) bool {
	for _, p := range v.CIDRs {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// checkVPCs checks address spaces.
func (c *checker) checkVPCs() {
	for i := range c.state.VPCs {
		v := &c.state.VPCs[i]
		path := nth("vpcs", i)
		id(c, c.vpcs, path, v.ID, vpcID, "vpc- and a name of lower case letters, digits and hyphens", v)
		if len(v.CIDRs) == 0 {
			c.fail(path+".cidrs", "is empty; a VPC has at least one prefix")
		}
		for j, p := range v.CIDRs {
			at := nth(path+".cidrs", j)
			if !c.network(at, p) {
				continue
			}
			for _, q := range v.CIDRs[:j] {
				if q.IsValid() && q.Overlaps(p) {
					c.fail(at, "%s overlaps %s of the same VPC; leave one out", p, q)
				}
			}
		}
	}
}

// checkTesting checks the overrides for labs.
func (c *checker) checkTesting() {
	t := c.state.Testing
	if t == nil {
		return
	}
	for _, f := range []struct {
		path string
		d    time.Duration
	}{
		{"testing.idle_timeout", t.TCPIdle},
		{"testing.health_check_interval", t.HealthInterval},
		{"testing.health_check_timeout", t.HealthTimeout},
	} {
		if f.d != 0 {
			// The dataplane keeps idle times in tenths of a second.
			c.between(f.path, f.d, 100*time.Millisecond, MaxIdleTimeout)
		}
	}
	if t.HealthInterval != 0 && t.HealthTimeout > t.HealthInterval {
		c.fail("testing.health_check_timeout", "%s is longer than the interval of %s; lower it",
			seconds(t.HealthTimeout), seconds(t.HealthInterval))
	}
}
