// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package resource

import (
	"path"
	"strings"

	"github.com/isthmus-net/isthmus/pkg/vpc"
)

func (*Attachment) kind() Kind { return KindAttachment }

// devicePrefix and the last digits of the UID name a device that nobody has named.
const devicePrefix = "isth"

func (r *Attachment) prepare(t *Tx, old Resource, c *complaints) {
	resolve[*Subnet](t, c, KindSubnet, "subnet", &r.Subnet)
	if r.Endpoint != "" {
		if e, ok := resolve[*Endpoint](t, c, KindEndpoint, "endpoint", &r.Endpoint); ok && e.State == Deleting && old == nil {
			c.add(FailedPrecondition, "ENDPOINT_DELETING", "IncorrectState", "endpoint", "endpoint %s is being deleted; name another one", e.ID)
		}
	}
	if o, _ := old.(*Attachment); (o == nil || o.Netns != r.Netns) && !t.mayAttach(r) {
		c.add(PermissionDenied, "NETNS_NOT_ALLOWED", "UnauthorizedOperation", "netns",
			"%s is not among the namespaces of account %s; have an operator add it to namespaces in the daemon's configuration", r.Netns, r.Account)
	}
	if old != nil {
		o := old.(*Attachment)
		c.fixed("subnet", r.Subnet == o.Subnet)
		c.fixed("endpoint", r.Endpoint == o.Endpoint)
		if r.Device == "" {
			r.Device = o.Device
		}
	}
	if n := len(r.UID); r.Device == "" && n > 0 {
		r.Device = devicePrefix + r.UID[n-(vpc.MaxDevice-len(devicePrefix)):]
	}
}

// mayAttach says whether the actor may use the attachment's namespace.
func (t *Tx) mayAttach(r *Attachment) bool {
	may := t.model.cfg.MayAttach
	return may == nil || t.env.Actor.Operator || t.env.Actor.Host || may(r.Account, r.Netns)
}

func (r *Attachment) form(c *complaints) {
	switch {
	case r.Netns == "":
		c.missing("netns", "write the path of a network namespace, such as /run/netns/consumer")
	case !path.IsAbs(r.Netns) || path.Clean(r.Netns) != r.Netns || strings.ContainsFunc(r.Netns, unprintable):
		c.wrong("netns", "%q is not a plain absolute path; write one such as /run/netns/consumer", r.Netns)
	}
	c.device("device", r.Device)
}

func (r *Attachment) check(m *model, c *complaints) {
	s, ok := lookup[*Subnet](m, KindSubnet, r.Account, r.Subnet)
	if !ok {
		c.absent(KindSubnet, "subnet", r.Subnet)
		return
	}
	if r.Bridge != "" {
		r.checkBridge(m, s, c)
	} else {
		r.checkNamespace(m, s, c)
	}
	if r.Endpoint != "" {
		r.checkEndpoint(m, c)
	}
	m.checkRoutes(c, "endpoint", r)
}

func unprintable(r rune) bool { return r <= ' ' || r > '~' }

// device checks the name of an interface by the kernel's rules (dev_valid_name).
func (c *complaints) device(field, name string) {
	if len(name) == 0 || len(name) > vpc.MaxDevice || name == "." || name == ".." ||
		strings.ContainsAny(name, "/:%") || strings.ContainsFunc(name, unprintable) {
		c.wrong(field, "%q cannot name an interface; write at most %d letters, digits and hyphens", name, vpc.MaxDevice)
	}
}

// checkBridge checks a device on a bridge.
func (r *Attachment) checkBridge(m *model, s *Subnet, c *complaints) {
	c.device("bridge.name", r.Bridge)
	if r.Bridge == r.Device {
		c.conflict("BRIDGE_IS_DEVICE", "bridge.name", "is the device itself; name the bridge that the device joins")
	}
	if len(r.Addresses) > 0 {
		c.conflict("BRIDGE_HAS_ADDRESSES", "namespace.addresses", "are for a device without a bridge; remove them, or the bridge")
	}
	if !r.Gateway.IsValid() || !c.address("bridge.gateway", r.Gateway) {
		return
	}
	if last := s.CIDR.Masked(); !s.CIDR.Contains(r.Gateway) || r.Gateway == last.Addr() || !s.CIDR.Contains(r.Gateway.Next()) {
		c.wrong("bridge.gateway", "%s is no host of %s; a gateway is on link", r.Gateway, s.CIDR)
	}
	m.checkHost(c, "bridge.gateway", s.VPC, r.Gateway)
}

// checkNamespace checks a device in the namespace itself.
func (r *Attachment) checkNamespace(m *model, s *Subnet, c *complaints) {
	if r.Gateway.IsValid() {
		c.conflict("GATEWAY_WITHOUT_BRIDGE", "bridge.gateway", "is for a device on a bridge; remove it, or name the bridge")
	}
	for i, a := range r.Addresses {
		field := at("namespace.addresses", i)
		if !a.IsValid() {
			c.missing(field, "write an address with its prefix length, such as 10.0.1.10/24")
		} else if c.address(field, a.Addr()) {
			m.checkHost(c, field, s.VPC, a.Addr())
		}
	}
}

// checkEndpoint checks an attachment that is for one GWLB endpoint: alone if it is a TUN, since all that is routed into
// that is the endpoint's.
func (r *Attachment) checkEndpoint(m *model, c *complaints) {
	e, ok := lookup[*Endpoint](m, KindEndpoint, r.Account, r.Endpoint)
	switch {
	case !ok:
		c.absent(KindEndpoint, "endpoint", r.Endpoint)
		return
	case e.Type != vpc.GatewayLoadBalancer:
		c.conflict("ENDPOINT_TYPE", "endpoint", "endpoint %s is of type %s; leave it out, interface endpoints are reached by all attachments of their subnet", e.ID, e.Type)
		return
	case len(e.ENIs) != 1 || e.ENIs[0].Subnet != r.Subnet:
		c.conflict("ENDPOINT_IN_OTHER_SUBNET", "endpoint", "endpoint %s has no ENI in subnet %s; attach it to its own subnet", e.ID, r.Subnet)
		return
	}
	for u := range m.users(e.Key, KindAttachment) {
		if o := u.(*Attachment); o.Key != r.Key && (o.Bridge == "" || r.Bridge == "") {
			c.conflict("ENDPOINT_ATTACHED", "endpoint", "endpoint %s has attachment %s; a device in a namespace is its only one", e.ID, o.ID)
			return
		}
	}
}

func (r *Attachment) release(*Tx, *complaints) {}
