// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package resource

import (
	"cmp"
	"fmt"
	"regexp"
	"strings"
)

// kinds has what is to be said about each kind, by its number.
var kinds = [...]struct {
	name, collection, prefix string
	// ec2 are the codes of EC2 and ELB for one that is not there, for one too many and for one that is there already.
	missing, limit, duplicate string
}{
	KindAccount:         {"account", "accounts", "", "AuthFailure", "", "InvalidParameterValue"},
	KindVPC:             {"VPC", "vpcs", "vpc-", "InvalidVpcID.NotFound", "VpcLimitExceeded", "InvalidParameterValue"},
	KindSubnet:          {"subnet", "subnets", "subnet-", "InvalidSubnetID.NotFound", "SubnetLimitExceeded", "InvalidParameterValue"},
	KindSecurityGroup:   {"security group", "securityGroups", "sg-", "InvalidGroup.NotFound", "SecurityGroupLimitExceeded", "InvalidGroup.Duplicate"},
	KindTargetGroup:     {"target group", "targetGroups", "tg-", "TargetGroupNotFound", "TooManyTargetGroups", "DuplicateTargetGroupName"},
	KindLoadBalancer:    {"load balancer", "loadBalancers", "lb-", "LoadBalancerNotFound", "TooManyLoadBalancers", "DuplicateLoadBalancerName"},
	KindEndpointService: {"endpoint service", "endpointServices", "vpce-svc-", "InvalidVpcEndpointServiceId.NotFound", "VpcEndpointServiceLimitExceeded", "InvalidParameterValue"},
	KindEndpoint:        {"endpoint", "endpoints", "vpce-", "InvalidVpcEndpointId.NotFound", "VpcEndpointLimitExceeded", "InvalidParameterValue"},
	KindAttachment:      {"attachment", "attachments", "eni-attach-", "InvalidAttachmentID.NotFound", "AttachmentLimitExceeded", "InvalidParameterValue"},
	KindRouteTable:      {"route table", "routeTables", "rtb-", "InvalidRouteTableID.NotFound", "RouteTableLimitExceeded", "InvalidParameterValue"},
}

// Kinds are all kinds, in the order in which resources can be created.
func Kinds() []Kind {
	all := make([]Kind, 0, len(kinds)-1)
	for k := KindAccount; k <= KindRouteTable; k++ {
		all = append(all, k)
	}
	return all
}

// valid says whether there is such a kind.
func (k Kind) valid() bool { return k >= KindAccount && k <= KindRouteTable }

// String is the kind's name for one resource: endpoint service.
func (k Kind) String() string {
	if !k.valid() {
		return fmt.Sprintf("kind %d", uint8(k))
	}
	return kinds[k].name
}

// Collection is the kind's name in the names of resources (AIP-122): endpointServices.
func (k Kind) Collection() string {
	if !k.valid() {
		return ""
	}
	return kinds[k].collection
}

// KindOf is the kind of a collection.
func KindOf(collection string) (Kind, bool) {
	for k := range kinds {
		if collection != "" && kinds[k].collection == collection {
			return Kind(k), true
		}
	}
	return 0, false
}

// UIDPrefix is what UIDs of the kind begin with, hyphen included: vpce-svc-. It is empty for accounts, whose UID is their
// number.
func (k Kind) UIDPrefix() string {
	if !k.valid() {
		return ""
	}
	return kinds[k].prefix
}

var (
	accountForm = regexp.MustCompile(`^[0-9]{12}$`)
	idForm      = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	digitsForm  = regexp.MustCompile(`^[0-9a-f]{17}$`)
	uidForm     = regexp.MustCompile(`^(vpc|subnet|sg|tg|lb|vpce-svc|vpce|eni-attach|rtb)-[0-9a-f]{17}$`)
)

// isUID says whether s has the form of the kind's UIDs.
func (k Kind) isUID(s string) bool {
	if k == KindAccount {
		return accountForm.MatchString(s)
	}
	digits, ok := strings.CutPrefix(s, k.UIDPrefix())
	return ok && digitsForm.MatchString(digits)
}

// String names the resource among all: accounts/111122223333/vpcs/shop.
func (k Key) String() string {
	if k.Kind == KindAccount {
		return "accounts/" + k.ID
	}
	return "accounts/" + k.Account + "/" + k.Kind.Collection() + "/" + k.ID
}

func (k Key) compare(l Key) int {
	if c := cmp.Compare(k.Kind, l.Kind); c != 0 {
		return c
	}
	if c := strings.Compare(k.Account, l.Account); c != 0 {
		return c
	}
	return strings.Compare(k.ID, l.ID)
}
