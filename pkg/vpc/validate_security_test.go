// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package vpc

import (
	"net/netip"
	"testing"
	"time"
)

// guarded is inspected with a security group that the interface endpoint names, and a limit for each endpoint.
func guarded() *State {
	s := inspected()
	s.SecurityGroups = []SecurityGroup{{ID: "sg-web", Ingress: []SecurityRule{
		{FromPort: 80, ToPort: 80, Sources: []netip.Prefix{prefix("10.0.0.0/16"), prefix("fd00:1::/32")}},
		{FromPort: 8000, ToPort: 8999, Sources: []netip.Prefix{prefix("0.0.0.0/0")}},
	}}}
	s.Endpoints[0].SecurityGroups, s.Endpoints[0].Filtered = []string{"sg-web"}, true
	s.Endpoints[0].Bandwidth = Bandwidth{Rate: 10e9, Burst: 40e9, BurstTime: time.Second}
	gatewayEndpoint(s).Bandwidth = Bandwidth{Rate: MinBandwidth, Burst: MaxBandwidth, BurstTime: MaxBurstTime}
	return s
}

// rule is the group's first rule, limits the interface endpoint's bandwidth.
func rule(s *State) *SecurityRule { return &s.SecurityGroups[0].Ingress[0] }
func limits(s *State) *Bandwidth  { return &s.Endpoints[0].Bandwidth }

func TestGoodSecurity(t *testing.T) {
	for name, change := range map[string]func(*State){
		"one of everything":           func(*State) {},
		"a group nobody names":        func(s *State) { s.Endpoints[0].SecurityGroups, s.Endpoints[0].Filtered = nil, false },
		"everybody refused":           func(s *State) { s.Endpoints[0].SecurityGroups = nil },
		"a group without rules":       func(s *State) { s.SecurityGroups[0].Ingress = nil },
		"a rule without sources":      func(s *State) { rule(s).Sources = nil },
		"all ports":                   func(s *State) { rule(s).FromPort, rule(s).ToPort = 0, 65535 },
		"one rule twice":              func(s *State) { s.SecurityGroups[0].Ingress[1] = *rule(s) },
		"all addresses":               func(s *State) { rule(s).Sources = []netip.Prefix{prefix("0.0.0.0/0"), prefix("::/0")} },
		"AWS group id":                func(s *State) { addSecurityGroup(s, "sg-0123456789abcdef0") },
		"no limit":                    func(s *State) { *limits(s) = Bandwidth{} },
		"a limit without bursts":      func(s *State) { *limits(s) = Bandwidth{Rate: 1e6, Burst: 1e6} },
		"a burst that is no more":     func(s *State) { *limits(s) = Bandwidth{Rate: 1e6, Burst: 1e6, BurstTime: time.Second} },
		"a burst of a moment":         func(s *State) { limits(s).BurstTime = time.Nanosecond },
		"the largest limit there is":  func(s *State) { *limits(s) = Bandwidth{Rate: MaxBandwidth, Burst: MaxBandwidth} },
		"several groups of one owner": func(s *State) { addSecurityGroup(s, "sg-other") },
	} {
		s := guarded()
		change(s)
		if err := s.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// addSecurityGroup adds a group that the interface endpoint names.
func addSecurityGroup(s *State, id string) {
	s.SecurityGroups = append(s.SecurityGroups, SecurityGroup{ID: id})
	s.Endpoints[0].SecurityGroups = append(s.Endpoints[0].SecurityGroups, id)
}

var badSecurity = []badState{
	{"group without id", func(s *State) { s.SecurityGroups = append(s.SecurityGroups, SecurityGroup{}) }, "security_groups[1].id", "write sg-"},
	{"group with a strange id", func(s *State) { addSecurityGroup(s, "web") }, "security_groups[1].id", "write sg-"},
	{"group twice", func(s *State) { s.SecurityGroups = append(s.SecurityGroups, s.SecurityGroups[0]) }, "security_groups[1].id", "ids are unique"},
	{"ports from high to low", func(s *State) { rule(s).FromPort = 81 }, "security_groups[0].ingress[0].to_port", "80 is less than from_port (81)"},
	{"empty source", func(s *State) { rule(s).Sources[0] = netip.Prefix{} }, "security_groups[0].ingress[0].sources[0]", "is missing"},
	{"source with host bits", func(s *State) { rule(s).Sources[1] = prefix("fd00:1::1/32") }, "security_groups[0].ingress[0].sources[1]", "write fd00:1::/32"},
	{"mapped source", func(s *State) { rule(s).Sources[1] = prefix("::ffff:10.0.0.0/112") }, "security_groups[0].ingress[0].sources[1]", "write the IPv4 prefix"},
	{"unknown group", func(s *State) { s.Endpoints[0].SecurityGroups = []string{"sg-x"} }, "endpoints[0].security_group_ids[0]", `no "sg-x" among security_groups`},
	{"nameless group", func(s *State) { s.Endpoints[0].SecurityGroups = []string{""} }, "endpoints[0].security_group_ids[0]", "is missing"},
	{"group named twice", func(s *State) { s.Endpoints[0].SecurityGroups = []string{"sg-web", "sg-web"} }, "endpoints[0].security_group_ids[1]", "there twice"},
	{"groups that are not asked", func(s *State) { s.Endpoints[0].Filtered = false }, "endpoints[0].security_group_ids", "not filtered"},
	{"group of a GWLB endpoint", func(s *State) { gatewayEndpoint(s).SecurityGroups = []string{"sg-web"} }, "endpoints[1].security_group_ids", "no security groups"},
	{"filtered GWLB endpoint", func(s *State) { gatewayEndpoint(s).Filtered = true }, "endpoints[1].security_group_ids", "no security groups"},

	{"burst without rate", func(s *State) { limits(s).Rate = 0 }, "endpoints[0].bandwidth.rate", "is missing"},
	{"burst time alone", func(s *State) { *limits(s) = Bandwidth{BurstTime: time.Second} }, "endpoints[0].bandwidth.rate", "is missing"},
	{"rate too small", func(s *State) { limits(s).Rate = MinBandwidth - 1 }, "endpoints[0].bandwidth.rate", "write 8000 to 1000000000000"},
	{"rate too large", func(s *State) { limits(s).Rate, limits(s).Burst = MaxBandwidth+1, MaxBandwidth+1 }, "endpoints[0].bandwidth.rate", "out of range"},
	{"burst below the rate", func(s *State) { limits(s).Burst = 10e9 - 1 }, "endpoints[0].bandwidth.burst", "less than the rate of 10000000000"},
	{"no burst", func(s *State) { limits(s).Burst = 0 }, "endpoints[0].bandwidth.burst", "at least that"},
	{"burst too large", func(s *State) { limits(s).Burst = MaxBandwidth + 1 }, "endpoints[0].bandwidth.burst", "write at most"},
	{"burst without a time", func(s *State) { limits(s).BurstTime = 0 }, "endpoints[0].bandwidth.burst_time", "is missing"},
	{"negative burst time", func(s *State) { limits(s).BurstTime = -1 }, "endpoints[0].bandwidth.burst_time", "out of range"},
	{"burst time too long", func(s *State) { limits(s).BurstTime = MaxBurstTime + 1 }, "endpoints[0].bandwidth.burst_time", "at most 3600s"},
	{"limit of a GWLB endpoint", func(s *State) { gatewayEndpoint(s).Bandwidth.Burst = 1 }, "endpoints[1].bandwidth.burst", "less than the rate"},
}

func TestBadSecurity(t *testing.T) { judge(t, guarded, badSecurity) }
