// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"crypto/sha256"
	"encoding/hex"

	"github.com/isthmus-net/isthmus/pkg/netns"
	"github.com/isthmus-net/isthmus/pkg/vpc/resource"
)

// What the topology names is called so as a resource, too. The rest is called after that:
//
//	a subnet, and the attachment on its bridge   VPC-SUBNET
//	the attachment of a GWLB endpoint            next-hop-ENDPOINT
//	the security group of interface endpoints    like their VPC

func subnetID(v *VPC, subnet string) string { return v.Name + "-" + subnet }

func nextHopID(endpoint string) string { return "next-hop-" + endpoint }

// uniqueIDs checks that no two resources would be called alike: a hyphen can stand in names as well.
func (c *completer) uniqueIDs() {
	type owned struct{ account, id string }
	taken := map[owned]string{}
	take := func(account, id, what string) {
		if other, ok := taken[owned{account, id}]; ok {
			c.fail("%s and %s would both be called %s; choose another name", other, what, id)
		}
		taken[owned{account, id}] = what
	}
	for i := range c.t.VPCs {
		v := &c.t.VPCs[i]
		for _, s := range v.Subnets {
			take(v.Account, subnetID(v, s.Name), "subnet "+v.Name+"/"+s.Name)
		}
	}
	for _, e := range c.t.Endpoints {
		if v := c.vpcs[e.VPC]; v != nil && e.gateway() {
			take(v.Account, nextHopID(e.Name), "the attachment of endpoint "+e.Name)
		}
	}
}

// accounts fills in the accounts that are left out.
func (c *completer) accounts() {
	balancing := map[string]bool{}
	for _, lb := range c.t.LoadBalancers {
		balancing[lb.VPC] = true
	}
	for i := range c.t.VPCs {
		switch v := &c.t.VPCs[i]; {
		case v.Account != "":
		case balancing[v.Name]:
			v.Account = Provider
		default:
			v.Account = Consumer
		}
	}
}

// key is that of a resource in the account of a VPC.
func (v *VPC) key(kind resource.Kind, id string) resource.Key {
	return resource.Key{Kind: kind, Account: v.Account, ID: id}
}

// meta is that of a resource in the account of a VPC whose uid nobody has chosen.
func (t *Topology) meta(v *VPC, kind resource.Kind, id string) resource.Meta {
	return resource.Meta{Key: v.key(kind, id), UID: t.uid(kind.UIDPrefix(), v.Account+"/"+id)}
}

// device names an interface: prefix and name where that fits, and a part of both with a hash of the name otherwise.
func device(prefix, name string) string {
	if len(prefix+name) <= netns.MaxName {
		return prefix + name
	}
	sum := sha256.Sum256([]byte(name))
	hash := "-" + hex.EncodeToString(sum[:])[:6]
	return (prefix + name)[:netns.MaxName-len(hash)] + hash
}

// tunDevice is the name of the device of a GWLB endpoint in the router of its VPC.
func tunDevice(endpoint string) string { return device("vpce-", endpoint) }
