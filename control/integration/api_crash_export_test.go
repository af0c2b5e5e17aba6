// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"

	apiv1 "github.com/isthmus-net/isthmus/control/api/v1"
)

// exported is what all resources have.
type exported interface {
	GetName() string
	GetMetadata() *apiv1.Metadata
}

// export is what is there of each writer: resources by name, and what is remembered of each.
func (c *crashTest) export(client *apiClient) []map[string]string {
	c.Helper()
	all := make([]map[string]string, len(c.writers))
	for i := range all {
		all[i] = map[string]string{}
	}
	stream, err := client.Export(client.ctx, &apiv1.ExportRequest{})
	for err == nil {
		var part *apiv1.ExportResponse
		if part, err = stream.Recv(); err != nil {
			break
		}
		part.Manifest.ProtoReflect().Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
			if f.IsList() {
				for i := range v.List().Len() {
					c.note(all, v.List().Get(i).Message().Interface().(exported))
				}
			}
			return true
		})
	}
	if !errors.Is(err, io.EOF) {
		c.Errorf("export: %v", err)
	}
	return all
}

// note adds a resource, but for those that nobody has asked for or that are on their way out. Its uid must be the one that
// it was born with.
func (c *crashTest) note(all []map[string]string, r exported) {
	c.Helper()
	text := remembered(r.GetMetadata().GetTags(), "")
	switch r := r.(type) {
	case *apiv1.SecurityGroup:
		if r.Default {
			return
		}
	case *apiv1.Endpoint:
		switch r.State {
		case apiv1.EndpointState_ENDPOINT_STATE_DELETING:
			return
		case apiv1.EndpointState_ENDPOINT_STATE_PENDING:
			r.State = apiv1.EndpointState_ENDPOINT_STATE_AVAILABLE // soon, by itself
		}
		text = remembered(r.Metadata.Tags, r.State.String())
	}
	name := r.GetName()
	birth := name + " " + r.GetMetadata().GetTags()[bornTag]
	if known, ok := c.uids[birth]; ok && known != r.GetMetadata().GetUid() {
		c.Errorf("%s had the uid %s and has %s", name, known, r.GetMetadata().GetUid())
	}
	c.uids[birth] = r.GetMetadata().GetUid()
	for _, w := range c.writers {
		if strings.HasPrefix(name, "accounts/"+w.provider) || strings.HasPrefix(name, "accounts/"+w.consumer) {
			all[w.number][name] = text
			return
		}
	}
	c.Errorf("nobody knows %s", name)
}

// Tags by which a writer knows what it has written: the request that wrote a resource last, and the one that made it.
const (
	wroteTag = "wrote"
	bornTag  = "born"
)

// remembered is what a writer remembers of a resource.
func remembered(tags map[string]string, state string) string {
	return strings.TrimSpace(fmt.Sprintf("%s %s %s", tags[bornTag], tags[wroteTag], state))
}
