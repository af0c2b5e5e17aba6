// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"

	"google.golang.org/protobuf/types/known/emptypb"

	apiv1 "github.com/isthmus-net/isthmus/control/api/v1"
)

// The services. Each has the Server under its own type, because their methods have the same names in no order.
type (
	accounts struct {
		apiv1.UnimplementedAccountsServer
		*Server
	}
	networks struct {
		apiv1.UnimplementedNetworksServer
		*Server
	}
	loadBalancing struct {
		apiv1.UnimplementedLoadBalancingServer
		*Server
	}
	endpoints struct {
		apiv1.UnimplementedEndpointsServer
		*Server
	}
	resources struct {
		apiv1.UnimplementedResourcesServer
		*Server
	}
)

// Standard methods of Accounts.

func (s accounts) CreateAccount(ctx context.Context, r *apiv1.CreateAccountRequest) (*apiv1.Account, error) {
	return create(ctx, s.Server, r, r.GetAccountId(), r.GetAccount())
}

func (s accounts) GetAccount(ctx context.Context, r *apiv1.GetAccountRequest) (*apiv1.Account, error) {
	return get[*apiv1.Account](ctx, s.Server, r.GetName())
}

func (s accounts) ListAccounts(ctx context.Context, r *apiv1.ListAccountsRequest) (*apiv1.ListAccountsResponse, error) {
	items, next, err := list[*apiv1.Account](ctx, s.Server, r)
	return &apiv1.ListAccountsResponse{Accounts: items, NextPageToken: next}, err
}

func (s accounts) UpdateAccount(ctx context.Context, r *apiv1.UpdateAccountRequest) (*apiv1.Account, error) {
	return update(ctx, s.Server, r, r.GetAccount())
}

func (s accounts) DeleteAccount(ctx context.Context, r *apiv1.DeleteAccountRequest) (*emptypb.Empty, error) {
	return remove[*apiv1.Account](ctx, s.Server, r)
}

// Standard methods of Networks.

func (s networks) CreateVPC(ctx context.Context, r *apiv1.CreateVPCRequest) (*apiv1.VPC, error) {
	return create(ctx, s.Server, r, r.GetVpcId(), r.GetVpc())
}

func (s networks) GetVPC(ctx context.Context, r *apiv1.GetVPCRequest) (*apiv1.VPC, error) {
	return get[*apiv1.VPC](ctx, s.Server, r.GetName())
}

func (s networks) ListVPCs(ctx context.Context, r *apiv1.ListVPCsRequest) (*apiv1.ListVPCsResponse, error) {
	items, next, err := list[*apiv1.VPC](ctx, s.Server, r)
	return &apiv1.ListVPCsResponse{Vpcs: items, NextPageToken: next}, err
}

func (s networks) UpdateVPC(ctx context.Context, r *apiv1.UpdateVPCRequest) (*apiv1.VPC, error) {
	return update(ctx, s.Server, r, r.GetVpc())
}

func (s networks) DeleteVPC(ctx context.Context, r *apiv1.DeleteVPCRequest) (*emptypb.Empty, error) {
	return remove[*apiv1.VPC](ctx, s.Server, r)
}

func (s networks) CreateSubnet(ctx context.Context, r *apiv1.CreateSubnetRequest) (*apiv1.Subnet, error) {
	return create(ctx, s.Server, r, r.GetSubnetId(), r.GetSubnet())
}

func (s networks) GetSubnet(ctx context.Context, r *apiv1.GetSubnetRequest) (*apiv1.Subnet, error) {
	return get[*apiv1.Subnet](ctx, s.Server, r.GetName())
}

func (s networks) ListSubnets(ctx context.Context, r *apiv1.ListSubnetsRequest) (*apiv1.ListSubnetsResponse, error) {
	items, next, err := list[*apiv1.Subnet](ctx, s.Server, r)
	return &apiv1.ListSubnetsResponse{Subnets: items, NextPageToken: next}, err
}

func (s networks) UpdateSubnet(ctx context.Context, r *apiv1.UpdateSubnetRequest) (*apiv1.Subnet, error) {
	return update(ctx, s.Server, r, r.GetSubnet())
}

func (s networks) DeleteSubnet(ctx context.Context, r *apiv1.DeleteSubnetRequest) (*emptypb.Empty, error) {
	return remove[*apiv1.Subnet](ctx, s.Server, r)
}

func (s networks) CreateSecurityGroup(ctx context.Context, r *apiv1.CreateSecurityGroupRequest) (*apiv1.SecurityGroup, error) {
	return create(ctx, s.Server, r, r.GetSecurityGroupId(), r.GetSecurityGroup())
}

