// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package codec

import (
	statev1 "github.com/isthmus-net/isthmus/control/api/state/v1"
	apiv1 "github.com/isthmus-net/isthmus/control/api/v1"
	"github.com/isthmus-net/isthmus/pkg/vpc"
	"github.com/isthmus-net/isthmus/pkg/vpc/resource"
)

// enum pairs the values of an enum of the schema with what they stand for. The zero value of the schema, which is what
// was left out, stands for the zero value.
type enum[M ~int32, V comparable] []pair[M, V]

type pair[M ~int32, V comparable] struct {
	message M
	value   V
}

var (
	loadBalancerTypes = enum[statev1.LoadBalancerType, vpc.LoadBalancerType]{
		{statev1.LoadBalancerType_LOAD_BALANCER_TYPE_NETWORK, vpc.Network},
		{statev1.LoadBalancerType_LOAD_BALANCER_TYPE_GATEWAY, vpc.Gateway},
	}
	endpointTypes = enum[statev1.EndpointType, vpc.EndpointType]{
		{statev1.EndpointType_ENDPOINT_TYPE_INTERFACE, vpc.Interface},
		{statev1.EndpointType_ENDPOINT_TYPE_GATEWAY_LOAD_BALANCER, vpc.GatewayLoadBalancer},
	}
	stickinesses = enum[statev1.Stickiness, vpc.Stickiness]{
		{statev1.Stickiness_STICKINESS_FIVE_TUPLE, vpc.FiveTuple},
		{statev1.Stickiness_STICKINESS_SOURCE_IP_DEST_IP_PROTO, vpc.ThreeTuple},
		{statev1.Stickiness_STICKINESS_SOURCE_IP_DEST_IP, vpc.TwoTuple},
	}
	// failovers say whether flows are rebalanced.
	failovers = enum[statev1.TargetFailover, bool]{
		{statev1.TargetFailover_TARGET_FAILOVER_NO_REBALANCE, false},
		{statev1.TargetFailover_TARGET_FAILOVER_REBALANCE, true},
	}
	placements = enum[statev1.HeaderPlacement, vpc.Placement]{
		{statev1.HeaderPlacement_HEADER_PLACEMENT_ON_FIRST_ACK_WITH_PAYLOAD, vpc.FirstPayload},
		{statev1.HeaderPlacement_HEADER_PLACEMENT_ON_FIRST_ACK, vpc.FirstACK},
	}
	checkProtocols = enum[statev1.HealthCheckProtocol, vpc.CheckProtocol]{
		{statev1.HealthCheckProtocol_HEALTH_CHECK_PROTOCOL_NONE, vpc.CheckNone},
		{statev1.HealthCheckProtocol_HEALTH_CHECK_PROTOCOL_TCP, vpc.CheckTCP},
		{statev1.HealthCheckProtocol_HEALTH_CHECK_PROTOCOL_HTTP, vpc.CheckHTTP},
		{statev1.HealthCheckProtocol_HEALTH_CHECK_PROTOCOL_HTTPS, vpc.CheckHTTPS},
	}
	endpointStates = enum[apiv1.EndpointState, resource.EndpointState]{
		{apiv1.EndpointState_ENDPOINT_STATE_PENDING_ACCEPTANCE, resource.PendingAcceptance},
		{apiv1.EndpointState_ENDPOINT_STATE_PENDING, resource.Pending},
		{apiv1.EndpointState_ENDPOINT_STATE_AVAILABLE, resource.Available},
		{apiv1.EndpointState_ENDPOINT_STATE_REJECTED, resource.Rejected},
		{apiv1.EndpointState_ENDPOINT_STATE_DELETING, resource.Deleting},
		{apiv1.EndpointState_ENDPOINT_STATE_DELETED, resource.Deleted},
		{apiv1.EndpointState_ENDPOINT_STATE_FAILED, resource.Failed},
		{apiv1.EndpointState_ENDPOINT_STATE_EXPIRED, resource.Expired},
	}
)

// value is what a value of the schema stands for. Another program's schema may have more of them.
func (e enum[M, V]) value(c *converter, path string, m M) V {
	var none V
	if m == 0 {
		return none
	}
	for _, p := range e {
		if p.message == m {
			return p.value
		}
	}
	c.fail(path, "%d is not a value that this server knows", m)
	return none
}

// message is the inverse of value. What stands for nothing is the schema's zero value.
func (e enum[M, V]) message(v V) M {
	for _, p := range e {
		if p.value == v {
			return p.message
		}
	}
	return 0
}
