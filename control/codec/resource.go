// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package codec

import (
	"fmt"
	"maps"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	apiv1 "github.com/isthmus-net/isthmus/control/api/v1"
	"github.com/isthmus-net/isthmus/pkg/vpc/resource"
)

// DecodeOptions say how a message is to be read.
type DecodeOptions struct {
	// Account owns what has an id for a name, or none.
	Account string
	// Outputs takes the fields that only the server sets as well, but for those that are about this moment
	// (applied_revision, problem, open, health). It is for what a server has written. Otherwise they are ignored.
	Outputs bool
}

// Decode makes a resource of its message: Account, VPC, Subnet and so on, not Resource. Defaults are filled in. A message
// without a name gives a resource without an ID. The error joins resource.Errors, one for each mistake of form.
func Decode(m proto.Message, o DecodeOptions) (resource.Resource, error) {
	d := &messageDecoder{outputs: o.Outputs, account: o.Account}
	r := d.decode(m)
	if r == nil {
		return nil, fmt.Errorf("decoding a resource: %T is none", m)
	}
	if err := d.resourceErr(r.Metadata().Key); err != nil {
		return nil, err
	}
	return r, nil
}

// messageDecoder is a converter for one message.
type messageDecoder struct {
	converter
	outputs bool
	account string // owner of the message's resource
}

func (d *messageDecoder) decode(m proto.Message) resource.Resource {
	switch m := m.(type) {
	case *apiv1.Account:
		return d.decodeAccount(m)
	case *apiv1.VPC:
		return d.decodeVPC(m)
	case *apiv1.Subnet:
		return d.decodeSubnet(m)
	case *apiv1.SecurityGroup:
		return d.securityGroup(m)
	case *apiv1.TargetGroup:
		return d.decodeTargetGroup(m)
	case *apiv1.LoadBalancer:
		return d.decodeLoadBalancer(m)
	case *apiv1.EndpointService:
		return d.endpointService(m)
	case *apiv1.Endpoint:
		return d.endpoint(m)
	case *apiv1.Attachment:
		return d.attachment(m)
	case *apiv1.RouteTable:
		return d.routeTable(m)
	}
	return nil
}

// Encode makes the message of a resource: names and references are full names, and all is there that a resource knows of
// itself. The message is the caller's; the resource is only read.
func Encode(r resource.Resource) proto.Message {
	switch r := r.(type) {
	case *resource.Account:
		return encodeAccount(r)
	case *resource.VPC:
		return encodeVPC(r)
	case *resource.Subnet:
		return encodeSubnet(r)
	case *resource.SecurityGroup:
		return encodeSecurityGroup(r)
	case *resource.TargetGroup:
		return encodeTargetGroup(r)
	case *resource.LoadBalancer:
		return encodeLoadBalancer(r)
	case *resource.EndpointService:
		return encodeEndpointService(r)
	case *resource.Endpoint:
		return encodeEndpoint(r)
	case *resource.Attachment:
		return encodeAttachment(r)
	case *resource.RouteTable:
		return encodeRouteTable(r)
	}
	panic(fmt.Sprintf("codec: %T is no resource", r)) // a kind without an encoding is a mistake of this program
}

// Wrap puts the message of a resource into one for all kinds. Its error is a message of another type.
func Wrap(m proto.Message) (*apiv1.Resource, error) {
	out := &apiv1.Resource{}
	fields := out.ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		if f := fields.Get(i); f.Message() == m.ProtoReflect().Descriptor() {
			out.ProtoReflect().Set(f, protoreflect.ValueOfMessage(m.ProtoReflect()))
			return out, nil
		}
	}
	return nil, fmt.Errorf("wrapping a resource: %T is none", m)
}

// Unwrap is the inverse of Wrap; nil if there is nothing inside.
func Unwrap(m *apiv1.Resource) proto.Message {
	inside := m.ProtoReflect()
	f := inside.WhichOneof(inside.Descriptor().Oneofs().Get(0))
	if f == nil {
		return nil
	}
	return inside.Get(f).Message().Interface()
}

// meta converts what all resources have, and finds out who owns this one.
func (d *messageDecoder) meta(kind resource.Kind, name string, m *apiv1.Metadata) resource.Meta {
	key := resource.Key{Kind: kind, Account: d.account}
	if kind == resource.KindAccount {
		key.Account = ""
	}
	if name != "" {
		var problem string
		if key, problem = parseName(name, kind, d.account); problem != "" {
			d.fail("name", "%s", problem)
			key.Kind, key.Account = kind, d.account
		}
	}
	d.account = key.Account
	out := resource.Meta{Key: key, Tags: maps.Clone(m.GetTags())}
	if d.outputs {
		out.UID = m.GetUid()
		out.Created = d.time("metadata.create_time", m.GetCreateTime())
		out.Updated = d.time("metadata.update_time", m.GetUpdateTime())
		out.Manifest = m.GetManifest()
		out.Revision = m.GetRevision()
	}
	return out
}

func encodeMeta(r resource.Resource) *apiv1.Metadata {
	m := r.Metadata()
	return &apiv1.Metadata{
		Uid: m.UID, Tags: maps.Clone(m.Tags), Etag: Etag(r), Revision: m.Revision, Manifest: m.Manifest,
		CreateTime: timestamp(m.Created), UpdateTime: timestamp(m.Updated),
	}
}
