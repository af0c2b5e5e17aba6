// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package resource

import (
	"slices"
	"strings"

	"github.com/isthmus-net/isthmus/pkg/vpc"
)

func (*Endpoint) kind() Kind { return KindEndpoint }

// String is the state's name as AWS spells it.
func (s EndpointState) String() string {
	if s == 0 || s > Expired {
		return "unknown"
	}
	return [...]string{
		PendingAcceptance: "pendingAcceptance", Pending: "pending", Available: "available", Rejected: "rejected",
		Deleting: "deleting", Deleted: "deleted", Failed: "failed", Expired: "expired",
	}[s]
}

// running says whether the dataplane is to run the endpoint.
func (r *Endpoint) running() bool { return r.State == Pending || r.State == Available }

// attached says whether the endpoint waits for its service or uses it.
func (r *Endpoint) attached() bool { return r.State == PendingAcceptance || r.running() }

// zonesOf are the zone ids of an endpoint's subnets.
func (m *model) zonesOf(e *Endpoint) []string {
	zones := make([]string, 0, len(e.ENIs))
	for _, eni := range e.ENIs {
		if s, ok := lookup[*Subnet](m, KindSubnet, e.Account, eni.Subnet); ok {
			zones = append(zones, s.ZoneID)
		}
	}
	return zones
}

func (r *Endpoint) prepare(t *Tx, old Resource, c *complaints) {
	v, ok := resolve[*VPC](t, c, KindVPC, "vpc", &r.VPC)
	var o *Endpoint
	var before []SubnetAddress
	if old == nil {
		r.begin(t, c)
		if ok {
			t.quota(c, kinds[KindEndpoint].limit, "", "endpoints_per_vpc", "VPC "+v.ID, t.model.countUsers(v.Key, KindEndpoint)+1)
		}
	} else {
		o = old.(*Endpoint)
		r.keep(o, c)
		before = o.ENIs
	}
	if len(c.errs) > 0 {
		return
	}
	t.placeENIs(c, "enis", r.VPC, r.ENIs, before)
	if o != nil && o.Type == vpc.GatewayLoadBalancer && len(r.ENIs) == 1 {
		c.fixed("enis[0].subnet", r.ENIs[0].Subnet == o.ENIs[0].Subnet)
	}
	r.groups(t, v, c)
	r.limit(t, o, c)
	if o != nil && !o.attached() && len(c.errs) == 0 {
		r.unchanged(o, c)
	}
}

// begin fills in what a new endpoint has by its service.
func (r *Endpoint) begin(t *Tx, c *complaints) {
	a := t.env.Actor
	r.Creator = a.Principal
	if a.Account != r.Account || r.Creator == "" {
		r.Creator = t.model.rootARN(r.Account)
	}
	r.State, r.Reason, r.StateSince, r.ServiceUID, r.Generation = 0, "", t.env.Now, "", 0
	if r.Service == "" {
		c.missing("service_name", "write what the provider calls it, such as %s.%s.vpce-svc-0123456789abcdef0", t.model.cfg.ServicePrefix, t.model.cfg.Region)
		return
	}
	s, ok := t.model.serviceByName(r.Service)
	if !ok || !t.model.admits(s, r.Account, r.Creator) {
		c.add(NotFound, "SERVICE_NOT_FOUND", "InvalidServiceName", "service_name",
			"there is no endpoint service %q that %s may use; check the name, and have the provider allow you", r.Service, r.Creator)
		return
	}
	if r.TypeOpen {
		r.Type, r.TypeOpen = s.Type, false
	}
	if r.Type != s.Type {
		c.typeMismatch(r, s)
		return
	}
	r.ServiceUID = s.UID
	r.State, r.Reason = PendingAcceptance, "waits for the provider to accept it"
	if s.AutoAccept {
		r.admit(t, "accepted by the service")
	}
}