func (s networks) GetSecurityGroup(ctx context.Context, r *apiv1.GetSecurityGroupRequest) (*apiv1.SecurityGroup, error) {
	return get[*apiv1.SecurityGroup](ctx, s.Server, r.GetName())
}

func (s networks) ListSecurityGroups(ctx context.Context, r *apiv1.ListSecurityGroupsRequest) (*apiv1.ListSecurityGroupsResponse, error) {
	items, next, err := list[*apiv1.SecurityGroup](ctx, s.Server, r)
	return &apiv1.ListSecurityGroupsResponse{SecurityGroups: items, NextPageToken: next}, err
}

func (s networks) UpdateSecurityGroup(ctx context.Context, r *apiv1.UpdateSecurityGroupRequest) (*apiv1.SecurityGroup, error) {
	return update(ctx, s.Server, r, r.GetSecurityGroup())
}

func (s networks) DeleteSecurityGroup(ctx context.Context, r *apiv1.DeleteSecurityGroupRequest) (*emptypb.Empty, error) {
	return remove[*apiv1.SecurityGroup](ctx, s.Server, r)
}

func (s networks) CreateRouteTable(ctx context.Context, r *apiv1.CreateRouteTableRequest) (*apiv1.RouteTable, error) {
	return create(ctx, s.Server, r, r.GetRouteTableId(), r.GetRouteTable())
}

func (s networks) GetRouteTable(ctx context.Context, r *apiv1.GetRouteTableRequest) (*apiv1.RouteTable, error) {
	return get[*apiv1.RouteTable](ctx, s.Server, r.GetName())
}

func (s networks) ListRouteTables(ctx context.Context, r *apiv1.ListRouteTablesRequest) (*apiv1.ListRouteTablesResponse, error) {
	items, next, err := list[*apiv1.RouteTable](ctx, s.Server, r)
	return &apiv1.ListRouteTablesResponse{RouteTables: items, NextPageToken: next}, err
}

func (s networks) UpdateRouteTable(ctx context.Context, r *apiv1.UpdateRouteTableRequest) (*apiv1.RouteTable, error) {
	return update(ctx, s.Server, r, r.GetRouteTable())
}

func (s networks) DeleteRouteTable(ctx context.Context, r *apiv1.DeleteRouteTableRequest) (*emptypb.Empty, error) {
	return remove[*apiv1.RouteTable](ctx, s.Server, r)
}

func (s networks) CreateAttachment(ctx context.Context, r *apiv1.CreateAttachmentRequest) (*apiv1.Attachment, error) {
	return create(ctx, s.Server, r, r.GetAttachmentId(), r.GetAttachment())
}

func (s networks) GetAttachment(ctx context.Context, r *apiv1.GetAttachmentRequest) (*apiv1.Attachment, error) {
	return get[*apiv1.Attachment](ctx, s.Server, r.GetName())
}

func (s networks) ListAttachments(ctx context.Context, r *apiv1.ListAttachmentsRequest) (*apiv1.ListAttachmentsResponse, error) {
	items, next, err := list[*apiv1.Attachment](ctx, s.Server, r)
	return &apiv1.ListAttachmentsResponse{Attachments: items, NextPageToken: next}, err
}

func (s networks) UpdateAttachment(ctx context.Context, r *apiv1.UpdateAttachmentRequest) (*apiv1.Attachment, error) {
	return update(ctx, s.Server, r, r.GetAttachment())
}

func (s networks) DeleteAttachment(ctx context.Context, r *apiv1.DeleteAttachmentRequest) (*emptypb.Empty, error) {
	return remove[*apiv1.Attachment](ctx, s.Server, r)
}

// Standard methods of LoadBalancing.

func (s loadBalancing) CreateTargetGroup(ctx context.Context, r *apiv1.CreateTargetGroupRequest) (*apiv1.TargetGroup, error) {
	return create(ctx, s.Server, r, r.GetTargetGroupId(), r.GetTargetGroup())
}

func (s loadBalancing) GetTargetGroup(ctx context.Context, r *apiv1.GetTargetGroupRequest) (*apiv1.TargetGroup, error) {
	return get[*apiv1.TargetGroup](ctx, s.Server, r.GetName())
}

func (s loadBalancing) ListTargetGroups(ctx context.Context, r *apiv1.ListTargetGroupsRequest) (*apiv1.ListTargetGroupsResponse, error) {
	items, next, err := list[*apiv1.TargetGroup](ctx, s.Server, r)
	return &apiv1.ListTargetGroupsResponse{TargetGroups: items, NextPageToken: next}, err
}

