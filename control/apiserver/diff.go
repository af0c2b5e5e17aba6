// SPDX-FileCopyrightText: The Isthmus Authors
// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	apiv1 "github.com/isthmus-net/isthmus/control/api/v1"
	"github.com/isthmus-net/isthmus/control/codec"
)

// outputOnly are the fields that the server sets, by the full names of the schema, where their comments say so. Plans
// leave them out.
var outputOnly = map[protoreflect.FullName]bool{
	"isthmus.v1.Metadata.uid":                 true,
	"isthmus.v1.Metadata.etag":                true,
	"isthmus.v1.Metadata.create_time":         true,
	"isthmus.v1.Metadata.update_time":         true,
	"isthmus.v1.Metadata.revision":            true,
	"isthmus.v1.Metadata.applied_revision":    true,
	"isthmus.v1.Metadata.problem":             true,
	"isthmus.v1.Metadata.manifest":            true,
	"isthmus.v1.VPC.default_security_group":   true,
	"isthmus.v1.Subnet.zone_id":               true,
	"isthmus.v1.Attachment.open":              true,
	"isthmus.v1.SecurityGroup.default":        true,
	"isthmus.v1.SubnetAddress.zone_id":        true,
	"isthmus.v1.TargetGroup.draining_targets": true,
	"isthmus.v1.Target.drain_time":            true,
	"isthmus.v1.Target.health":                true,
	"isthmus.v1.Target.health_reason":         true,
	"isthmus.v1.EndpointService.service_name": true,
	"isthmus.v1.EndpointService.type":         true,
	"isthmus.v1.EndpointService.zone_ids":     true,
	"isthmus.v1.Endpoint.state":               true,
	"isthmus.v1.Endpoint.state_reason":        true,
	"isthmus.v1.Endpoint.state_time":          true,
	"isthmus.v1.Endpoint.creator":             true,
	"isthmus.v1.Endpoint.generation":          true,
}

// differences lists the fields in which two messages of a type differ, but for those that the server sets.
func differences(before, after protoreflect.Message) []*apiv1.FieldChange {
	d := &differ{}
	d.messages("", before, after)
	return d.changes
}

type differ struct{ changes []*apiv1.FieldChange }

func (d *differ) add(path, before, after string) {
	if before != after {
		d.changes = append(d.changes, &apiv1.FieldChange{Path: path, Before: before, After: after})
	}
}

func (d *differ) messages(path string, before, after protoreflect.Message) {
	fields := before.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		if outputOnly[f.FullName()] || before.Has(f) == after.Has(f) && before.Get(f).Equal(after.Get(f)) {
			continue
		}
		here := strings.TrimPrefix(path+"."+string(f.Name()), ".")
		switch {
		case f.IsMap():
			d.maps(here, f, before.Get(f).Map(), after.Get(f).Map())
		case f.IsList() && f.Message() != nil:
			d.lists(here, f, before, after)
		case nested(f) && before.Has(f) && after.Has(f):
			d.messages(here, before.Get(f).Message(), after.Get(f).Message())
		default:
			d.add(here, text(f, before), text(f, after))
		}
	}
}

func (d *differ) maps(path string, f protoreflect.FieldDescriptor, before, after protoreflect.Map) {
	var keys []string
	for _, m := range []protoreflect.Map{before, after} {
		m.Range(func(k protoreflect.MapKey, _ protoreflect.Value) bool {
			keys = append(keys, k.String())
			return true
		})
	}
	slices.Sort(keys)
	value := func(m protoreflect.Map, key string) string {
		if v := m.Get(protoreflect.ValueOfString(key).MapKey()); v.IsValid() {
			return v.String()
		}
		return ""
	}
	for _, key := range slices.Compact(keys) {
		step := key
		if strings.ContainsAny(key, ".`") {
			step = "`" + key + "`"
		}
		d.add(path+"."+step, value(before, key), value(after, key))
	}
}

// lists compares messages item by item: item n of the one with item n of the other.
func (d *differ) lists(path string, f protoreflect.FieldDescriptor, before, after protoreflect.Message) {
	a, b := before.Get(f).List(), after.Get(f).List()
	for i := range max(a.Len(), b.Len()) {
		here := fmt.Sprintf("%s[%d]", path, i)
		switch {
		case i >= a.Len():
			d.add(here, "", itemText(f, before, b.Get(i)))
		case i >= b.Len():
			d.add(here, itemText(f, before, a.Get(i)), "")
		default:
			d.messages(here, a.Get(i).Message(), b.Get(i).Message())
		}
	}
}

// text is a field as YAML would have its value; empty if it is not set.
func text(f protoreflect.FieldDescriptor, m protoreflect.Message) string {
	if !m.Has(f) {
		return ""
	}
	alone := m.New()
	alone.Set(f, m.Get(f))
	return yamlValue(alone, f)
}

// itemText is text for one item of a list of messages. It leaves out what the server sets.
func itemText(f protoreflect.FieldDescriptor, holder protoreflect.Message, item protoreflect.Value) string {
	bare := proto.Clone(item.Message().Interface()).ProtoReflect()
	bare.Range(func(field protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
		if outputOnly[field.FullName()] {
			bare.Clear(field)
		}
		return true
	})
	alone := holder.New()
	alone.Mutable(f).List().Append(protoreflect.ValueOfMessage(bare))
	return yamlValue(alone, f)
}

// yamlValue is what stands behind the only field of a message in YAML.
func yamlValue(alone protoreflect.Message, f protoreflect.FieldDescriptor) string {
	data, err := codec.MarshalYAML(alone.Interface())
	if err != nil {
		return "?" // what cannot be written has been refused before
	}
	return strings.TrimSpace(strings.TrimPrefix(string(data), string(f.Name())+":"))
}
