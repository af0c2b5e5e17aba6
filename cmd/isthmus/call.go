// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	apiv1 "github.com/isthmus-net/isthmus/control/api/v1"
	"github.com/isthmus-net/isthmus/control/codec"
	"github.com/isthmus-net/isthmus/pkg/vpc/resource"
)

// everyAccount stands for all accounts in lists.
const everyAccount = "-"

// object is the message of a resource of any kind.
type object interface {
	proto.Message
	GetName() string
	GetMetadata() *apiv1.Metadata
}

// caller calls the methods that all kinds of resources have, on one connection.
type caller struct {
	conn    *grpc.ClientConn
	account string // of names that do not say; empty: the caller's own
}

// change is what the requests have in common that change something.
type change struct {
	requestID string
	dry       bool
}

func (c *caller) resources() apiv1.ResourcesClient { return apiv1.NewResourcesClient(c.conn) }
func (c *caller) endpoints() apiv1.EndpointsClient { return apiv1.NewEndpointsClient(c.conn) }
func (c *caller) inspect() apiv1.InspectClient     { return apiv1.NewInspectClient(c.conn) }

// parent is the account whose resources are meant, as requests have it.
func (c *caller) parent() string {
	if c.account == "" {
		return ""
	}
	return "accounts/" + c.account
}

// name completes the name of a resource by the account.
func (c *caller) name(r ref) string {
	switch {
	case strings.Contains(r.name, "/"):
		return r.name
	case r.Kind == resource.KindAccount:
		return "accounts/" + r.name
	case c.account == "" || c.account == everyAccount:
		return r.name
	}
	return codec.Name(resource.Key{Kind: r.Kind, Account: c.account, ID: r.name})
}

// invoke calls a method of a kind. Set fills in the request.
func (c *caller) invoke(ctx context.Context, k *kind, verb string, fields map[string]any) (protoreflect.Message, error) {
	method := k.methods[verb]
	request, err := newMessage(method.Input())
	if err != nil {
		return nil, err
	}
	reply, err := newMessage(method.Output())
	if err != nil {
		return nil, err
	}
	for name, value := range fields {
		f := method.Input().Fields().ByName(protoreflect.Name(name))
		switch v := value.(type) {
		case proto.Message:
			request.Set(f, protoreflect.ValueOfMessage(v.ProtoReflect()))
		default:
			request.Set(f, protoreflect.ValueOf(v))
		}
	}
	path := fmt.Sprintf("/%s/%s", method.Parent().FullName(), method.Name())
	return reply, c.conn.Invoke(ctx, path, request.Interface(), reply.Interface())
}

func newMessage(d protoreflect.MessageDescriptor) (protoreflect.Message, error) {
	t, err := protoregistry.GlobalTypes.FindMessageByName(d.FullName())
	if err != nil {
		return nil, fmt.Errorf("finding the type of %s: %w", d.FullName(), err)
	}
	return t.New(), nil
}

// get asks for one resource.
func (c *caller) get(ctx context.Context, r ref) (object, error) {
	return asObject(c.invoke(ctx, r.kind, "Get", map[string]any{"name": c.name(r)}))
}

// list asks for all resources of a kind, page after page.
func (c *caller) list(ctx context.Context, k *kind, parent string) (all []object, err error) {
	fields := map[string]any{"page_size": int32(1000)}
	if k.Kind != resource.KindAccount {
		fields["parent"] = parent
	}
	for {
		reply, err := c.invoke(ctx, k, "List", fields)
		if err != nil {
			return nil, err
		}
		items := reply.Get(fieldOf(reply.Descriptor(), k.message)).List()
		for i := range items.Len() {
			all = append(all, items.Get(i).Message().Interface().(object))
		}
		token := reply.Get(reply.Descriptor().Fields().ByName("next_page_token")).String()
		if token == "" {
			return all, nil
		}
		fields["page_token"] = token
	}
}

// create makes a resource; an empty id has the daemon choose one.
func (c *caller) create(ctx context.Context, k *kind, id string, m proto.Message, h change) (object, error) {
	field := fieldOf(k.methods["Create"].Input(), k.message).Name()
	fields := map[string]any{string(field): m, string(field) + "_id": id, "request_id": h.requestID, "validate_only": h.dry}
	if k.Kind != resource.KindAccount {
		fields["parent"] = c.parent()
	}
	return asObject(c.invoke(ctx, k, "Create", fields))
}

// update changes the fields of a resource that paths name.
func (c *caller) update(ctx context.Context, k *kind, m proto.Message, paths []string, h change) (object, error) {
	field := fieldOf(k.methods["Update"].Input(), k.message).Name()
	return asObject(c.invoke(ctx, k, "Update", map[string]any{
		string(field): m, "update_mask": &fieldmaskpb.FieldMask{Paths: paths}, "request_id": h.requestID, "validate_only": h.dry,
	}))
}

// remove deletes a resource.
func (c *caller) remove(ctx context.Context, r ref, h change) error {
	_, err := c.invoke(ctx, r.kind, "Delete", map[string]any{"name": c.name(r), "request_id": h.requestID})
	return err
}

func asObject(m protoreflect.Message, err error) (object, error) {
	if err != nil {
		return nil, err
	}
	return m.Interface().(object), nil
}

// find asks for the resources that refs name.
func (c *caller) find(ctx context.Context, refs []ref) (all []object, err error) {
	for _, r := range refs {
		if r.name == "" {
			list, err := c.list(ctx, r.kind, c.parent())
			if err != nil {
				return nil, err
			}
			all = append(all, list...)
			continue
		}
		o, err := c.get(ctx, r)
		if err != nil {
			return nil, err
		}
		all = append(all, o)
	}
	return all, nil
}
