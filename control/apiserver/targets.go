// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"

	apiv1 "github.com/isthmus-net/isthmus/control/api/v1"
	"github.com/isthmus-net/isthmus/control/codec"
	"github.com/isthmus-net/isthmus/pkg/vpc"
	"github.com/isthmus-net/isthmus/pkg/vpc/resource"
)

// RegisterTargets adds targets to a group.
func (s loadBalancing) RegisterTargets(ctx context.Context, r *apiv1.RegisterTargetsRequest) (*apiv1.TargetGroup, error) {
	return s.targets(ctx, r, (*resource.Tx).RegisterTargets)
}

// DeregisterTargets has targets of a group drain.
func (s loadBalancing) DeregisterTargets(ctx context.Context, r *apiv1.DeregisterTargetsRequest) (*apiv1.TargetGroup, error) {
	return s.targets(ctx, r, (*resource.Tx).DeregisterTargets)
}

type targetsRequest interface {
	changeRequest
	GetName() string
	GetTargets() []*apiv1.Target
}

func (s loadBalancing) targets(ctx context.Context, r targetsRequest,
	do func(*resource.Tx, resource.Key, []vpc.Target) (*resource.TargetGroup, error),
) (*apiv1.TargetGroup, error) {
	k, err := s.key(ctx, "name", r.GetName(), resource.KindTargetGroup)
	if err != nil {
		return nil, err
	}
	if len(r.GetTargets()) == 0 {
		return nil, invalid("targets", "is missing; name at least one, by address and port")
	}
	var changed resource.Resource
	out, err := s.change(ctx, r, false, func(tx *resource.Tx) ([]resource.Key, error) {
		group, ok := tx.Get(k)
		if !ok {
			return nil, missing("name", k)
		}
		targets, err := codec.DecodeTargets(r.GetTargets(), group.(*resource.TargetGroup).Type)
		if err != nil {
			return nil, err
		}
		after, err := do(tx, k, targets)
		if err != nil {
			return nil, err
		}
		changed = after
		return []resource.Key{after.Key}, nil
	})
	if err != nil {
		return nil, err
	}
	return answer[*apiv1.TargetGroup](s.Server, out, changed)
}