// admit lets the endpoint in once more.
func (r *Endpoint) admit(t *Tx, reason string) {
	r.State, r.Reason, r.StateSince = Pending, reason, t.env.Now
	r.Generation++
}

// recall fills in what an export leaves out.
func (r *Endpoint) recall(m *model) {
	if r.ServiceUID == "" {
		r.ServiceUID = r.Service[strings.LastIndexByte(r.Service, '.')+1:]
	}
	if r.Creator == "" {
		r.Creator = m.rootARN(r.Account)
	}
	if r.running() {
		r.Generation = max(r.Generation, 1)
	}
}

// keep takes over what an update leaves as it is.
func (r *Endpoint) keep(o *Endpoint, c *complaints) {
	c.fixed("vpc", r.VPC == o.VPC)
	c.fixed("service_name", r.Service == o.Service)
	c.fixed("type", r.TypeOpen || r.Type == o.Type)
	r.Type, r.TypeOpen = o.Type, false
	r.Creator, r.ServiceUID, r.Generation = o.Creator, o.ServiceUID, o.Generation
	r.State, r.Reason, r.StateSince = o.State, o.Reason, o.StateSince
}

// unchanged refuses to change more than tags of an endpoint that is on its way out or waits for nothing.
func (r *Endpoint) unchanged(o *Endpoint, c *complaints) {
	if !slices.Equal(r.ENIs, o.ENIs) || !slices.Equal(r.SecurityGroups, o.SecurityGroups) || r.Bandwidth != o.Bandwidth {
		c.add(FailedPrecondition, "ENDPOINT_STATE", "IncorrectState", "", "the endpoint is %s, and only its tags can be changed", o.State)
	}
}

// groups finds the security groups, or takes the default one of the VPC.
func (r *Endpoint) groups(t *Tx, v *VPC, c *complaints) {
	if r.Type == vpc.GatewayLoadBalancer {
		return
	}
	if len(r.SecurityGroups) == 0 {
		r.SecurityGroups = []string{v.DefaultSecurityGroup}
	}
	for i := range r.SecurityGroups {
		resolve[*SecurityGroup](t, c, KindSecurityGroup, at("security_groups", i), &r.SecurityGroups[i])
	}
	t.quota(c, "SecurityGroupsPerInterfaceLimitExceeded", "security_groups", "security_groups_per_eni", "an ENI", len(r.SecurityGroups))
}

// limit judges a bandwidth that was chosen: more than the default only operators give.
func (r *Endpoint) limit(t *Tx, old *Endpoint, c *complaints) {
	b := &r.Bandwidth
	if b.Burst == 0 {
		b.Burst = b.Rate
	}
	most := t.model.cfg.bandwidth(r.Type)
	if t.env.Actor.Operator || old != nil && *b == old.Bandwidth || t.model.cfg.NoLimits {
		return
	}
	if b.Rate > most.Rate || b.Burst > most.Burst || b.Burst > b.Rate && b.BurstTime > most.BurstTime {
		c.add(PermissionDenied, "BANDWIDTH_ABOVE_DEFAULT", "UnauthorizedOperation", "bandwidth",
			"is more than the default of %d with bursts to %d bits a second for %s; write less, or ask an operator", most.Rate, most.Burst, most.BurstTime)
	}
}

// bandwidthNames are the names that the API has for the fields of a bandwidth.
var bandwidthNames = strings.NewReplacer("rate", "bandwidth.rate_bits_per_second", "burst_time", "bandwidth.burst_time", "burst", "bandwidth.burst_bits_per_second")

