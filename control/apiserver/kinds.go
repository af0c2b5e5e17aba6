// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"fmt"
	"iter"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	apiv1 "github.com/isthmus-net/isthmus/control/api/v1"
	"github.com/isthmus-net/isthmus/pkg/vpc/resource"
)

// message is what the messages of all kinds of resources have.
type message interface {
	proto.Message
	GetName() string
	GetMetadata() *apiv1.Metadata
}

// kindOf is the kind of a resource by its message, which may be nil.
func kindOf(m proto.Message) resource.Kind {
	switch m.(type) {
	case *apiv1.Account:
		return resource.KindAccount
	case *apiv1.VPC:
		return resource.KindVPC
	case *apiv1.Subnet:
		return resource.KindSubnet
	case *apiv1.SecurityGroup:
		return resource.KindSecurityGroup
	case *apiv1.TargetGroup:
		return resource.KindTargetGroup
	case *apiv1.LoadBalancer:
		return resource.KindLoadBalancer
	case *apiv1.EndpointService:
		return resource.KindEndpointService
	case *apiv1.Endpoint:
		return resource.KindEndpoint
	case *apiv1.Attachment:
		return resource.KindAttachment
	case *apiv1.RouteTable:
		return resource.KindRouteTable
	}
	panic(fmt.Sprintf("apiserver: %T is no resource", m)) // a mistake of this program
}

// fieldFor is the field of a message that holds messages of another type.
func fieldFor(holder, held protoreflect.MessageDescriptor) protoreflect.FieldDescriptor {
	fields := holder.Fields()
	for i := range fields.Len() {
		if f := fields.Get(i); f.Message() == held {
			return f
		}
	}
	panic(fmt.Sprintf("apiserver: %s has no field for %s", holder.Name(), held.Name())) // a mistake of this program
}

// members are the resources of a manifest and where they stand in it, in the order in which they can be created.
func members(m *apiv1.Manifest) iter.Seq2[string, message] {
	return func(yield func(string, message) bool) {
		fields := m.ProtoReflect().Descriptor().Fields()
		for i := range fields.Len() {
			f := fields.Get(i)
			if !f.IsList() {
				continue
			}
			list := m.ProtoReflect().Get(f).List()
			for j := range list.Len() {
				if !yield(fmt.Sprintf("manifest.%s[%d]", f.Name(), j), list.Get(j).Message().Interface().(message)) {
					return
				}
			}
		}
	}
}

// add puts a resource into a manifest.
func add(m *apiv1.Manifest, r proto.Message) {
	reflected := m.ProtoReflect()
	f := fieldFor(reflected.Descriptor(), r.ProtoReflect().Descriptor())
	reflected.Mutable(f).List().Append(protoreflect.ValueOfMessage(r.ProtoReflect()))
}