func (s loadBalancing) UpdateTargetGroup(ctx context.Context, r *apiv1.UpdateTargetGroupRequest) (*apiv1.TargetGroup, error) {
	return update(ctx, s.Server, r, r.GetTargetGroup())
}

func (s loadBalancing) DeleteTargetGroup(ctx context.Context, r *apiv1.DeleteTargetGroupRequest) (*emptypb.Empty, error) {
	return remove[*apiv1.TargetGroup](ctx, s.Server, r)
}

func (s loadBalancing) CreateLoadBalancer(ctx context.Context, r *apiv1.CreateLoadBalancerRequest) (*apiv1.LoadBalancer, error) {
	return create(ctx, s.Server, r, r.GetLoadBalancerId(), r.GetLoadBalancer())
}

func (s loadBalancing) GetLoadBalancer(ctx context.Context, r *apiv1.GetLoadBalancerRequest) (*apiv1.LoadBalancer, error) {
	return get[*apiv1.LoadBalancer](ctx, s.Server, r.GetName())
}

func (s loadBalancing) ListLoadBalancers(ctx context.Context, r *apiv1.ListLoadBalancersRequest) (*apiv1.ListLoadBalancersResponse, error) {
	items, next, err := list[*apiv1.LoadBalancer](ctx, s.Server, r)
	return &apiv1.ListLoadBalancersResponse{LoadBalancers: items, NextPageToken: next}, err
}

func (s loadBalancing) UpdateLoadBalancer(ctx context.Context, r *apiv1.UpdateLoadBalancerRequest) (*apiv1.LoadBalancer, error) {
	return update(ctx, s.Server, r, r.GetLoadBalancer())
}

func (s loadBalancing) DeleteLoadBalancer(ctx context.Context, r *apiv1.DeleteLoadBalancerRequest) (*emptypb.Empty, error) {
	return remove[*apiv1.LoadBalancer](ctx, s.Server, r)
}

// Standard methods of Endpoints.

func (s endpoints) CreateEndpointService(ctx context.Context, r *apiv1.CreateEndpointServiceRequest) (*apiv1.EndpointService, error) {
	return create(ctx, s.Server, r, r.GetEndpointServiceId(), r.GetEndpointService())
}

func (s endpoints) GetEndpointService(ctx context.Context, r *apiv1.GetEndpointServiceRequest) (*apiv1.EndpointService, error) {
	return get[*apiv1.EndpointService](ctx, s.Server, r.GetName())
}

func (s endpoints) ListEndpointServices(ctx context.Context, r *apiv1.ListEndpointServicesRequest) (*apiv1.ListEndpointServicesResponse, error) {
	items, next, err := list[*apiv1.EndpointService](ctx, s.Server, r)
	return &apiv1.ListEndpointServicesResponse{EndpointServices: items, NextPageToken: next}, err
}

func (s endpoints) UpdateEndpointService(ctx context.Context, r *apiv1.UpdateEndpointServiceRequest) (*apiv1.EndpointService, error) {
	return update(ctx, s.Server, r, r.GetEndpointService())
}

func (s endpoints) DeleteEndpointService(ctx context.Context, r *apiv1.DeleteEndpointServiceRequest) (*emptypb.Empty, error) {
	return remove[*apiv1.EndpointService](ctx, s.Server, r)
}

func (s endpoints) CreateEndpoint(ctx context.Context, r *apiv1.CreateEndpointRequest) (*apiv1.Endpoint, error) {
	return create(ctx, s.Server, r, r.GetEndpointId(), r.GetEndpoint())
}

func (s endpoints) GetEndpoint(ctx context.Context, r *apiv1.GetEndpointRequest) (*apiv1.Endpoint, error) {
	return get[*apiv1.Endpoint](ctx, s.Server, r.GetName())
}

func (s endpoints) ListEndpoints(ctx context.Context, r *apiv1.ListEndpointsRequest) (*apiv1.ListEndpointsResponse, error) {
	items, next, err := list[*apiv1.Endpoint](ctx, s.Server, r)
	return &apiv1.ListEndpointsResponse{Endpoints: items, NextPageToken: next}, err
}

func (s endpoints) UpdateEndpoint(ctx context.Context, r *apiv1.UpdateEndpointRequest) (*apiv1.Endpoint, error) {
	return update(ctx, s.Server, r, r.GetEndpoint())
}

func (s endpoints) DeleteEndpoint(ctx context.Context, r *apiv1.DeleteEndpointRequest) (*emptypb.Empty, error) {
	return remove[*apiv1.Endpoint](ctx, s.Server, r)
}