func (r *Endpoint) form(c *complaints) {
	if len(c.errs) == 0 && (r.State < PendingAcceptance || r.State > Expired || r.State == Deleted) {
		c.wrong("state", "%d is no state that a resource can be in", r.State)
	}
	if r.Type > vpc.GatewayLoadBalancer || r.TypeOpen {
		c.wrong("type", "%d is no type; write Interface or GatewayLoadBalancer", r.Type)
	}
	switch gateway := r.Type == vpc.GatewayLoadBalancer; {
	case len(r.ENIs) == 0:
		c.missing("enis", "name a subnet in each zone that the endpoint is to be in")
	case gateway && len(r.ENIs) > 1:
		c.conflict("ENDPOINT_ENIS", "enis", "are %d; a GatewayLoadBalancer endpoint has exactly one, make an endpoint for each zone", len(r.ENIs))
	case gateway && len(r.SecurityGroups) > 0:
		c.conflict("SECURITY_GROUPS_OF_GWLB_ENDPOINT", "security_groups", "are not for GatewayLoadBalancer endpoints; remove them, and filter at the appliances")
	}
	if r.Bandwidth != (vpc.Bandwidth{}) {
		c.judge(&vpc.State{Endpoints: []vpc.Endpoint{{Bandwidth: r.Bandwidth}}}, "endpoints[0].bandwidth", bandwidthNames)
	}
}

func (r *Endpoint) check(m *model, c *complaints) {
	if _, ok := lookup[*VPC](m, KindVPC, r.Account, r.VPC); !ok {
		c.absent(KindVPC, "vpc", r.VPC)
		return
	}
	zones := m.checkENIs(c, "enis", r.VPC, r.ENIs)
	r.checkGroups(m, c)
	if r.attached() && len(c.errs) == 0 {
		m.checkService(r, zones, c)
	}
}

// checkGroups checks the security groups of an endpoint.
func (r *Endpoint) checkGroups(m *model, c *complaints) {
	if r.Type != vpc.GatewayLoadBalancer && len(r.SecurityGroups) == 0 {
		c.missing("security_groups", "name at least one")
	}
	seen := map[string]bool{}
	for i, id := range r.SecurityGroups {
		here := at("security_groups", i)
		switch g, ok := lookup[*SecurityGroup](m, KindSecurityGroup, r.Account, id); {
		case !ok:
			c.absent(KindSecurityGroup, here, id)
		case g.VPC != r.VPC:
			c.add(InvalidArgument, "GROUP_OF_OTHER_VPC", "InvalidParameterValue", here, "security group %s is in VPC %s, not in %s; name one of that", id, g.VPC, r.VPC)
		case seen[id]:
			c.wrong(here, "%q is there twice; leave one out", id)
		}
		seen[id] = true
	}
}

// typeMismatch complains that an endpoint's type is not that of its service.
func (c *complaints) typeMismatch(r *Endpoint, s *EndpointService) {
	c.conflict("ENDPOINT_TYPE", "type", "%s does not fit the service, whose endpoints are of type %s; write that, or leave it out", r.Type, s.Type)
}

// checkService checks what an endpoint that is attached needs of its service: to be there, its type and its zones.
func (m *model) checkService(r *Endpoint, zones []string, c *complaints) {
	s, ok := m.service(r.ServiceUID)
	if !ok || s.Name != r.Service {
		c.add(NotFound, "SERVICE_NOT_FOUND", "InvalidServiceName", "service_name", "there is no endpoint service %q", r.Service)
		return
	}
	if s.Type != r.Type {
		c.typeMismatch(r, s)
		return
	}
	for i, zone := range zones {
		if !slices.Contains(s.ZoneIDs, zone) {
			c.add(InvalidArgument, "ZONE_NOT_SERVED", "InvalidParameter", at("enis", i)+".subnet",
				"subnet %s is in %s, where the service is not; choose one in %s", r.ENIs[i].Subnet, zone, strings.Join(s.ZoneIDs, ", "))
		}
	}
}

func (r *Endpoint) release(t *Tx, c *complaints) {
	reason := "ENDPOINT_HAS_ATTACHMENT"
	if t.model.countUsers(r.Key, KindRouteTable) > 0 {
		reason = "ENDPOINT_HAS_ROUTES"
	}
	c.dependents(reason, "DependencyViolation", t.dependentsOf(r.Key))
}
